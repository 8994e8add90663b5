// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// windowed are the streams on small pages, joined with a window, and how many segments that leaves out.
func (w *world) windowed(window Window) ([]*archive.Stream, int) {
	var streams []*archive.Stream
	left := 0
	for _, s := range w.streams {
		joined := *s
		joined.Pages = nil
		covered, ended := s.Base, false
		for rest := s.Pages[0].Segments; len(rest) > 0 || joined.Pages == nil; {
			page := *s.Pages[0]
			page.Base, page.Segments = covered.String(), rest[:min(len(rest), 2)]
			rest, covered = rest[len(page.Segments):], page.Covered()
			if ended {
				left += len(page.Segments)
				continue
			}
			if len(joined.Pages) == 1 && window.Before(joined.Pages[0]) {
				left, joined.Pages = left+len(joined.Pages[0].Segments), nil
			}
			joined.Pages, ended = append(joined.Pages, &page), window.Ends(&page)
		}
		joined.Base = parsed(joined.Pages[0].Base)
		streams = append(streams, &joined)
	}
	return streams, left
}

func TestTheNearestBackupAndItsWindowGiveTheSamePlan(t *testing.T) {
	same, left := 0, 0
	for seed := *firstSeed; seed < *firstSeed+uint64(*seeds)/4; seed++ {
		w := newWorld(seed)
		w.run(12+w.r.IntN(36), int(seed%2)*4)
		targets := []wire.Target{{Latest: true}, {Time: time.UnixMicro(w.moment())}, {Time: time.UnixMicro(w.moment())}}
		if truth := w.present().truth; len(truth) > 0 {
			one := truth[w.r.IntN(len(truth))].text
			targets = append(targets, wire.Target{GTID: one}, wire.Target{BeforeGTID: one})
		}
		for _, target := range targets {
			nearest, window, ok := Nearest(w.backups, target)
			if !ok {
				continue
			}
			streams, leftOut := w.windowed(window)
			got, err := Make([]manifest.Summary{nearest}, streams, target)
			if err != nil || got.Unsure {
				continue
			}
			want, err := Make(w.backups, w.streams, target)
			if err != nil {
				t.Fatalf("seed %d, %+v: the nearest backup gives a plan, all give none: %v", seed, target, err)
			}
			if diff := cmp.Diff(want, got, cmp.Comparer(gtid.Set.Equal)); diff != "" {
				t.Fatalf("seed %d, %+v (-all +nearest):\n%s", seed, target, diff)
			}
			same, left = same+1, left+leftOut
		}
	}
	if same < *seeds/4 || left < *seeds/2 {
		t.Errorf("%d plans, %d segments left out: that shows nothing", same, left)
	}
}
