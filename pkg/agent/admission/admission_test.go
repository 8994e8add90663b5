// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// reasonOf is the reason of an *api.Error, "" for none.
func reasonOf(err error) api.ErrorReason {
	if refused, ok := err.(*api.Error); ok { //nolint:errorlint // it is never wrapped here
		return refused.Reason
	}
	return ""
}

func TestCheckEnvelope(t *testing.T) {
	durable := state.Durable{Incarnation: "mine", PromisedEpoch: 5, PromisedClaim: "c", Counter: 9}
	valid := api.Envelope{Epoch: 5, Claim: "c", Incarnation: "mine", StateCounter: 9}
	tests := map[string]struct {
		alter func(*api.Envelope)
		want  api.ErrorReason
	}{
		"what was promised is admitted":              {func(*api.Envelope) {}, ""},
		"a newer epoch is admitted with any claim":   {func(e *api.Envelope) { e.Epoch, e.Claim = 6, "d" }, ""},
		"an older epoch is stale":                    {func(e *api.Envelope) { e.Epoch = 4 }, api.ErrorStaleEpoch},
		"another claim of the same epoch is stale":   {func(e *api.Envelope) { e.Claim = "d" }, api.ErrorStaleEpoch},
		"a missing claim is another claim":           {func(e *api.Envelope) { e.Claim = "" }, api.ErrorStaleEpoch},
		"an older state counter is stale":            {func(e *api.Envelope) { e.StateCounter = 8 }, api.ErrorStaleState},
		"a state counter of the future is, too":      {func(e *api.Envelope) { e.StateCounter = 10 }, api.ErrorStaleState},
		"a missing state counter is stale":           {func(e *api.Envelope) { e.StateCounter = 0 }, api.ErrorStaleState},
		"another incarnation is not meant":           {func(e *api.Envelope) { e.Incarnation = "other" }, api.ErrorWrongIncarnation},
		"a stale epoch is told before anything else": {func(e *api.Envelope) { *e = api.Envelope{Epoch: 1} }, api.ErrorStaleEpoch},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			envelope := valid
			test.alter(&envelope)
			if diff := cmp.Diff(test.want, reasonOf(checkEnvelope(durable, &envelope))); diff != "" {
				t.Errorf("reason (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAdvances(t *testing.T) {
	at := func(epoch int64, phase v1beta1.RecordPhase) *v1beta1.ReplicationRecord {
		return &v1beta1.ReplicationRecord{Epoch: epoch, Phase: phase}
	}
	pending := at(2, v1beta1.RecordChosen)
	pending.Pending = &v1beta1.Configuration{AckCount: 1}
	tests := map[string]struct {
		kept, record *v1beta1.ReplicationRecord
		want         bool
	}{
		"the first record":                      {nil, at(1, v1beta1.RecordClaimed), true},
		"the same record":                       {at(2, v1beta1.RecordChosen), at(2, v1beta1.RecordChosen), false},
		"a later epoch":                         {at(2, v1beta1.RecordOpened), at(3, v1beta1.RecordClaimed), true},
		"a later phase":                         {at(2, v1beta1.RecordChosen), at(2, v1beta1.RecordOpened), true},
		"an earlier phase":                      {at(2, v1beta1.RecordOpened), at(2, v1beta1.RecordChosen), false},
		"the same phase with something changed": {at(2, v1beta1.RecordChosen), pending, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := advances(test.kept, test.record); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestVotes(t *testing.T) {
	mine, other := v1beta1.Member{Incarnation: "mine"}, v1beta1.Member{Incarnation: "other"}
	with := func(members ...v1beta1.Member) v1beta1.Configuration { return v1beta1.Configuration{Voters: members} }
	pending := with(other, mine)
	tests := map[string]struct {
		record *v1beta1.ReplicationRecord
		want   bool
	}{
		"without a record nobody votes":                      {nil, false},
		"a stranger does not vote":                           {&v1beta1.ReplicationRecord{Primary: &other, LastOpened: &v1beta1.OpenedEpoch{Configuration: with(other), Primary: other}}, false},
		"the primary votes":                                  {&v1beta1.ReplicationRecord{Primary: &mine}, true},
		"the last opened primary votes":                      {&v1beta1.ReplicationRecord{LastOpened: &v1beta1.OpenedEpoch{Primary: mine}}, true},
		"a last opened voter votes":                          {&v1beta1.ReplicationRecord{LastOpened: &v1beta1.OpenedEpoch{Configuration: with(other, mine)}}, true},
		"a voter to be introduced votes":                     {&v1beta1.ReplicationRecord{Pending: &pending}, true},
		"a voter of a configuration that was given up votes": {&v1beta1.ReplicationRecord{Earlier: []v1beta1.Configuration{pending}}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Votes(test.record, "mine"); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestMayAcknowledge(t *testing.T) {
	mine, other := v1beta1.Member{Incarnation: "mine"}, v1beta1.Member{Incarnation: "other"}
	with := func(members ...v1beta1.Member) v1beta1.Configuration { return v1beta1.Configuration{Voters: members} }
	opened := func(members ...v1beta1.Member) *v1beta1.OpenedEpoch {
		return &v1beta1.OpenedEpoch{Configuration: with(members...)}
	}
	both, others := with(other, mine), with(other)
	tests := map[string]struct {
		record *v1beta1.ReplicationRecord
		want   bool
	}{
		"nobody without a record":               {nil, false},
		"a last opened voter":                   {&v1beta1.ReplicationRecord{LastOpened: opened(other, mine)}, true},
		"a joining voter":                       {&v1beta1.ReplicationRecord{LastOpened: opened(other), Pending: &both}, true},
		"not a voter that leaves":               {&v1beta1.ReplicationRecord{LastOpened: opened(other, mine), Pending: &others}, false},
		"not one of a configuration given up":   {&v1beta1.ReplicationRecord{LastOpened: opened(other), Earlier: []v1beta1.Configuration{both}}, false},
		"not one that is the primary of before": {&v1beta1.ReplicationRecord{LastOpened: &v1beta1.OpenedEpoch{Primary: mine}}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := MayAcknowledge(test.record, "mine"); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestPromise(t *testing.T) {
	record := func(epoch int64, phase v1beta1.RecordPhase) *v1beta1.ReplicationRecord {
		return &v1beta1.ReplicationRecord{Epoch: epoch, Phase: phase, Claim: "c"}
	}
	d := state.Durable{Incarnation: "mine", PromisedEpoch: 5, PromisedClaim: "c", Record: record(5, v1beta1.RecordChosen), Counter: 3}
	after := func(epoch int64, claim string, r *v1beta1.ReplicationRecord) state.Durable {
		next := d
		next.PromisedEpoch, next.PromisedClaim, next.Record = epoch, claim, r
		return next
	}
	tests := map[string]struct {
		env     api.Envelope
		record  *v1beta1.ReplicationRecord
		want    state.Durable
		changed bool
	}{
		"the same again":                       {api.Envelope{Epoch: 5, Claim: "c"}, record(5, v1beta1.RecordChosen), d, false},
		"no record":                            {api.Envelope{Epoch: 5, Claim: "c"}, nil, d, false},
		"a record that is behind":              {api.Envelope{Epoch: 5, Claim: "c"}, record(5, v1beta1.RecordClaimed), d, false},
		"a record that is further":             {api.Envelope{Epoch: 5, Claim: "c"}, record(5, v1beta1.RecordOpened), after(5, "c", record(5, v1beta1.RecordOpened)), true},
		"a higher epoch with its record":       {api.Envelope{Epoch: 6, Claim: "d"}, record(6, v1beta1.RecordClaimed), after(6, "d", record(6, v1beta1.RecordClaimed)), true},
		"a higher epoch keeps the last record": {api.Envelope{Epoch: 6, Claim: "d"}, nil, after(6, "d", d.Record), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, changed := Promise(d, &test.env, test.record)
			if diff := cmp.Diff(test.want, got); diff != "" || changed != test.changed {
				t.Errorf("changed %v, state (-want +got):\n%s", changed, diff)
			}
		})
	}
}

func TestFences(t *testing.T) {
	record := func(epoch int64, phase v1beta1.RecordPhase, primary string) *v1beta1.ReplicationRecord {
		r := &v1beta1.ReplicationRecord{Epoch: epoch, Phase: phase}
		if primary != "" {
			r.Primary = &v1beta1.Member{Incarnation: primary}
		}
		return r
	}
	tests := map[string]struct {
		kept, record *v1beta1.ReplicationRecord
		want         bool
	}{
		"a claim takes the lead":                          {record(1, v1beta1.RecordOpened, "p"), record(2, v1beta1.RecordClaimed, ""), true},
		"the same claim again":                            {record(2, v1beta1.RecordClaimed, ""), record(2, v1beta1.RecordClaimed, ""), true},
		"the next claim":                                  {record(2, v1beta1.RecordClaimed, ""), record(3, v1beta1.RecordClaimed, ""), true},
		"another primary":                                 {record(1, v1beta1.RecordOpened, "p"), record(2, v1beta1.RecordOpened, "q"), true},
		"a primary after the claim":                       {record(2, v1beta1.RecordClaimed, ""), record(2, v1beta1.RecordChosen, "q"), true},
		"the same primary opens its epoch":                {record(2, v1beta1.RecordChosen, "p"), record(2, v1beta1.RecordOpened, "p"), false},
		"the same primary goes on in the next epoch":      {record(1, v1beta1.RecordOpened, "p"), record(2, v1beta1.RecordChosen, "p"), false},
		"the instance itself is chosen":                   {record(2, v1beta1.RecordClaimed, ""), record(2, v1beta1.RecordChosen, "mine"), false},
		"the lead is taken from the instance itself":      {record(1, v1beta1.RecordOpened, "mine"), record(2, v1beta1.RecordClaimed, ""), true},
		"a late duplicate of the claim of the same epoch": {record(2, v1beta1.RecordChosen, "q"), record(2, v1beta1.RecordClaimed, ""), false},
		"the first record an agent is shown":              {nil, record(2, v1beta1.RecordOpened, "p"), true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := Fences(state.Durable{Incarnation: "mine", Record: test.kept}, test.record); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestNeedsReturn(t *testing.T) {
	named := func(primary string) *v1beta1.ReplicationRecord {
		return &v1beta1.ReplicationRecord{Phase: v1beta1.RecordOpened, Primary: &v1beta1.Member{Incarnation: primary}}
	}
	tests := map[string]struct {
		state   state.Durable
		running string
		want    bool
	}{
		"led, gone, and somebody else leads":           {state.Durable{LedStart: "s", OpenStart: "s", OpenPrimary: true, StartedID: "s", Record: named("q")}, "", true},
		"led, gone, and the epoch is only claimed":     {state.Durable{LedStart: "s", OpenStart: "s", OpenPrimary: true, StartedID: "s", Record: &v1beta1.ReplicationRecord{}}, "", true},
		"led, gone, and it is the primary":             {state.Durable{LedStart: "s", OpenStart: "s", OpenPrimary: true, StartedID: "s", Record: named("mine")}, "", false},
		"led and still runs":                           {state.Durable{LedStart: "s", OpenStart: "s", OpenPrimary: true, StartedID: "s", Record: named("q")}, "s", false},
		"led and ended cleanly":                        {state.Durable{LedStart: "s", OpenStart: "s", OpenPrimary: true, StartedID: "s", CleanStart: "s", Record: named("q")}, "", false},
		"led, and an earlier mysqld had ended cleanly": {state.Durable{LedStart: "s", OpenStart: "s", OpenPrimary: true, StartedID: "s", CleanStart: "r", Record: named("q")}, "", true},
		"an earlier mysqld led":                        {state.Durable{LedStart: "r", OpenStart: "r", OpenPrimary: true, StartedID: "s", Record: named("q")}, "", false},
		"was to lead, and was never open":              {state.Durable{LedStart: "s", StartedID: "s", Record: named("q")}, "", false},
		"never led and never started":                  {state.Durable{Record: named("q")}, "", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.state.Incarnation = "mine"
			if got := NeedsReturn(test.state, test.running); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestAnEpochHasOneCandidate(t *testing.T) {
	record := func(epoch int64, primary string) *v1beta1.ReplicationRecord {
		r := &v1beta1.ReplicationRecord{Epoch: epoch, Claim: "c", Phase: v1beta1.RecordChosen}
		if primary != "" {
			r.Primary = &v1beta1.Member{Incarnation: primary}
		}
		return r
	}
	tests := map[string]struct {
		kept, shown *v1beta1.ReplicationRecord
		refused     bool
	}{
		"the same again":                {record(2, "p"), record(2, "p"), false},
		"the first that is shown":       {record(2, ""), record(2, "p"), false},
		"another in the same epoch":     {record(2, "p"), record(2, "q"), true},
		"another in the next epoch":     {record(1, "p"), record(2, "q"), false},
		"nothing was shown before this": {nil, record(2, "p"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := state.Durable{Incarnation: "mine", PromisedEpoch: 2, PromisedClaim: "c", Counter: 1, Record: test.kept}
			if test.kept != nil && test.kept.Epoch < 2 {
				d.PromisedEpoch = test.kept.Epoch
			}
			env := &api.Envelope{Epoch: 2, Claim: "c", Incarnation: "mine", StateCounter: 1}
			if err := Check(d, env, test.shown); (err != nil) != test.refused {
				t.Errorf("got %v, want refused %t", err, test.refused)
			}
		})
	}
}
