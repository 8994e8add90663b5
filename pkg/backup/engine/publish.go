// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// gtidLimit is how much of a GTID set goes into a result, in bytes.
const gtidLimit = 512

func checkRecipients(recipients string) error {
	if err := seal.CheckRecipients(recipients); err != nil {
		return fmt.Errorf("reading the recipients: %w", err)
	}
	return nil
}

// describe begins the manifest of a copy.
func (j *job) describe(c *copying) (*manifest.Manifest, error) {
	set, err := gtid.Parse(c.gtids)
	if err != nil {
		return nil, fmt.Errorf("reading what was executed: %w", err)
	}
	return &manifest.Manifest{
		ID: j.in.Backup, Attempt: j.in.Attempt, Cluster: j.in.Cluster, CreatedAt: j.cfg.Now(), ConsistentAt: c.at,
		GTIDExecuted: set.String(), MySQLVersion: c.version, ServerUUID: c.donor.uuid, Settings: c.fixed,
		Encrypted: j.in.Recipients != "",
	}, nil
}

// findManifest reads the manifest of the backup; nil when there is none.
func (j *job) findManifest(ctx context.Context) (*manifest.Manifest, error) {
	key := manifest.Key(j.in.Cluster, j.in.Backup)
	text, err := j.bucket.ReadAll(ctx, key, manifest.MaxSize)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	return m, nil
}

// publish writes the manifest, by which the backup begins to exist, and removes what other attempts left. When another
// attempt was faster, its backup is the one, and this attempt's objects go.
func (j *job) publish(ctx context.Context, m *manifest.Manifest) error {
	j.stage(ctx, "writing the manifest")
	text, err := m.Encode()
	if err != nil {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	err = j.bucket.WriteNew(ctx, manifest.Key(j.in.Cluster, j.in.Backup), text)
	if err != nil && !errors.Is(err, store.ErrExists) {
		return fmt.Errorf("writing the manifest: %w", err)
	}
	if err != nil {
		if m, err = j.findManifest(ctx); err != nil {
			return err
		}
		if m == nil {
			return errors.New("writing the manifest: there was one, and now there is none")
		}
	}
	j.report(m)
	// The backup is complete: what could not be removed now is removed later.
	if err := j.removeOthers(ctx, m.Attempt); err != nil {
		klog.FromContext(ctx).Info("Leftovers of other attempts stay for now", "backup", m.ID, "err", err)
	}
	return nil
}

// report fills in the result from the manifest.
func (j *job) report(m *manifest.Manifest) {
	set := m.Summary().GTIDs
	j.result.Location = path.Join(j.in.Store.Prefix, manifest.Key(m.Cluster, m.ID))
	j.result.ConsistentAt, j.result.GTIDExecuted, j.result.MySQLVersion = m.ConsistentAt, set.Shorten(gtidLimit), m.MySQLVersion
	j.result.Bytes, j.result.StoredBytes = m.Bytes, m.StoredBytes
	if j.result.Tables == 0 {
		j.result.Tables = int64(len(m.Tables))
	}
}

// removeOthers removes what attempts other than the one with the manifest left of the backup.
func (j *job) removeOthers(ctx context.Context, attempt string) error {
	folder := manifest.BackupFolder(j.in.Cluster, j.in.Backup)
	return j.removeBelow(ctx, folder, func(object store.Object) bool {
		rest := strings.TrimPrefix(object.Key, folder)
		return rest != manifest.FileName && !strings.HasPrefix(rest, attempt+"/")
	})
}

// removeBelow deletes the objects below a key that match.
func (j *job) removeBelow(ctx context.Context, prefix string, match func(store.Object) bool) error {
	for object, err := range j.bucket.List(ctx, prefix) {
		if err != nil {
			return fmt.Errorf("listing %s: %w", prefix, err)
		}
		if !match(object) {
			continue
		}
		if err := j.bucket.Delete(ctx, object.Key); err != nil {
			return fmt.Errorf("deleting %s: %w", object.Key, err)
		}
	}
	return nil
}
