// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// minute is a time in the hour of the tables below.
func minute(n int) time.Time { return time.Date(2026, 11, 21, 12, n, 0, 0, time.UTC) }

// numbers are transactions of one server, by their numbers.
func numbers(text string) string {
	if text == "" {
		return ""
	}
	return uuid + ":" + text
}

func copyOf(id string, at int, held string) manifest.Summary {
	return manifest.Summary{ID: id, Method: manifest.Physical, ConsistentAt: minute(at), CreatedAt: minute(at), GTIDs: parsed(numbers(held))}
}

// piece is a segment whose first transaction committed at one minute and whose last one at another.
type piece struct {
	held        string
	first, last int
}

// streamOf makes a stream that was caught up at a minute; its segments lie two and two in a file.
func streamOf(epoch int64, began, caughtUp int, base string, pieces ...piece) *archive.Stream {
	page := archive.NewPage(archive.Header{
		Cluster: testCluster, Epoch: epoch, StreamID: fmt.Sprintf("stream%02d", began), ServerUUID: uuid, StartedAt: minute(began), Base: parsed(numbers(base)),
	})
	page.CaughtUpAt = minute(caughtUp)
	for n, p := range pieces {
		set := parsed(numbers(p.held))
		page.Segments = append(page.Segments, archive.Segment{
			Number: int64(n), File: fmt.Sprintf("binlog.%06d", 1+n/2), Start: int64(1000 * (n + 1)), End: int64(1000*(n+1) + 900), RawBytes: 1000,
			GTIDs: set.String(), Transactions: set.Count(), FirstCommit: minute(p.first).UnixMicro(), LastCommit: minute(p.last).UnixMicro(),
		})
	}
	return &archive.Stream{
		Cluster: testCluster, Name: page.Name(), StartedAt: page.StartedAt, Base: parsed(page.Base), Pages: []*archive.Page{page}, CaughtUpAt: page.CaughtUpAt,
	}
}

// brief is what the tables below tell of a plan.
type brief struct {
	Backup, Files, Cut, Whole string
	Unsure                    bool
}

func briefly(p *Plan) brief {
	b := brief{Backup: p.Backup.ID, Cut: string(p.Cut.Kind), Whole: strings.TrimPrefix(p.Whole.String(), uuid+":"), Unsure: p.Unsure}
	var files []string
	for _, f := range p.Files {
		var held []string
		for _, s := range f.Segments {
			held = append(held, fmt.Sprint(s.Number))
		}
		files = append(files, fmt.Sprintf("%d/%s/%s", f.Stream.Epoch, f.Name, strings.Join(held, "+")))
	}
	b.Files = strings.Join(files, " ")
	return b
}

// two epochs follow each other; three backups were made.
func ordinary() ([]manifest.Summary, []*archive.Stream) {
	return []manifest.Summary{copyOf("old", 10, "1-10"), copyOf("middle", 23, "1-23"), copyOf("new", 40, "1-40")},
		[]*archive.Stream{
			streamOf(2, 31, 50, "1-30", piece{"31-35", 31, 35}, piece{"36-45", 36, 45}),
			streamOf(1, 5, 30, "1-5", piece{"6-15", 6, 15}, piece{"16-20", 16, 20}, piece{"21-30", 21, 30}),
		}
}

