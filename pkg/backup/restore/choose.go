// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/document"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/plan"
	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/binlog"
)

// maxNamed bounds how many damaged things a message names.
const maxNamed = 10

// maxBackups bounds how many backups are looked at, the newest.
const maxBackups = 2000

// choose finds the backup and the way to the target. Mostly that begins with the nearest backup, and only a part of the index
// must be kept in mind to see it.
func (r *Restore) choose(ctx context.Context) error {
	candidates, damaged, err := r.candidates(ctx)
	if err != nil {
		return err
	}
	var none *plan.Refusal
	err = plan.ErrTooYoung
	if nearest, window, ok := plan.Nearest(candidates, r.cfg.Source.Target); ok {
		err = r.planFrom(ctx, []manifest.Summary{nearest}, window)
	}
	if errors.As(err, &none) || errors.Is(err, plan.ErrTooYoung) || err == nil && r.plan.Unsure {
		err = r.planFrom(ctx, candidates, nil)
	}
	if err != nil {
		return refusal(err, append(damaged, r.spoiled...))
	}
	// Read again: of many, only the summaries are kept.
	r.manifest, err = r.readManifest(ctx, r.plan.Backup.ID)
	return err
}

// planFrom plans with some backups and what a window shows of the archive. A backup that turns out to hold something behind
// the target, which only the binary log itself tells, is passed over for an older one.
func (r *Restore) planFrom(ctx context.Context, candidates []manifest.Summary, window archive.Window) error {
	streams, err := r.streams(ctx, window)
	if err != nil {
		return err
	}
	for {
		if r.plan, err = plan.Make(candidates, streams, r.cfg.Source.Target); err != nil {
			return err
		}
		if err = r.locate(ctx); !errors.Is(err, plan.ErrTooYoung) {
			return err
		}
		chosen := r.plan.Backup.ID
		candidates = slices.DeleteFunc(candidates, func(s manifest.Summary) bool { return s.ID == chosen })
		if len(candidates) == 0 {
			return fmt.Errorf("backup %s: %w", chosen, err)
		}
	}
}

