// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

func TestTheQuarantineIsBounded(t *testing.T) {
	c := &Config{DataRoot: t.TempDir()}
	log := filepath.Join(c.DataRoot, "log")
	if err := os.WriteFile(log, []byte("events"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(c.DataRoot, "gone")
	for range maxQuarantine + 7 {
		if _, err := c.keep("relay", quarantined{Reason: "test"}, []string{log, gone}); err != nil {
			t.Fatal(err)
		}
	}
	names, err := c.quarantineEntries()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"00000008-relay", "00000009-relay", "00000010-relay", "00000011-relay", "00000012-relay"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if err := os.Remove(log); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(c.quarantineDir(), names[4], "log"))
	if err != nil || string(kept) != "events" {
		t.Errorf("the log in quarantine: %q, %v", kept, err)
	}
}

func TestShorten(t *testing.T) {
	uuid := "11111111-2222-3333-4444-555555555555"
	var long strings.Builder
	long.WriteString(uuid + ":1:3:5," + otherUUID)
	for n := range 2000 {
		long.WriteString(":" + gtid.Interval{First: int64(3 + 2*n), Last: int64(3 + 2*n)}.String())
	}
	whole, err := gtid.Parse(long.String())
	if err != nil {
		t.Fatal(err)
	}
	short, err := gtid.Parse(shorten(whole.String()))
	if err != nil || !whole.Contains(short) || short.Count() < 10 || len(short.String()) > maxNoted {
		t.Errorf("shortened to %d transactions, %v", short.Count(), err)
	}
	if got := shorten(uuid + ":1-3"); got != uuid+":1-3" {
		t.Errorf("a short set became %q", got)
	}
}

func TestTheVoteComesBackWithItsMarkerAlone(t *testing.T) {
	marker := testCluster + ":moco_e7:5"
	unvouched := state.Durable{Unvouched: "a reason", RelayDropped: true, PromisedEpoch: 7, Awaiting: marker, AwaitingEpoch: 7}
	cases := map[string]struct {
		alter    func(*state.Durable)
		executed string
		want     bool
	}{
		"the marker is executed":                  {executed: testCluster + ":moco_e7:4-5", want: true},
		"another one is":                          {executed: testCluster + ":moco_e7:4"},
		"the marker of the same number elsewhere": {executed: testCluster + ":moco_e6:5"},
		"the epoch is over":                       {alter: func(d *state.Durable) { d.PromisedEpoch = 8 }, executed: marker},
		"nothing is awaited":                      {alter: func(d *state.Durable) { d.Awaiting = "" }, executed: marker},
		"the vote was lost again":                 {alter: func(d *state.Durable) { loseVote(d, "another") }, executed: marker},
	}
	for name, c := range cases {
		d := unvouched
		if c.alter != nil {
			c.alter(&d)
		}
		executed, err := gtid.Parse(c.executed)
		if err != nil {
			t.Fatal(err)
		}
		if got := regainedBy(d, executed); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestLosingTheVote(t *testing.T) {
	d := state.Durable{}
	loseVote(&d, "first")
	loseVote(&d, "second")
	if d.Unvouched != "first" || d.RelayDropped {
		t.Errorf("lost twice before the relay log was given up: %+v", d)
	}
	d.RelayDropped, d.Awaiting, d.AwaitingEpoch = true, "m", 7
	loseVote(&d, "third")
	if want := (state.Durable{Unvouched: "third"}); d != want {
		t.Errorf("lost again: %+v, want %+v", d, want)
	}
	vouch(&d)
	if want := (state.Durable{}); d != want {
		t.Errorf("given back: %+v", d)
	}
}
