// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// readers is how many streams are looked at at the same time.
const readers = 8

// begin finds out how far the archive is and where the binary log goes on from there, and makes the first page of a stream.
func (r *run) begin(ctx context.Context) error {
	last, err := r.lastPages(ctx)
	if err != nil {
		return err
	}
	until, err := r.cfg.Position(ctx)
	if err != nil {
		return err
	}
	files, err := r.cfg.Files()
	if err != nil {
		return err
	}
	found := judge(last, until)
	if r.place, err = firstPlace(files, found.base); err != nil {
		return err
	}
	r.scanner = scanner{files: r.cfg.Files, limit: r.cfg.SegmentBytes, known: newMembers(found.base)}
	now := r.cfg.Now()
	r.page = archive.NewPage(archive.Header{
		Cluster: r.cfg.Cluster, Epoch: r.cfg.Epoch, StreamID: strings.ReplaceAll(r.cfg.NewID(), "-", ""),
		ServerUUID: until.ServerUUID, StartedAt: now, Base: found.base, Gap: found.gap,
	})
	if !found.gap.Empty() {
		klog.FromContext(ctx).Info("Transactions are neither in the archive nor in the binary log", "gtid", found.gap.Shorten(1000))
	}
	r.publish(func(p *Progress) {
		p.Archived, p.Gap, p.GapAt = found.base, found.gap, now
		if found.gap.Empty() {
			p.Gap, p.GapAt = found.before.Gap, found.before.GapAt
		}
		p.CaughtUp, p.RecoverableUpTo = earlier(now, found.before.CaughtUp), earlier(now, found.before.RecoverableUpTo)
	})
	return nil
}

// outset is where a new stream begins.
type outset struct {
	// base is what the stream presumes, gap the part of it that is nowhere.
	base, gap gtid.Set
	// before is what earlier streams tell.
	before Progress
}

// judge compares the last pages of all streams with a mysqld. What is executed and was archived is presumed; so is what is in
// no binary log any more. Of that, whatever was not archived is a gap, except for the very first stream: the archive begins
// with it.
func judge(last []*archive.Page, until Position) outset {
	var found outset
	var archived gtid.Set
	for _, page := range last {
		archived = archived.Union(page.Covered())
		found.before.CaughtUp = later(found.before.CaughtUp, page.CaughtUpAt)
		if page.Gap != "" && !page.StartedAt.Before(found.before.GapAt) {
			found.before.Gap, _ = gtid.Parse(page.Gap) // was parsed when the page was
			found.before.GapAt = page.StartedAt
		}
	}
	found.before.RecoverableUpTo = found.before.CaughtUp
	missing := until.Executed.Subtract(archived)
	found.base = until.Executed.Subtract(missing.Subtract(until.Purged))
	if len(last) > 0 {
		found.gap = missing.Intersect(until.Purged)
	}
	return found
}

// firstPlace is the beginning of the first file that holds something a stream does not presume, or of the last file when none
// does. What counts is not what had been executed when mysqld was asked: it may have begun a new file since, and the end of the
// file before is to be archived, too.
func firstPlace(files []string, base gtid.Set) (place, error) {
	if len(files) == 0 {
		return place{}, fmt.Errorf("%w: the index is empty", errLost)
	}
	before, err := previousGTIDs(files[0])
	if err != nil {
		return place{}, err
	}
	if lost := before.Subtract(base); !lost.Empty() {
		return place{}, fmt.Errorf("%w: %s", errLost, lost.Shorten(200))
	}
	for i, path := range files[:len(files)-1] {
		behind, err := previousGTIDs(files[i+1])
		if err != nil {
			return place{}, err
		}
		if !base.Contains(behind.Subtract(before)) {
			return place{file: path}, nil
		}
		before = behind
	}
	return place{file: files[len(files)-1]}, nil
}

// lastPages reads the last page of every stream of the cluster.
func (r *run) lastPages(ctx context.Context) ([]*archive.Page, error) {
	var names []archive.StreamName
	for dir, err := range r.bucket.Dirs(ctx, strings.TrimSuffix(archive.Folder(r.cfg.Cluster), "/")) {
		if err != nil {
			return nil, fmt.Errorf("listing the archive: %w", err)
		}
		if name, err := archive.ParseStreamName(dir); err == nil {
			names = append(names, name)
		}
	}
	pages := make([]*archive.Page, len(names))
	faults := make([]error, len(names))
	var work sync.WaitGroup
	turns := make(chan struct{}, readers)
	for i, name := range names {
		turns <- struct{}{}
		work.Go(func() {
			defer func() { <-turns }()
			pages[i], faults[i] = r.lastPage(ctx, name)
		})
	}
	work.Wait()
	var found []*archive.Page
	for i, page := range pages {
		if faults[i] != nil {
			return nil, fmt.Errorf("reading the archive: %w", faults[i])
		}
		if page != nil {
			found = append(found, page)
		}
	}
	return found, nil
}

// lastPage reads the last page of a stream, nil when it has none. One that cannot be understood does not count, nor does what
// only it lists: that is archived again.
func (r *run) lastPage(ctx context.Context, name archive.StreamName) (*archive.Page, error) {
	var keys []string
	for object, err := range r.bucket.List(ctx, archive.StreamFolder(r.cfg.Cluster, name)+"page-") {
		if err != nil {
			return nil, err
		}
		if _, _, ok := archive.ParsePageKey(r.cfg.Cluster, object.Key); ok {
			keys = append(keys, object.Key)
		}
	}
	for _, key := range slices.Backward(keys) {
		page, err := readPage(ctx, r.bucket, key)
		if err != nil {
			return nil, err
		}
		if page != nil && page.Cluster == r.cfg.Cluster && page.Name() == name {
			// There may be many streams, and little memory: of each only the whole is kept.
			page.Base, page.Segments = page.Covered().String(), nil
			return page, nil
		}
		klog.FromContext(ctx).Info("An index page of the archive is damaged", "key", key)
	}
	return nil, nil
}

// readPage reads a page, nil when it cannot be understood.
func readPage(ctx context.Context, bucket *store.Bucket, key string) (*archive.Page, error) {
	content, err := bucket.ReadAll(ctx, key, archive.MaxSize)
	if err != nil {
		return nil, err
	}
	page, err := archive.ParsePage(content)
	if err != nil {
		return nil, nil //nolint:nilerr // damage is no failure of the store
	}
	return page, nil
}