// refusal says why there is no plan, with the range that could be reached.
func refusal(err error, damaged []string) error {
	var refused *plan.Refusal
	if !errors.As(err, &refused) {
		return err
	}
	message := strings.TrimSuffix(refused.Message, ".")
	if !refused.CoveredFrom.IsZero() || !refused.CoveredUpTo.IsZero() {
		message += fmt.Sprintf("; points from %s to %s can be restored", instant(refused.CoveredFrom), instant(refused.CoveredUpTo))
	}
	if n := len(damaged); n > 0 {
		message += fmt.Sprintf("; passed over as damaged: %s", strings.Join(damaged[:min(n, maxNamed)], ", "))
		if n > maxNamed {
			message += fmt.Sprintf(" and %d more", n-maxNamed)
		}
	}
	return &Refusal{Message: message}
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// candidates are the backups that may be restored, and the ids of those whose manifest is damaged.
func (r *Restore) candidates(ctx context.Context) ([]manifest.Summary, []string, error) {
	if id := r.cfg.Source.Backup; id != "" {
		m, err := r.readManifest(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		return []manifest.Summary{m.Summary()}, nil, nil
	}
	var ids []string
	for id, err := range r.backups.Dirs(ctx, strings.TrimSuffix(manifest.Folder(r.cfg.Source.Cluster), "/")) {
		if err != nil {
			return nil, nil, fmt.Errorf("listing backups: %w", err)
		}
		if manifest.ValidID(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var found []manifest.Summary
	var damaged []string
	for _, id := range ids[max(0, len(ids)-maxBackups):] {
		m, err := r.readManifest(ctx, id)
		var refused *Refusal
		switch {
		case err == nil:
			found = append(found, m.Summary())
		case errors.As(err, &refused):
			damaged = append(damaged, id)
		case !errors.Is(err, store.ErrNotFound): // that one was never completed
			return nil, nil, err
		}
	}
	if len(found) == 0 {
		message := fmt.Sprintf("there is no backup of %s in %s", r.cfg.Source.Cluster.Root(), r.backups)
		return nil, nil, refusal(&plan.Refusal{Reason: plan.NoBackup, Message: message}, damaged)
	}
	return found, damaged, nil
}

// readManifest reads the manifest of a backup. The error is a *Refusal when it is not as it was written, and
// store.ErrNotFound when there is none.
func (r *Restore) readManifest(ctx context.Context, id string) (*manifest.Manifest, error) {
	cluster := r.cfg.Source.Cluster
	data, err := r.backups.ReadAll(ctx, manifest.Key(cluster, id), manifest.MaxSize)
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("there is no backup %s of %s: %w", id, cluster.Root(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the manifest of backup %s: %w", id, err)
	}
	m, err := manifest.Parse(data)
	switch {
	case err != nil:
		return nil, &Refusal{Message: fmt.Sprintf("the manifest of backup %s cannot be used: %v", id, err), cause: err}
	case m.ID != id || m.Cluster != cluster:
		return nil, refuse("the manifest of backup %s is that of backup %s of %s", id, m.ID, m.Cluster.Root())
	}
	return m, nil
}

// streams reads the index of the archive, of which a window stays in memory; nothing when only the backup is restored.
func (r *Restore) streams(ctx context.Context, window archive.Window) ([]*archive.Stream, error) {
	if r.cfg.Source.Target == (wire.Target{}) {
		return nil, nil
	}
	r.report("reading the index of the archive")
	r.spoiled = nil
	cluster := r.cfg.Source.Cluster
	var found []*archive.Stream
	for text, err := range r.archives.Dirs(ctx, strings.TrimSuffix(archive.Folder(cluster), "/")) {
		if err != nil {
			return nil, fmt.Errorf("listing the archive: %w", err)
		}
		name, err := archive.ParseStreamName(text)
		if err != nil {
			continue // not of the archiver
		}
		parts, err := r.readStream(ctx, name, window)
		if err != nil {
			return nil, err
		}
		found = append(found, parts...)
	}
	archive.Sort(found)
	return found, nil
}

// readStream reads the pages of a stream. A damaged one is left out, unless all there is is wanted: what follows it is a part
// of its own, which presumes what it listed. So only a way that leads over it is refused, and it does no harm to restores that
// begin with a backup which holds what it listed.
func (r *Restore) readStream(ctx context.Context, name archive.StreamName, window archive.Window) ([]*archive.Stream, error) {
	cluster := r.cfg.Source.Cluster
	var keys []string
	for object, err := range r.archives.List(ctx, archive.StreamFolder(cluster, name)+"page-") {
		if err != nil {
			return nil, fmt.Errorf("listing the archive: %w", err)
		}
		if _, _, ok := archive.ParsePageKey(cluster, object.Key); ok {
			keys = append(keys, object.Key)
		}
	}
	joiner := archive.NewJoiner(cluster, name, window)
	var parts []*archive.Stream
	for _, key := range keys {
		data, err := r.archives.ReadAll(ctx, key, archive.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("reading the index of the archive: %w", err)
		}
		err = joiner.Add(data)
		if err == nil {
			continue
		}
		if r.cfg.Source.Target.Latest {
			return nil, &Refusal{Message: fmt.Sprintf("the index of the archive cannot be used: %v", err), cause: err}
		}
		r.spoiled = append(r.spoiled, key)
		parts = ended(parts, joiner)
		joiner = archive.NewJoiner(cluster, name, window)
		_ = joiner.Add(data) // it begins the next part, if it is only the one before that it does not follow
	}
	return ended(parts, joiner), nil
}

// ended adds what was joined, if that is anything.
func ended(parts []*archive.Stream, joiner *archive.Joiner) []*archive.Stream {
	part, err := joiner.Stream()
	if err != nil {
		return parts // it has no pages
	}
	return append(parts, part)
}

// locate finds where the plan's last file is to be cut: it is fetched for that, and replayed later as it is then.
func (r *Restore) locate(ctx context.Context) error {
	if r.plan.Cut.Kind == plan.CutNone || len(r.plan.Files) == 0 {
		return nil
	}
	last := r.plan.Files[len(r.plan.Files)-1]
	path := filepath.Join(r.cfg.Scratch, "last")
	progress := r.meter("looking for the point in the archive", bytesOf(last))
	if err := r.join(ctx, last, path, progress); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("looking for the point: %w", err)
	}
	r.kept, err = r.plan.Cut.Find(file, r.plan.Backup.GTIDs)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("looking for the point in %s: %w", last.Name, err)
	}
	if err := os.Truncate(path, r.kept.End); err != nil {
		return fmt.Errorf("cutting the last file: %w", err)
	}
	return nil
}

// present makes sure, before anything is fetched, that all that is needed is there and can be opened.
func (r *Restore) present(ctx context.Context) error {
	if err := seal.CheckIdentity(r.cfg.Source.Identity); err != nil {
		return err
	}
	folder := manifest.ObjectKey(r.manifest.Cluster, r.manifest.ID, r.manifest.Attempt, "")
	needed := map[string]int64{}
	for _, pack := range r.manifest.Packs {
		needed[r.manifest.ObjectKey(pack.Name)] = pack.StoredBytes
	}
	if err := missing(ctx, r.backups, folder, needed); err != nil {
		return fmt.Errorf("backup %s: %w", r.manifest.ID, err)
	}
	if err := r.tryKey(ctx, r.backups, r.manifest.ObjectKey(r.manifest.Packs[0].Name)); err != nil {
		return fmt.Errorf("backup %s: %w", r.manifest.ID, err)
	}
	byStream := map[archive.StreamName]map[string]int64{}
	for _, file := range r.plan.Files {
		if byStream[file.Stream] == nil {
			byStream[file.Stream] = map[string]int64{}
			if err := r.tryKey(ctx, r.archives, file.Segments[0].Key); err != nil {
				return fmt.Errorf("stream %s of the archive: %w", file.Stream, err)
			}
		}
		for _, segment := range file.Segments {
			byStream[file.Stream][segment.Key] = segment.StoredBytes
		}
	}
	for stream, needed := range byStream {
		if err := missing(ctx, r.archives, archive.StreamFolder(r.cfg.Source.Cluster, stream)+"seg-", needed); err != nil {
			return fmt.Errorf("stream %s of the archive: %w", stream, err)
		}
	}
	return nil
}

// missing refuses when an object is not there with the size it should have.
func missing(ctx context.Context, bucket *store.Bucket, folder string, needed map[string]int64) error {
	for object, err := range bucket.List(ctx, folder) {
		if err != nil {
			return fmt.Errorf("listing it: %w", err)
		}
		size, want := needed[object.Key]
		if !want {
			continue
		}
		if size != object.Bytes {
			return refuse("%s has %d bytes where %d were stored", bucket.Location(object.Key), object.Bytes, size)
		}
		delete(needed, object.Key)
	}
	for key := range needed {
		return refuse("%d objects are missing, for example %s", len(needed), bucket.Location(key))
	}
	return nil
}

// tryKey opens an object, to learn whether the private keys open it.
func (r *Restore) tryKey(ctx context.Context, bucket *store.Bucket, key string) error {
	stored, err := bucket.Reader(ctx, key)
	if err != nil {
		return fmt.Errorf("reading %s: %w", bucket.Location(key), err)
	}
	defer func() { _ = stored.Close() }() // only read
	raw, err := seal.NewReader(stored, r.cfg.Source.Identity)
	if err != nil {
		return opening(err)
	}
	return raw.Close()
}

// final makes a Refusal of what stays as it is however often it is tried.
func (r *Restore) final(err error) error {
	for _, hopeless := range []error{
		errDamaged, store.ErrNotFound, store.ErrInvalid, seal.ErrWrongKey, seal.ErrKeys, document.ErrDamaged,
		plan.ErrTooYoung, plan.ErrNoCut, binlog.ErrTorn, binlog.ErrFormat,
	} {
		if errors.Is(err, hopeless) {
			return &Refusal{Message: err.Error(), cause: err}
		}
	}
	return err
}