func TestPlans(t *testing.T) {
	cases := map[string]struct {
		target wire.Target
		want   brief
	}{
		"without a point the newest backup is all":               {wire.Target{}, brief{Backup: "new", Whole: "1-40"}},
		"the latest point is behind all segments":                {wire.Target{Latest: true}, brief{Backup: "new", Files: "2/binlog.000001/1", Whole: "1-45"}},
		"a time within a segment cuts it":                        {wire.Target{Time: minute(33)}, brief{Backup: "middle", Files: "1/binlog.000002/2 2/binlog.000001/0", Cut: "Time", Whole: "1-35"}},
		"a time between segments cuts none":                      {wire.Target{Time: minute(15)}, brief{Backup: "old", Files: "1/binlog.000001/0", Whole: "1-15"}},
		"a time at which nothing is new ends with the archive":   {wire.Target{Time: minute(50)}, brief{Backup: "new", Files: "2/binlog.000001/1", Whole: "1-45"}},
		"the time of a backup is followed in the archive":        {wire.Target{Time: minute(40)}, brief{Backup: "new", Files: "2/binlog.000001/1", Cut: "Time", Whole: "1-45"}},
		"a time before the newest backup begins with another":    {wire.Target{Time: minute(22)}, brief{Backup: "old", Files: "1/binlog.000001/0+1 1/binlog.000002/2", Cut: "Time", Whole: "1-30"}},
		"a transaction is the last one":                          {wire.Target{GTID: numbers("36")}, brief{Backup: "middle", Files: "1/binlog.000002/2 2/binlog.000001/0+1", Cut: "GTID", Whole: "1-45"}},
		"a transaction is left out":                              {wire.Target{BeforeGTID: numbers("31")}, brief{Backup: "middle", Files: "1/binlog.000002/2 2/binlog.000001/0", Cut: "BeforeGTID", Whole: "1-35"}},
		"a sure backup is taken before one in the same segment":  {wire.Target{BeforeGTID: numbers("24")}, brief{Backup: "old", Files: "1/binlog.000001/0+1 1/binlog.000002/2", Cut: "BeforeGTID", Whole: "1-30"}},
		"a backup in the same segment is taken if there is none": {wire.Target{BeforeGTID: numbers("12")}, brief{Backup: "old", Files: "1/binlog.000001/0", Cut: "BeforeGTID", Whole: "1-15", Unsure: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			backups, streams := ordinary()
			plan, err := Make(backups, streams, c.target)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, briefly(plan)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	backups, streams := ordinary()
	torn := []*archive.Stream{streamOf(1, 5, 20, "1-5", piece{"6-15", 6, 15}), streamOf(2, 31, 50, "1-30", piece{"31-45", 31, 45})}
	dump := copyOf("dump", 10, "1-10")
	dump.Method = manifest.Logical
	cases := map[string]struct {
		backups []manifest.Summary
		streams []*archive.Stream
		target  wire.Target
		reason  Reason
		says    string
	}{
		"two points":                          {backups, streams, wire.Target{Latest: true, GTID: numbers("7")}, BadTarget, "more than one"},
		"two transactions":                    {backups, streams, wire.Target{GTID: numbers("7-8")}, BadTarget, "not the GTID of one"},
		"text that is no transaction":         {backups, streams, wire.Target{BeforeGTID: "x"}, BadTarget, "not the GTID of one"},
		"no backup":                           {nil, streams, wire.Target{}, NoBackup, "no physical backup"},
		"only a dump":                         {[]manifest.Summary{dump}, streams, wire.Target{Latest: true}, NoBackup, "no physical backup"},
		"a time before all backups":           {backups, streams, wire.Target{Time: minute(9)}, BeforeBackup, "2026-11-21T12:10:00.000000Z"},
		"a time behind the archive":           {backups, streams, wire.Target{Time: minute(51)}, NotCovered, "up to 2026-11-21T12:50:00.000000Z"},
		"a time without an archive":           {backups, nil, wire.Target{Time: minute(40)}, NotCovered, "no archive follows backup new"},
		"a time within a gap":                 {backups[:1], torn, wire.Target{Time: minute(25)}, NotCovered, "up to 2026-11-21T12:20:00.000000Z; stream"},
		"a time within a gap before a backup": {backups, torn, wire.Target{Time: minute(22)}, NotCovered, "the next backup, middle, holds transactions up to 2026-11-21T12:23:00.000000Z"},
		"a time behind a gap":                 {backups[:1], torn, wire.Target{Time: minute(40)}, NotCovered, numbers("16-30")},
		"a transaction behind a gap":          {backups[:1], torn, wire.Target{GTID: numbers("40")}, NotCovered, numbers("16-30")},
		"a transaction of nobody":             {backups, streams, wire.Target{GTID: numbers("99")}, UnknownGTID, "in no archived binary log"},
		"a transaction before all backups":    {backups, streams, wire.Target{BeforeGTID: numbers("7")}, BeforeBackup, "oldest one, old"},
		"a transaction before the archive":    {backups, streams, wire.Target{GTID: numbers("3")}, UnknownGTID, "in a backup, but in no archived"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			plan, err := Make(c.backups, c.streams, c.target)
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reason != c.reason || !strings.Contains(refusal.Message, c.says) {
				t.Fatalf("got %+v and %v, want %s and %q", plan, err, c.reason, c.says)
			}
			wantReach := c.reason != BadTarget && c.reason != NoBackup
			if reach := !refusal.CoveredFrom.IsZero() && !refusal.CoveredUpTo.Before(refusal.CoveredFrom); reach != wantReach {
				t.Errorf("covered from %v up to %v", refusal.CoveredFrom, refusal.CoveredUpTo)
			}
		})
	}
}

// TestALossThatWasAcceptedIsNotUndone has an archive that holds transactions which the history that went on does not have.
func TestALossThatWasAcceptedIsNotUndone(t *testing.T) {
	streams := []*archive.Stream{
		streamOf(1, 5, 20, "1-5", piece{"6-15", 6, 15}, piece{"16-20", 16, 20}),
		streamOf(2, 25, 40, "1-15", piece{"31-35", 31, 35}),
	}
	old := []manifest.Summary{copyOf("old", 10, "1-10")}
	if plan, err := Make(old, streams, wire.Target{Time: minute(40)}); err == nil {
		t.Errorf("a state that never was: %+v", briefly(plan))
	}
	plan, err := Make(old, streams, wire.Target{Time: minute(18)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(brief{Backup: "old", Files: "1/binlog.000001/0+1", Cut: "Time", Whole: "1-20"}, briefly(plan)); diff != "" {
		t.Errorf("before the loss:\n%s", diff)
	}
	plan, err = Make([]manifest.Summary{copyOf("new", 26, "1-15")}, streams, wire.Target{Time: minute(40)})
	if err == nil {
		t.Errorf("what was lost was replayed: %+v", briefly(plan))
	}
	plan, err = Make([]manifest.Summary{copyOf("new", 32, "1-15:31-32")}, streams, wire.Target{Time: minute(40)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(brief{Backup: "new", Files: "2/binlog.000001/0", Whole: "1-15:31-35"}, briefly(plan)); diff != "" {
		t.Errorf("from a backup behind the loss:\n%s", diff)
	}
}
