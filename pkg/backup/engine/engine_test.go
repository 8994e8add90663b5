// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/restore"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

func TestReasonOf(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want wire.JobReason
	}{
		"an error of nobody's":                      {errors.New("x"), wire.ReasonInternal},
		"the innermost reason counts":               {fail(wire.ReasonCheck, fmt.Errorf("y: %w", fail(wire.ReasonDonor, errors.New("x")))), wire.ReasonDonor},
		"a store that does not answer":              {fmt.Errorf("y: %w", store.ErrUnavailable), wire.ReasonStore},
		"a full volume, whoever noticed it":         {fail(wire.ReasonCheck, fmt.Errorf("y: %w", syscall.ENOSPC)), wire.ReasonSpace},
		"a given reason counts more than a store's": {fail(wire.ReasonRefused, store.ErrInvalid), wire.ReasonRefused},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := reasonOf(t.Context(), tc.err); got != tc.want {
				t.Errorf("reason %s, want %s", got, tc.want)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if got := reasonOf(ended, tc.err); got != wire.ReasonInterrupted {
				t.Errorf("reason %s of a job that was told to stop", got)
			}
		})
	}
}

func TestATrialDemandsTheWholeArchive(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		target  wire.Target
		missing string
		want    wire.JobReason
	}{
		"all of it":                       {target: wire.Target{Latest: true}},
		"a gap":                           {wire.Target{Latest: true}, "stream 2 presumes what is nowhere", wire.ReasonCheck},
		"a gap behind what was asked for": {target: wire.Target{GTID: testUUID + ":1"}, missing: "stream 2 presumes what is nowhere"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got wire.JobReason
			if err := whole(&wire.Source{Target: c.target}, restore.Result{Missing: c.missing}); err != nil {
				got = reasonOf(t.Context(), err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOptionLines(t *testing.T) {
	t.Parallel()
	in := mycnf.DefaultInput()
	in.ServerID, in.Version, in.MemoryBytes = 1, mycnf.MinVersion, 64<<30
	in.User = map[string]string{"lower_case_table_names": "1", "innodb-page-size": "8192", "collation_server": "utf8mb4_bin", "innodb_buffer_pool_size": "40G"}
	want := []string{
		"character_set_server = utf8mb4", "collation_server = utf8mb4_bin", "innodb_page_size = 8192", "lower_case_table_names = 1",
		"plugin_load_add = semisync_source.so", "plugin_load_add = semisync_replica.so", "plugin_load_add = mysql_clone.so",
	}
	if diff := cmp.Diff(want, optionLines(mycnf.Render(in))); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestPoolBytes(t *testing.T) {
	t.Parallel()
	for memory, want := range map[int64]int64{
		256 << 20: 64 << 20, 1 << 30: 128 << 20, 4 << 30: 512 << 20, 8 << 30: 2 << 30, 1 << 40: 16 << 30,
	} {
		if got := poolBytes(memory); got != want {
			t.Errorf("pool of %d bytes in %d, want %d", got, memory, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind, text string
		sound      bool
	}{
		"a sound table":                   {"status", "OK", true},
		"a table that is up to date":      {"status", "Table is already up to date", true},
		"an engine that knows no check":   {"note", "The storage engine for the table doesn't support check", true},
		"a table that is not sound":       {"error", "Corrupt", false},
		"an index with too few entries":   {"warning", "InnoDB: Index k contains 3 entries, should be 4.", false},
		"an operation that failed":        {"status", "Operation failed", false},
		"an answer that says nothing yet": {"", "", false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := verdict(tc.kind, tc.text)
			if (err == nil) != tc.sound {
				t.Errorf("error %v", err)
			}
			if err != nil && reasonOf(t.Context(), err) != wire.ReasonCheck {
				t.Errorf("reason %s", reasonOf(t.Context(), err))
			}
		})
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	there := []string{"a", "b", "information_schema", "moco", "mysql", "performance_schema", "sys"}
	tests := map[string]struct {
		asked, there, want []string
		refused            string
	}{
		"all of the users'":          {nil, there, []string{"a", "b"}, ""},
		"those that were asked for":  {[]string{"b"}, there, []string{"b"}, ""},
		"one that is not there":      {[]string{"a", "c"}, there, nil, "`c`"},
		"a server without any":       {nil, there[2:], nil, "no schema"},
		"a system schema, if wanted": {[]string{"mysql"}, there, []string{"mysql"}, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := choose(tc.asked, tc.there)
			if (err != nil) != (tc.refused != "") || err != nil && !strings.Contains(err.Error(), tc.refused) || !slices.Equal(got, tc.want) {
				t.Errorf("%q, %v, want %q, %q", got, err, tc.want, tc.refused)
			}
		})
	}
}

func TestDifferences(t *testing.T) {
	t.Parallel()
	sum := uint64(5)
	recorded := []manifest.Table{{Schema: "d", Name: "t", Rows: 2, Checksum: &sum}}
	tests := map[string]struct {
		found []*table
		want  string
	}{
		"the same":                    {[]*table{{schema: "d", name: "t", rows: 2, checksum: 5}, {schema: "mysql", name: "user", rows: 9}}, ""},
		"a row less":                  {[]*table{{schema: "d", name: "t", rows: 1, checksum: 5}}, "`d`.`t` has 1 rows"},
		"the same rows, other values": {[]*table{{schema: "d", name: "t", rows: 2, checksum: 6}}, "checksum 6"},
		"a table less":                {nil, "`d`.`t` is missing"},
		"a table more":                {[]*table{{schema: "d", name: "t", rows: 2, checksum: 5}, {schema: "d", name: "u"}}, "2 tables"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := differences(recorded, tc.found)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	p := &Progress{}
	if got := p.Read(noon); got != (wire.JobProgress{}) {
		t.Errorf("before anything: %+v", got)
	}
	p.from("db-1")
	p.begin("first", noon)
	p.set(5, 10)
	p.add(2)
	want := wire.JobProgress{Stage: "first", BytesDone: 7, BytesTotal: 10, StageSeconds: 3, Donor: "db-1"}
	if diff := cmp.Diff(want, p.Read(noon.Add(3*time.Second))); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	p.begin("second", noon.Add(4*time.Second))
	if got := p.Read(noon.Add(4 * time.Second)); got.BytesDone != 0 || got.StageSeconds != 0 {
		t.Errorf("a new stage: %+v", got)
	}
}

func TestComplaints(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ output, want string }{
		"errors are told":                          {"x [System] begins\ny [ERROR] broke\nz [System] ends\n", "y [ERROR] broke"},
		"without errors the last lines":            {"a\nb\nc\nd\n", "b; c; d"},
		"a long line is cut behind its begin":      {"[ERROR] " + strings.Repeat("x", 5000), "[ERROR] " + strings.Repeat("x", complaintLimit-8)},
		"what was printed long ago is forgotten":   {strings.Repeat("old\n", 100_000) + "[ERROR] new", "[ERROR] new"},
		"a program that printed nothing says none": {"", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := &tail{}
			for part := range slices.Chunk([]byte(tc.output), 1000) {
				if _, err := out.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			if got := out.complaints(); got != tc.want {
				t.Errorf("complaints %q, want %q", got, tc.want)
			}
			if len(out.text) > 2*outputLimit {
				t.Errorf("%d bytes are kept", len(out.text))
			}
		})
	}
}

func TestAProgramThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel()
	p, err := launch("sh", []string{"-c", "trap '' TERM; echo ready; while :; do sleep 1; done"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for p.output.complaints() != "ready" {
		<-tick.C
	}
	p.stop(100 * time.Millisecond)
	if p.running() {
		t.Error("it still runs")
	}
	if err := p.wait(t.Context()); err == nil {
		t.Error("it ended without an error")
	}
}
