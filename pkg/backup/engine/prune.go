// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// garbageAge is how long nothing must have been written below an attempt or a stream that does not count before it is
// garbage: a running backup writes more often.
const garbageAge = 24 * time.Hour

// prune removes what nobody needs any more: what failed attempts left, and what of the archive lies before the begin of the
// retention window. Backups that exist are not touched.
func (j *job) prune(ctx context.Context) error {
	if !manifest.ValidCluster(j.in.Cluster) {
		return fail(wire.ReasonRefused, errors.New("the cluster has no valid name"))
	}
	j.stage(ctx, "removing what failed attempts left")
	backups, err := j.sweepBackups(ctx)
	if err != nil {
		return err
	}
	if j.in.Archive == nil {
		return nil
	}
	base, found := neededBase(backups, j.in.KeepAfter)
	if !found {
		klog.FromContext(ctx).Info("The archive is kept whole: no backup lies before the window", "keepAfter", j.in.KeepAfter)
		return nil
	}
	j.stage(ctx, "removing what of the archive is no longer needed")
	bucket, err := store.Open(ctx, *j.in.Archive)
	if err != nil {
		return fail(wire.ReasonStore, fmt.Errorf("opening the store of the archive: %w", err))
	}
	defer func() { _ = bucket.Close() }()
	p := &pruner{bucket: bucket, cluster: j.in.Cluster, base: base, now: j.cfg.Now()}
	return p.run(ctx)
}

// neededBase is the backup with which a restore to the begin of the window begins: the newest physical one that is not
// younger. Without such a backup nothing of the archive is given up: another store may hold it.
func neededBase(backups []manifest.Summary, keepAfter time.Time) (base manifest.Summary, found bool) {
	for _, b := range backups {
		if b.Method != manifest.Physical || b.ConsistentAt.After(keepAfter) {
			continue
		}
		if !found || b.ConsistentAt.After(base.ConsistentAt) {
			base, found = b, true
		}
	}
	return base, found
}

// sweepBackups removes what attempts without a manifest left long ago, and returns the backups that exist.
func (j *job) sweepBackups(ctx context.Context) ([]manifest.Summary, error) {
	folder := manifest.Folder(j.in.Cluster)
	var backups []manifest.Summary
	for id, err := range j.bucket.Dirs(ctx, strings.TrimSuffix(folder, "/")) {
		if err != nil {
			return nil, fmt.Errorf("listing backups: %w", err)
		}
		if !manifest.ValidID(id) {
			continue // not ours
		}
		one := *j.in
		one.Backup = id
		m, err := (&job{cfg: j.cfg, in: &one, bucket: j.bucket}).sweep(ctx)
		if err != nil {
			return nil, err
		}
		if m != nil {
			backups = append(backups, m.Summary())
		}
	}
	return backups, nil
}

// sweep removes garbage of one backup, and returns its manifest, nil when there is none that can be read.
func (j *job) sweep(ctx context.Context) (*manifest.Manifest, error) {
	m, err := j.findManifest(ctx)
	switch {
	case damaged(err):
		// Whose objects count cannot be known.
		klog.FromContext(ctx).Error(err, "Manifest is damaged: everything of the backup stays", "backup", j.in.Backup)
		return nil, nil
	case err != nil:
		return nil, err
	}
	folder := manifest.BackupFolder(j.in.Cluster, j.in.Backup)
	newest := map[string]time.Time{}
	for object, err := range j.bucket.List(ctx, folder) {
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", folder, err)
		}
		attempt, _, below := strings.Cut(strings.TrimPrefix(object.Key, folder), "/")
		if below && object.Modified.After(newest[attempt]) {
			newest[attempt] = object.Modified
		}
	}
	for attempt, modified := range newest {
		counts := m != nil && attempt == m.Attempt || attempt == j.in.Attempt
		if counts || j.cfg.Now().Sub(modified) < garbageAge {
			continue
		}
		if err := j.removeBelow(ctx, folder+attempt+"/", func(store.Object) bool { return true }); err != nil {
			return nil, err
		}
	}
	return m, nil
}
