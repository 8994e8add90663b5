// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// notDumped are schemas that every server makes by itself.
var notDumped = []string{"mysql", "sys", "performance_schema", "information_schema", "moco"}

// dump makes a logical backup: of a copy, as a physical one, so that nobody waits for it and what it holds is one moment.
func (j *job) dump(ctx context.Context) error {
	program, err := exec.LookPath(j.cfg.Mysqldump)
	if err != nil {
		return fail(wire.ReasonRefused, errors.New("the image of the cluster has no mysqldump; a logical backup needs one, a physical backup does not"))
	}
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
	schemas, err := j.readDumped(ctx, server, c)
	if err != nil {
		return err
	}
	if err := j.confirmCopy(ctx, c); err != nil {
		return err
	}
	m, err := j.sendDump(ctx, program, schemas, c)
	if err != nil {
		return err
	}
	return j.publish(ctx, m)
}

// readDumped reads what the copy is and which schemas of it are dumped.
func (j *job) readDumped(ctx context.Context, server *private, c *copying) ([]string, error) {
	session, err := server.endpoint.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	if c.copied, err = j.facts(ctx, session); err != nil {
		return nil, err
	}
	there, err := session.Column(ctx, "SELECT schema_name FROM information_schema.schemata ORDER BY schema_name")
	if err != nil {
		return nil, fmt.Errorf("listing schemas: %w", err)
	}
	schemas, err := choose(j.in.Schemas, there)
	return schemas, fail(wire.ReasonRefused, err)
}

// choose returns the schemas to dump: those that were asked for, or all of the users'.
func choose(asked, there []string) ([]string, error) {
	if len(asked) == 0 {
		asked = slices.DeleteFunc(slices.Clone(there), func(name string) bool { return slices.Contains(notDumped, name) })
	}
	for _, name := range asked {
		if !slices.Contains(there, name) {
			return nil, fmt.Errorf("there is no schema %s", mysql.Identifier(name))
		}
	}
	if len(asked) == 0 {
		return nil, errors.New("there is no schema to dump")
	}
	return asked, nil
}

// sendDump streams what mysqldump prints to the store.
func (j *job) sendDump(ctx context.Context, program string, schemas []string, c *copying) (*manifest.Manifest, error) {
	j.stage(ctx, "dumping to the store")
	name := j.objectName(manifest.DumpName)
	s, err := j.send(ctx, j.objectKey(name), func(ctx context.Context, w io.Writer, moved func(int64)) error {
		return j.runDump(ctx, program, schemas, &meter{w, moved})
	})
	if err != nil {
		return nil, err
	}
	m, err := j.describe(c)
	if err != nil {
		return nil, err
	}
	m.Method, m.Bytes, m.StoredBytes = manifest.Logical, s.raw.Bytes, s.stored.Bytes
	m.Dump = &manifest.Dump{Name: name, StoredBytes: s.stored.Bytes, SHA256: s.stored.SHA256, RawSHA256: s.raw.SHA256, Schemas: schemas}
	for _, t := range c.tables {
		if slices.Contains(schemas, t.schema) {
			j.result.Tables++
		}
	}
	return m, nil
}

// runDump runs mysqldump on the private server.
func (j *job) runDump(ctx context.Context, program string, schemas []string, w io.Writer) error {
	args := append([]string{
		"--no-defaults", "--socket=" + j.cfg.socket(), "--user=" + initialUser, "--default-character-set=utf8mb4", "--single-transaction",
		"--routines", "--events", "--triggers", "--hex-blob", "--no-tablespaces", "--skip-lock-tables", "--set-gtid-purged=OFF", "--databases", "--",
	}, schemas...)
	p, err := launch(program, args, func(cmd *exec.Cmd) { cmd.Stdout = w })
	if err != nil {
		return err
	}
	if err := p.wait(ctx); err != nil {
		return fmt.Errorf("running mysqldump: %w", err)
	}
	if said := p.output.complaints(); strings.Contains(said, "Error") {
		return fmt.Errorf("running mysqldump: %s", said)
	}
	return nil
}

// meter tells how much passes through it.
type meter struct {
	w     io.Writer
	moved func(int64)
}

// Write implements io.Writer.
func (m *meter) Write(p []byte) (int, error) {
	n, err := m.w.Write(p)
	m.moved(int64(n))
	return n, err
}
