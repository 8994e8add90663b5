// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// pruner removes what the base holds from the begins of the streams of one archive.
type pruner struct {
	bucket  *store.Bucket
	cluster wire.ClusterKey
	base    manifest.Summary
	now     time.Time
}

// held is what a store holds of one stream.
type held struct {
	name     archive.StreamName
	pages    []int // numbers, ascending
	objects  []string
	modified time.Time // of the newest object
	first    *archive.Page
	// endStays: it is the newest stream.
	endStays bool
}

func (p *pruner) run(ctx context.Context) error {
	streams, err := p.list(ctx)
	if err != nil {
		return err
	}
	if newest := newestStream(streams); newest != nil {
		newest.endStays = true
	}
	for _, s := range streams {
		switch {
		case len(s.pages) == 0 && p.now.Sub(s.modified) >= garbageAge:
			err = p.remove(ctx, s.objects)
		case len(s.pages) > 0:
			err = p.trim(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// list lists all streams, with the first page of each that has pages.
func (p *pruner) list(ctx context.Context) ([]*held, error) {
	folder := archive.Folder(p.cluster)
	streams := map[archive.StreamName]*held{}
	var listed []*held
	for object, err := range p.bucket.List(ctx, folder) {
		if err != nil {
			return nil, fmt.Errorf("listing the archive: %w", err)
		}
		directory, _, below := strings.Cut(strings.TrimPrefix(object.Key, folder), "/")
		name, err := archive.ParseStreamName(directory)
		if !below || err != nil {
			continue // not ours
		}
		s := streams[name]
		if s == nil {
			s = &held{name: name}
			streams[name], listed = s, append(listed, s)
		}
		s.objects = append(s.objects, object.Key)
		if object.Modified.After(s.modified) {
			s.modified = object.Modified
		}
		if _, number, isPage := archive.ParsePageKey(p.cluster, object.Key); isPage {
			s.pages = append(s.pages, number)
		}
	}
	for _, s := range listed {
		slices.Sort(s.pages)
		if len(s.pages) == 0 {
			continue
		}
		var err error
		if s.first, err = p.page(ctx, s.name, s.pages[0]); err != nil {
			return nil, err
		}
	}
	return listed, nil
}

// page reads a page; nil when it is damaged, which is for those to say who need it.
func (p *pruner) page(ctx context.Context, name archive.StreamName, number int) (*archive.Page, error) {
	key := archive.PageKey(p.cluster, name, number)
	text, err := p.bucket.ReadAll(ctx, key, archive.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", key, err)
	}
	page, err := archive.ParsePage(text)
	if err != nil || page.Cluster != p.cluster || page.Name() != name || page.Number != number {
		klog.FromContext(ctx).Error(err, "Index page is damaged: its stream stays", "key", key)
		return nil, nil
	}
	return page, nil
}

// newestStream is the one that began last. Its end stays whatever it holds: from it the archiver knows what was archived.
func newestStream(streams []*held) *held {
	var newest *held
	for _, s := range streams {
		if s.first == nil {
			continue
		}
		if newest == nil || s.name.Epoch > newest.name.Epoch ||
			s.name.Epoch == newest.name.Epoch && s.first.StartedAt.After(newest.first.StartedAt) {
			newest = s
		}
	}
	return newest
}

// trim removes pages from the begin of a stream as long as the base holds all that they list, and their segments after
// them. Of the newest stream the last page stays.
func (p *pruner) trim(ctx context.Context, s *held) error {
	at := 0
	for page := s.first; page != nil; {
		isLast := at == len(s.pages)-1
		if !p.holds(page) || isLast && (s.endStays || page.CaughtUpAt.After(p.base.ConsistentAt)) {
			break
		}
		if err := p.bucket.Delete(ctx, archive.PageKey(p.cluster, s.name, page.Number)); err != nil {
			return fmt.Errorf("deleting page %d of stream %s: %w", page.Number, s.name, err)
		}
		if isLast {
			return p.remove(ctx, s.objects)
		}
		at++
		var err error
		if page, err = p.page(ctx, s.name, s.pages[at]); err != nil {
			return err
		}
	}
	return p.remove(ctx, segmentsBefore(s.objects, s.pages[at]))
}

// holds says whether the base holds every transaction that a page lists.
func (p *pruner) holds(page *archive.Page) bool {
	for _, segment := range page.Segments {
		set, err := gtid.Parse(segment.GTIDs)
		if err != nil || !p.base.GTIDs.Contains(set) {
			return false
		}
	}
	return true
}

// remove deletes objects; some may be gone.
func (p *pruner) remove(ctx context.Context, keys []string) error {
	for _, key := range keys {
		if err := p.bucket.Delete(ctx, key); err != nil {
			return fmt.Errorf("deleting %s: %w", key, err)
		}
	}
	return nil
}

var segmentPattern = regexp.MustCompile(`/seg-([0-9]{8})\.`)

// segmentsBefore are the keys of the segments that pages before the given one list.
func segmentsBefore(keys []string, page int) []string {
	var found []string
	for _, key := range keys {
		match := segmentPattern.FindStringSubmatch(key)
		if match == nil {
			continue
		}
		number, err := strconv.Atoi(match[1])
		if err == nil && number < page*archive.MaxSegments {
			found = append(found, key)
		}
	}
	return found
}
