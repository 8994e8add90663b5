// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// backup makes a physical backup.
func (j *job) backup(ctx context.Context) error {
	if done, err := j.begin(ctx); done || err != nil {
		return err
	}
	c, err := j.makeCopy(ctx)
	if err != nil {
		return err
	}
	server, err := j.boot(ctx, j.cfg.work("data"))
	if err != nil {
		return err
	}
	defer server.kill()
	if err := j.examine(ctx, server, c); err != nil {
		return err
	}
	j.stage(ctx, "ending the copy cleanly")
	if err := server.shutdown(ctx); err != nil {
		return j.orFull(err)
	}
	m, err := j.sendCopy(ctx, c)
	if err != nil {
		return err
	}
	return j.publish(ctx, m)
}

// begin checks what can be checked before anything is copied. done means that an earlier attempt has made this very backup.
func (j *job) begin(ctx context.Context) (done bool, err error) {
	j.stage(ctx, "checking the store")
	if err := j.checkInput(); err != nil {
		return false, fail(wire.ReasonRefused, err)
	}
	if err := j.bucket.Check(ctx, j.in.Cluster.Root()); err != nil {
		return false, fail(wire.ReasonStore, fmt.Errorf("checking the store: %w", err))
	}
	found, err := j.findManifest(ctx)
	if err != nil {
		return false, err
	}
	if found != nil {
		j.report(found)
		return true, nil
	}
	return false, j.prepare()
}

// copying is a copy in the making.
type copying struct {
	donor donorFacts
	// at: everything in the copy had committed by then; zero while nobody knows.
	at time.Time
	*copied
}

// makeCopy clones an instance into the directory data, as it was a moment ago.
func (j *job) makeCopy(ctx context.Context) (*copying, error) {
	facts, err := j.copyInstance(ctx)
	if err != nil {
		return nil, err
	}
	c := &copying{donor: facts, at: j.moment(ctx)}
	j.stage(ctx, "starting mysqld on the copy")
	return c, nil
}

// examine reads all of a booted copy and has the primary confirm it.
func (j *job) examine(ctx context.Context, server *private, c *copying) (err error) {
	if c.copied, err = j.inspect(ctx, server); err != nil {
		return err
	}
	return j.confirmCopy(ctx, c)
}

// confirmCopy has the primary confirm a copy.
func (j *job) confirmCopy(ctx context.Context, c *copying) error {
	j.stage(ctx, "waiting for the primary to confirm what was copied")
	at, err := j.confirm(ctx, c.gtids)
	if err != nil {
		return err
	}
	if c.at.IsZero() {
		c.at = at
	}
	return nil
}

// sendCopy sends the data directory.
func (j *job) sendCopy(ctx context.Context, c *copying) (*manifest.Manifest, error) {
	j.stage(ctx, "sending to the store")
	dir := j.cfg.work("data")
	t, err := survey(dir)
	if err != nil {
		return nil, err
	}
	packs, err := j.sendPacks(ctx, dir, t)
	if err != nil {
		return nil, err
	}
	m, err := j.describe(c)
	if err != nil {
		return nil, err
	}
	m.Method, m.Packs, m.Directories, m.Files, m.Bytes = manifest.Physical, packs, t.directories, t.files, t.bytes
	for _, pack := range packs {
		m.StoredBytes += pack.StoredBytes
	}
	for _, t := range c.tables {
		if t.counted() {
			m.Tables = append(m.Tables, t.recorded())
		}
	}
	j.result.Tables = int64(len(c.tables))
	return m, nil
}

func (t *table) recorded() manifest.Table {
	checksum := uint64(t.checksum) //nolint:gosec // a sum of 32-bit sums
	return manifest.Table{Schema: t.schema, Name: t.name, Engine: t.engine, Rows: t.rows, Checksum: &checksum}
}

// checkInput names what is wrong with the request.
func (j *job) checkInput() error {
	switch {
	case !manifest.ValidCluster(j.in.Cluster):
		return errors.New("the cluster has no valid name")
	case !manifest.ValidID(j.in.Backup):
		return fmt.Errorf("%q is no id of a backup", j.in.Backup)
	case j.in.Attempt == "":
		return errors.New("the attempt has no id")
	}
	return checkRecipients(j.in.Recipients)
}
