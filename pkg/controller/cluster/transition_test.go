// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

// passage drives a history through a change of the primary from the first instance to the second, in milliseconds after
// start.
type passage struct {
	history
	seen  topology.Observed
	start time.Time
}

func newPassage() *passage {
	p := &passage{start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	p.seen = topology.Observed{Record: openedRecord(4, 0), Instances: threeInstances(), Floor: testServerUUID(0) + ":1-10"}
	p.look(&p.seen, p.start)
	return p
}

func (p *passage) at(millis int) time.Time {
	return p.start.Add(time.Duration(millis) * time.Millisecond)
}

func (p *passage) lookAt(millis int) { p.look(&p.seen, p.at(millis)) }

// write writes a record between two moments, as a plan with the rule and the reason.
func (p *passage) write(next *topology.Record, rule topology.Rule, reason string, from, to int) {
	p.wrote(&p.seen, topology.Decision{Rule: rule, Reason: reason}, next, span{p.at(from), p.at(to)})
	p.seen.Record = next
}

// claim claims an epoch without a primary.
func (p *passage) claim(epoch int64, rule topology.Rule, from, to int) {
	next := p.seen.Record.DeepCopy()
	next.Epoch, next.Phase, next.Claim, next.Primary = epoch, v1beta1.RecordClaimed, "mine", nil
	p.write(next, rule, "the primary is lost", from, to)
}

// fence has the replicas answer the claim.
func (p *passage) fence() {
	for n := range p.seen.Instances[1:] {
		p.seen.Instances[n+1].Agent.Fence = &api.Fence{Epoch: p.seen.Record.Epoch, Claim: "mine", Received: testServerUUID(0) + ":1-10"}
	}
}

// rest chooses the second instance, which leads after 150 ms, has its marker after 170 ms and opens after 200 ms.
func (p *passage) rest(t *testing.T) *v1beta1.Transition {
	t.Helper()
	chosen, leader := p.seen.Record.DeepCopy(), testMember(1)
	chosen.Phase, chosen.Primary = v1beta1.RecordChosen, &leader
	p.write(chosen, topology.RuleChoose, "it has everything", 100, 110)
	p.lookAt(120)
	s := p.seen.Instances[1].Agent
	s.Server.Channel, s.Server.SourceSemiSync = nil, true
	p.lookAt(150)
	marker := testMarker(chosen.Epoch)
	s.Marker = &api.Marker{GTID: marker, Epoch: chosen.Epoch, Claim: "mine", State: api.MarkerCommitted}
	p.seen.Instances[2].Agent.Server.Received = marker
	p.lookAt(170)
	opened := openedRecord(chosen.Epoch, 1)
	p.write(opened, topology.RuleOpen, "the marker is acknowledged", 172, 180)
	if early := p.finish(p.seen.Record, time.Time{}); early != nil {
		t.Errorf("published before the new primary was open: %+v", early)
	}
	return p.finish(p.seen.Record, p.at(200))
}

func TestAFailoverIsPublishedWithItsProof(t *testing.T) {
	p := newPassage()
	p.seen.Instances[0].Agent, p.seen.Instances[0].Silent = nil, 2*time.Second
	p.lookAt(10)
	p.claim(5, topology.RuleFailover, 20, 30)
	p.fence()
	want := &v1beta1.Transition{
		Kind: v1beta1.TransitionFailover, Reason: "the primary is lost", From: "db-mysql-0", To: "db-mysql-1", Epoch: 5,
		StartedAt:        metav1.NewTime(p.at(30)),
		Steps:            []v1beta1.TransitionStep{{Name: "Fence", Millis: 70}, {Name: "Choose", Millis: 10}, {Name: "Prepare", Millis: 40}, {Name: "Mark", Millis: 20}, {Name: "Open", Millis: 30}},
		WritePauseMillis: 2190,
		Proof: v1beta1.TransitionProof{
			Voters: []string{"db-mysql-0", "db-mysql-1", "db-mysql-2"}, Required: 2,
			PromisedBy: []v1beta1.Promised{
				{Instance: "db-mysql-1", Incarnation: "incarnation-1", Received: testServerUUID(0) + ":1-10"},
				{Instance: "db-mysql-2", Incarnation: "incarnation-2", Received: testServerUUID(0) + ":1-10"},
			},
			Floor: testServerUUID(0) + ":1-10", Chosen: "db-mysql-1", MarkerGTID: testMarker(5), AckedBy: []string{"db-mysql-2"},
		},
	}
	got := p.rest(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if text := announcement(got); text != "Failed over from db-mysql-0 to db-mysql-1 in 2.19 s; no acknowledged transaction was lost" {
		t.Error(text)
	}
	if again := p.finish(p.seen.Record, p.at(300)); again != nil {
		t.Error("published twice")
	}
}

func TestASwitchoverIsCountedFromWhenThePrimaryBeganToClose(t *testing.T) {
	p := newPassage()
	closes := topology.Plan{Decision: topology.Decision{Rule: topology.RuleSwitchover}, Actions: []topology.Action{{Kind: topology.Close, Instance: "db-mysql-0"}}}
	p.planned(&p.seen, closes, p.at(5))
	p.seen.Instances[0].Agent.Closed = &api.Closed{GTIDExecuted: testServerUUID(0) + ":1-10"}
	p.planned(&p.seen, topology.Plan{Decision: topology.Decision{Rule: topology.RuleSwitchover}}, p.at(15))
	p.claim(5, topology.RuleSwitchover, 20, 30)
	p.fence()
	p.seen.Instances[0].Agent.Fence = &api.Fence{Epoch: 5, Claim: "mine", Spared: true, Received: testServerUUID(0) + ":1-10"}
	got := p.rest(t)
	if got.Kind != v1beta1.TransitionSwitchover || got.WritePauseMillis != 195 || !got.StartedAt.Time.Equal(p.at(5)) || len(got.Proof.PromisedBy) != 3 {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(v1beta1.TransitionStep{Name: "Close", Millis: 25}, got.Steps[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if text := announcement(got); text != "Switched over from db-mysql-0 to db-mysql-1 in 0.20 s; no acknowledged transaction was lost" {
		t.Error(text)
	}
}

func TestASecondClaimGoesOnWithTheFirst(t *testing.T) {
	p := newPassage()
	p.seen.Instances[0].Agent, p.seen.Instances[0].Silent = nil, time.Second
	p.lookAt(10)
	p.claim(5, topology.RuleFailover, 20, 30)
	p.write(func() *topology.Record { // the next epoch, in the same words of Decide
		next := p.seen.Record.DeepCopy()
		next.Epoch = 6
		return next
	}(), topology.RuleNextEpoch, "another epoch", 50, 60)
	p.fence()
	got := p.rest(t)
	if got.Epoch != 6 || got.Reason != "the primary is lost" || got.WritePauseMillis != 1190 || !got.StartedAt.Time.Equal(p.at(30)) {
		t.Errorf("%+v", got)
	}
}

func TestAnAcceptedLossIsNotCalledNone(t *testing.T) {
	p := newPassage()
	next := p.seen.Record.DeepCopy()
	next.Epoch, next.Phase, next.Claim, next.Primary = 5, v1beta1.RecordClaimed, "mine", nil
	next.Pending = &topology.Configuration{Voters: []topology.Member{testMember(1), testMember(2)}, AckCount: 1}
	p.write(next, topology.RuleFailover, "a person accepted it", 20, 30)
	p.fence()
	got := p.rest(t)
	if got.LostTransactions != -1 || !cmp.Equal(got.AcceptedLoss, []string{"db-mysql-0"}) {
		t.Errorf("%+v", got)
	}
	if text := announcement(got); text != "Failed over from db-mysql-0 to db-mysql-1 in 0.17 s; writes that only these held may be lost, as was accepted: db-mysql-0" {
		t.Error(text)
	}
}

func TestNoTransitionIsMadeOfWhatIsNone(t *testing.T) {
	leader := testMember(0)
	cases := map[string]func(p *passage){
		"an instance becomes a voter": func(p *passage) {
			next := p.seen.Record.DeepCopy()
			next.Epoch, next.Phase = 5, v1beta1.RecordChosen
			p.write(next, topology.RuleGrow, "it joins", 20, 30)
		},
		"the old primary leads again": func(p *passage) {
			p.claim(5, topology.RuleFailover, 20, 30)
			next := p.seen.Record.DeepCopy()
			next.Phase, next.Primary = v1beta1.RecordChosen, &leader
			p.write(next, topology.RuleChoose, "from its own log", 40, 50)
		},
	}
	for name, drive := range cases {
		t.Run(name, func(t *testing.T) {
			p := newPassage()
			drive(p)
			p.write(openedRecord(5, 0), topology.RuleOpen, "the marker is acknowledged", 60, 70)
			if got := p.finish(p.seen.Record, p.at(80)); got != nil {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestATransitionThatNobodyWatchedIsToldAsFarAsItIsKnown(t *testing.T) {
	last := &v1beta1.Transition{From: "db-mysql-2", To: "db-mysql-0", Epoch: 4}
	cases := map[string]struct {
		record *topology.Record
		last   *v1beta1.Transition
		want   string // To
	}{
		"another leads in a later epoch": {openedRecord(6, 1), last, "db-mysql-1"},
		"the same leads":                 {openedRecord(6, 0), last, ""},
		"it was published":               {openedRecord(4, 1), last, ""},
		"there was none before":          {openedRecord(6, 1), nil, ""},
		"there is no record":             {nil, last, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := unseen(c.record, c.last)
			if c.want == "" && got != nil || c.want != "" && (got == nil || got.To != c.want || got.From != "db-mysql-0") {
				t.Errorf("%+v", got)
			}
		})
	}
}
