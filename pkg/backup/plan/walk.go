// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// history is a stream with its sets read.
type history struct {
	*archive.Stream
	segments []segment
	// whole is what the stream presumes and holds.
	whole gtid.Set
}

type segment struct {
	*archive.Segment
	set gtid.Set
}

func read(streams []*archive.Stream) []history {
	sorted := append([]*archive.Stream(nil), streams...)
	archive.Sort(sorted)
	read := make([]history, 0, len(sorted))
	for _, s := range sorted {
		h := history{Stream: s, whole: s.Base}
		for _, page := range s.Pages {
			for n := range page.Segments {
				one := segment{Segment: &page.Segments[n], set: parsed(page.Segments[n].GTIDs)}
				h.segments, h.whole = append(h.segments, one), h.whole.Union(one.set)
			}
		}
		read = append(read, h)
	}
	return read
}

// verdict says what became of a segment.
type verdict int

const (
	verdictGoOn   verdict = iota
	verdictLeave          // the rest of the stream cannot be used
	verdictReach          // the point is reached
	verdictUnfit          // the point cannot be reached from this backup: it holds what lies behind it
	verdictUnsure         // the point is reached, unless the backup holds what lies behind it within the last segment
)

// walk goes through all streams from one backup.
type walk struct {
	plan     Plan
	point    point
	executed gtid.Set
	// latest is the latest time of commit of all segments that were added.
	latest time.Time
	// broken says why the first stream that could not be used could not be.
	broken string
}

// begin makes a walk from a backup.
func begin(backup manifest.Summary, to point) *walk {
	return &walk{plan: Plan{Backup: backup}, point: to, executed: backup.GTIDs}
}

// through goes through streams until the point is reached, and reports what ended it; verdictGoOn is the end of all streams.
// What a run of the archiver missed, a later one may have found: so it begins anew as long as that leads further.
func (w *walk) through(streams []history) verdict {
	for used := int64(-1); used < w.plan.Transactions; {
		used, w.broken = w.plan.Transactions, ""
		for n := range streams {
			if v := w.stream(&streams[n]); v != verdictGoOn && v != verdictLeave {
				w.plan.Whole = w.executed
				return v
			}
		}
	}
	w.plan.Whole = w.executed
	w.cover(streams)
	return verdictGoOn
}

// cover says up to when all that was committed is there. The last of the streams that end where the walk has ended tells:
// clocks of different servers may differ.
func (w *walk) cover(streams []history) {
	for n := range streams {
		s := &streams[n]
		if !s.CaughtUpAt.IsZero() && s.whole.Equal(w.executed) {
			w.plan.CoveredUpTo = s.CaughtUpAt
		}
	}
	if before := w.latest.Add(-time.Microsecond); !w.latest.IsZero() && before.After(w.plan.CoveredUpTo) {
		w.plan.CoveredUpTo = before
	}
	if n := len(streams); n > 0 && !w.executed.Contains(streams[n-1].whole) {
		w.plan.Missing = w.broken
	}
}

func (w *walk) stream(s *history) verdict {
	before := s.Base
	for n := range s.segments {
		one := &s.segments[n]
		after := before.Union(one.set)
		if v := w.segment(s, one, before, after); v != verdictGoOn {
			return v
		}
		before = after
	}
	if !w.executed.Contains(before) {
		w.leave("stream %s presumes transactions that are in no archive reachable from backup %s: %s", s, before.Subtract(w.executed))
	}
	return verdictGoOn
}

// leave notes the first reason why streams could not be used.
func (w *walk) leave(format string, s *history, set gtid.Set) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, s.Name, w.plan.Backup.ID, set.Shorten(200))
	}
}

// segment uses one segment, if it can. before and after are all that was executed before it and behind it.
func (w *walk) segment(s *history, one *segment, before, after gtid.Set) verdict {
	if w.executed.Contains(one.set) {
		return w.point.held(one)
	}
	if !w.executed.Contains(before) {
		w.leave("stream %s presumes transactions that are in no archive reachable from backup %s: %s", s, before.Subtract(w.executed))
		return verdictLeave
	}
	if !after.Contains(w.executed) {
		w.leave("stream %s belongs to a history that lacks transactions of the one of backup %s (an accepted loss, or a restore in place): %s",
			s, w.executed.Subtract(after))
		return verdictLeave
	}
	v, cut := w.point.at(one, w.plan.Backup.GTIDs)
	if v == verdictUnfit || v == verdictReach && cut.Kind == CutNone {
		return v
	}
	w.add(s, one)
	w.executed, w.plan.Cut = after, cut
	return v
}

func (w *walk) add(s *history, one *segment) {
	files := w.plan.Files
	if n := len(files); n == 0 || files[n-1].Stream != s.Name || files[n-1].Name != one.File {
		w.plan.Files = append(files, File{Stream: s.Name, Name: one.File})
	}
	last := &w.plan.Files[len(w.plan.Files)-1]
	last.Segments = append(last.Segments, Segment{Segment: *one.Segment, Key: archive.SegmentKey(s.Cluster, s.Name, *one.Segment)})
	w.plan.Transactions += one.Transactions
	w.plan.RawBytes += one.RawBytes
	if at := time.UnixMicro(one.LastCommit).UTC(); at.After(w.latest) {
		w.latest = at
	}
}

// Expected is exactly what the result has executed, given what Cut.Find keeps of the last file.
func (p *Plan) Expected(kept Kept) gtid.Set {
	if p.Cut.Kind == CutNone {
		return p.Whole
	}
	whole := p.Backup.GTIDs.Union(kept.GTIDs)
	for _, file := range p.Files[:max(0, len(p.Files)-1)] {
		for _, one := range file.Segments {
			whole = whole.Union(parsed(one.GTIDs))
		}
	}
	return whole
}
