// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// openedBy is the state of the incarnation "me" that was shown an epoch that "a" opened with the voters "a" and "me".
func openedBy(primary string) state.Durable {
	voters := []v1beta1.Member{{Incarnation: "a"}, {Incarnation: "me"}}
	record := &v1beta1.ReplicationRecord{
		Epoch: 7, Claim: "c", Phase: v1beta1.RecordOpened, Primary: &v1beta1.Member{Incarnation: primary},
		LastOpened: &v1beta1.OpenedEpoch{
			Epoch: 7, Primary: v1beta1.Member{Incarnation: primary}, ServerUUID: "u",
			Configuration: v1beta1.Configuration{Voters: voters, AckCount: 1},
		},
	}
	return state.Durable{Incarnation: "me", PromisedEpoch: 7, PromisedClaim: "c", Record: record, ChannelHash: "h"}
}

func TestResumable(t *testing.T) {
	for name, tc := range map[string]struct {
		primary string
		alter   func(d *state.Durable)
		want    resumeRole
	}{
		"the primary of an opened epoch":             {"me", func(*state.Durable) {}, resumePrimary},
		"a voter of an opened epoch with a channel":  {"a", func(*state.Durable) {}, resumeReplica},
		"nothing was shown":                          {"me", func(d *state.Durable) { d.Record = nil }, resumeNothing},
		"the epoch is only claimed":                  {"me", func(d *state.Durable) { d.Record.Phase, d.Record.Primary = v1beta1.RecordClaimed, nil }, resumeNothing},
		"the epoch has only its candidate":           {"me", func(d *state.Durable) { d.Record.Phase = v1beta1.RecordChosen }, resumeNothing},
		"a higher epoch was promised":                {"me", func(d *state.Durable) { d.PromisedEpoch = 8 }, resumeNothing},
		"the same epoch was promised to another":     {"me", func(d *state.Durable) { d.PromisedClaim = "x" }, resumeNothing},
		"another epoch was the last that was opened": {"me", func(d *state.Durable) { d.Record.LastOpened.Epoch = 6 }, resumeNothing},
		"a replica that is no voter":                 {"a", func(d *state.Durable) { d.Incarnation = "b" }, resumeNothing},
		"a replica without a channel":                {"a", func(d *state.Durable) { d.ChannelHash = "" }, resumeNothing},
		"a replica of a source that cannot be known": {"a", func(d *state.Durable) { d.Record.LastOpened.ServerUUID = "" }, resumeNothing},
		"a replica without a vote":                   {"a", func(d *state.Durable) { d.Unvouched = "the host was restarted" }, resumeNothing},
		"a primary that has diverged":                {"me", func(d *state.Durable) { d.Diverged = "u:1" }, resumeNothing},
		"a replica that led and was not stopped well": {"a", func(d *state.Durable) {
			d.LedStart, d.StartedID, d.OpenStart, d.OpenPrimary = "s", "s", "s", true
		}, resumeNothing},
	} {
		t.Run(name, func(t *testing.T) {
			d := openedBy(tc.primary)
			tc.alter(&d)
			if diff := cmp.Diff(tc.want, resumable(d)); diff != "" {
				t.Errorf("role (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAloneFor(t *testing.T) {
	begun := time.Now()
	a := &Agent{alone: begun}
	if got := a.aloneFor(begun.Add(time.Minute)); got != time.Minute {
		t.Errorf("since the start: alone for %v, want a minute", got)
	}
	first, second := a.attended(), a.attended()
	first()
	if got := a.aloneFor(time.Now().Add(time.Minute)); got != 0 {
		t.Errorf("with a reader: alone for %v, want 0", got)
	}
	second()
	if got := a.aloneFor(time.Now()); got > 10*time.Second {
		t.Errorf("just after the last reader left: alone for %v", got)
	}
}
