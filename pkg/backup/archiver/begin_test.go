// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

func TestJudge(t *testing.T) {
	page := func(t *testing.T, base, gap string) *archive.Page {
		return archive.NewPage(archive.Header{Base: set(t, base), Gap: set(t, gap), StartedAt: time.Unix(5, 0)})
	}
	cases := map[string]struct {
		streams          [][2]string // base and gap
		executed, purged string
		base, gap        string
		before           string
	}{
		"a new archive presumes what is in no file": {
			executed: serverA + ":1-10", purged: serverA + ":1-4", base: serverA + ":1-4",
		},
		"it goes on behind what is archived": {
			streams: [][2]string{{serverA + ":1-3", ""}, {serverA + ":1-8", ""}}, executed: serverA + ":1-10", purged: serverA + ":1-4",
			base: serverA + ":1-8",
		},
		"what is archived but was never executed here does not matter": {
			streams: [][2]string{{serverA + ":1-8," + serverB + ":1-3", ""}}, executed: serverA + ":1-8", base: serverA + ":1-8",
		},
		"what is neither archived nor in a file is a gap": {
			streams: [][2]string{{serverA + ":1-3", ""}}, executed: serverA + ":1-10", purged: serverA + ":1-5",
			base: serverA + ":1-5", gap: serverA + ":4-5",
		},
		"a gap of an earlier stream is known": {
			streams: [][2]string{{serverA + ":1-5", serverA + ":4-5"}}, executed: serverA + ":1-6", purged: serverA + ":1-5",
			base: serverA + ":1-5", before: serverA + ":4-5",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var last []*archive.Page
			for _, s := range c.streams {
				last = append(last, page(t, s[0], s[1]))
			}
			found := judge(last, Position{Executed: set(t, c.executed), Purged: set(t, c.purged)})
			want := map[string]string{"base": c.base, "gap": c.gap, "before": c.before}
			got := map[string]string{
				"base": found.base.String(), "gap": found.gap.String(), "before": found.before.Gap.String(),
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFirstPlace(t *testing.T) {
	l := newLogs(t).add(t, "").add(t, serverA+":1-5").add(t, serverA+":1-9")
	cases := map[string]struct{ base, file string }{
		"the first file":                {serverA + ":1", "binlog.000001"},
		"a file in the middle":          {serverA + ":1-8", "binlog.000002"},
		"what was archived out of turn": {serverA + ":1-3:6-9", "binlog.000001"},
		"the last file":                 {serverA + ":1-9", "binlog.000003"},
		"behind what is in the files":   {serverA + ":1-20", "binlog.000003"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			at, err := firstPlace(l.names, set(t, c.base))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.file, filepath.Base(at.file)); diff != "" || at.offset != 0 {
				t.Errorf("at %d (-want +got):\n%s", at.offset, diff)
			}
		})
	}
	if at, err := firstPlace(nil, gtid.Set{}); err == nil {
		t.Errorf("without files it begins at %+v", at)
	}
	if at, err := firstPlace(l.names[1:], set(t, serverA+":1-4")); !errors.Is(err, errLost) {
		t.Errorf("although a file is gone that was not archived it begins at %+v: %v", at, err)
	}
}

func TestNothingIsLeftOutWhenAFileIsBegunMeanwhile(t *testing.T) {
	b := newBench(t, time.Second)
	b.logs.add(t, "", many(1, 2)...)
	b.executed = set(t, serverA+":1")
	b.look(b.begin(), 0)
	before := b.logs.position(b.executed)
	b.logs.add(t, serverA+":1-2")
	present := b.cfg.Position
	b.cfg.Position = func(context.Context) (Position, error) { return before, nil } // asked for just before the new file
	r := b.begin()
	r.cfg.Position = present
	b.executed = set(t, serverA+":1-2")
	b.look(r, time.Second)
	if diff := cmp.Diff(serverA+":1-2", b.streams()[1].Covered().String()); diff != "" {
		t.Errorf("covered (-want +got):\n%s", diff)
	}
}
