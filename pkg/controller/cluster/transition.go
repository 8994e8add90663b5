// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/topology"
)

// The steps of a transition, as the status names them.
const (
	stepClose   = "Close"   // the old primary ends its sessions and hands over what it has
	stepFence   = "Fence"   // the voters promise the new epoch
	stepChoose  = "Choose"  // the choice is written
	stepPrepare = "Prepare" // the new primary applies what it has and is made a source
	stepMark    = "Mark"    // the marker is acknowledged
	stepOpen    = "Open"    // the record is opened, and the new primary for clients
)

// span is a time with a beginning and an end.
type span struct{ from, to time.Time }

// timeline is what this process saw of one change of the primary, from the first suspicion to the first client. A moment
// that it did not see is zero.
type timeline struct {
	// before is the epoch that is left, and epoch the last one that was claimed since.
	before v1beta1.OpenedEpoch
	epoch  int64
	kind   v1beta1.TransitionKind
	reason string
	// troubled is since when the old primary was not as it should be; closing since when it was told to close.
	troubled, closing time.Time
	claimed           time.Time
	choice            span
	led, marked       time.Time
	opened, served    time.Time

	promised []v1beta1.Promised
	floor    string
	chosen   string
	marker   string
	acked    []string
	accepted []string
}

// history follows the changes of the primary of one cluster.
type history struct {
	// troubled and closing are as in timeline, before an epoch is claimed.
	troubled, closing time.Time
	// now is the change that is under way, or nil.
	now *timeline
	// last is the one that was completed last by this process, or nil.
	last *v1beta1.Transition
}

// look notes what an observation shows of a change.
func (h *history) look(seen *topology.Observed, now time.Time) {
	r := seen.Record
	if r == nil || r.LastOpened == nil || r.Primary == nil {
		return
	}
	p := holder(seen, r.Primary.Incarnation)
	if h.now == nil || h.now.epoch != r.Epoch || r.Primary.Incarnation == h.now.before.Primary.Incarnation {
		h.suspect(seen, p, now)
		return
	}
	if p == nil || p.Agent.Server == nil {
		return
	}
	s, m := p.Agent.Server, p.Agent.Marker
	if h.now.led.IsZero() && s.Channel == nil && (s.SourceSemiSync || targetOf(r).AckCount == 0) {
		h.now.led = now
	}
	if h.now.marked.IsZero() && m != nil && m.Epoch == r.Epoch && m.State == "Committed" {
		h.now.marked = now
	}
	if r.Phase == v1beta1.RecordOpened && h.now.served.IsZero() && isOpen(p) {
		h.now.served = now
	}
}

// suspect notes since when the primary of an opened epoch is not as it should be.
func (h *history) suspect(seen *topology.Observed, p *topology.Instance, now time.Time) {
	if seen.Record.Phase != v1beta1.RecordOpened {
		return
	}
	if isOpen(p) && p.Agent.StalledMillis == 0 {
		h.troubled = time.Time{}
		return
	}
	if !h.troubled.IsZero() {
		return
	}
	h.troubled = now
	if p != nil {
		h.troubled = now.Add(-time.Duration(p.Agent.StalledMillis) * time.Millisecond)
	} else if i := named(seen, seen.Record.Primary.Name); i != nil {
		h.troubled = now.Add(-i.Silent)
	}
}

// planned notes the closing of the primary, which has no record of its own.
func (h *history) planned(seen *topology.Observed, plan topology.Plan, now time.Time) {
	if seen.Record == nil || seen.Record.Phase != v1beta1.RecordOpened {
		return
	}
	closes := slices.ContainsFunc(plan.Actions, func(a topology.Action) bool { return a.Kind == topology.Close })
	switch {
	case plan.Decision.Rule != topology.RuleSwitchover:
		h.closing = time.Time{}
	case closes && h.closing.IsZero():
		h.closing = now
	}
}

// wrote notes a record that was written, when, and on which observation.
func (h *history) wrote(seen *topology.Observed, decision topology.Decision, next *topology.Record, written span) {
	t := h.now
	switch {
	case next.LastOpened == nil:
	case next.Phase == v1beta1.RecordClaimed:
		h.now = claimed(h, seen, decision, next, written)
	case t == nil || t.epoch != next.Epoch:
		h.now = nil // a change of the voters, or an epoch that the same primary goes on in
	case next.Phase == v1beta1.RecordChosen:
		t.choice, t.floor, t.chosen = written, short(seen.Floor), next.Primary.Name
		t.promised = promises(seen, next, t.before)
		if old := holder(seen, t.before.Primary.Incarnation); old != nil && fencedFor(old, next) && old.Agent.Fence.Spared {
			t.kind = v1beta1.TransitionSwitchover
		}
	case next.Primary.Incarnation == t.before.Primary.Incarnation:
		h.now = nil // it leads again
	default:
		t.opened, t.marker, t.acked = written.to, next.LastOpened.MarkerGTID, ackers(seen, next)
	}
}

// claimed begins a timeline, or takes one up again when an epoch was claimed in vain.
func claimed(h *history, seen *topology.Observed, decision topology.Decision, next *topology.Record, written span) *timeline {
	t := &timeline{
		before: *next.LastOpened.DeepCopy(), epoch: next.Epoch, kind: v1beta1.TransitionFailover, reason: decision.Reason,
		troubled: h.troubled, closing: h.closing, claimed: written.to, accepted: left(next),
	}
	if old := holder(seen, t.before.Primary.Incarnation); old != nil && old.Agent.Closed != nil && old.Agent.Closed.GTIDExecuted != "" {
		t.kind = v1beta1.TransitionSwitchover
	}
	if first := h.now; first != nil && first.before.Epoch == t.before.Epoch {
		t.kind, t.reason, t.troubled, t.closing, t.claimed = first.kind, first.reason, first.troubled, first.closing, first.claimed
	}
	h.troubled, h.closing = time.Time{}, time.Time{}
	return t
}

// left names the voters that an epoch is claimed without.
func left(next *topology.Record) []string {
	if next.Pending == nil {
		return nil
	}
	var names []string
	for _, v := range next.LastOpened.Voters {
		if !votes(next.Pending.Voters, v.Incarnation) {
			names = append(names, v.Name)
		}
	}
	return names
}

func votes(voters []topology.Member, incarnation string) bool {
	return slices.ContainsFunc(voters, func(v topology.Member) bool { return v.Incarnation == incarnation })
}

// fencedFor reports whether an instance was fenced for the epoch of a record.
func fencedFor(i *topology.Instance, r *topology.Record) bool {
	return i.Agent != nil && i.Agent.Fence != nil && i.Agent.Fence.Epoch == r.Epoch && i.Agent.Fence.Claim == r.Claim
}

// promises are the answers of the voters to a claim.
func promises(seen *topology.Observed, r *topology.Record, before v1beta1.OpenedEpoch) []v1beta1.Promised {
	var promised []v1beta1.Promised
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if fencedFor(i, r) && !i.Agent.Fence.Killed && votes(before.Voters, i.Agent.Incarnation) {
			promised = append(promised, v1beta1.Promised{Instance: i.Name, Incarnation: i.Agent.Incarnation, Received: short(i.Agent.Fence.Received)})
		}
	}
	return promised
}

// ackers are the voters but the primary that report the marker of an opened record.
func ackers(seen *topology.Observed, r *topology.Record) []string {
	marker, err := gtid.Parse(r.LastOpened.MarkerGTID)
	if err != nil {
		return nil
	}
	var names []string
	for _, v := range r.LastOpened.Voters {
		i := holder(seen, v.Incarnation)
		if v.Incarnation == r.LastOpened.Primary.Incarnation || i == nil || i.Agent.Server == nil {
			continue
		}
		if received, err := gtid.Parse(i.Agent.Server.Received); err == nil && received.Contains(marker) {
			names = append(names, v.Name)
		}
	}
	return names
}

// targetOf returns the configuration that an epoch of an initialised cluster opens with.
func targetOf(r *topology.Record) topology.Configuration {
	if r.Pending != nil {
		return *r.Pending
	}
	return r.LastOpened.Configuration
}

// short is a GTID set as the status shows it.
func short(text string) string {
	set, err := gtid.Parse(text)
	if err != nil {
		return text
	}
	return set.Shorten(shortGTID)
}

// finish completes the change that is under way if its new primary serves, and returns it; else nil. openedAt is when the
// command Open was carried out; zero when that is not known.
func (h *history) finish(record *topology.Record, openedAt time.Time) *v1beta1.Transition {
	t := h.now
	if t == nil || record == nil || record.Phase != v1beta1.RecordOpened || record.Epoch != t.epoch {
		return nil
	}
	if !openedAt.IsZero() {
		t.served = openedAt
	}
	if t.opened.IsZero() || t.served.IsZero() {
		return nil
	}
	h.now, h.last = nil, t.transition()
	return h.last
}

// transition puts a timeline into the words of the status.
func (t *timeline) transition() *v1beta1.Transition {
	made := &v1beta1.Transition{
		Kind: t.kind, Reason: bounded(t.reason), From: t.before.Primary.Name, To: t.chosen, Epoch: t.epoch,
		StartedAt: metav1.NewTime(t.claimed), AcceptedLoss: t.accepted, Steps: t.steps(),
		Proof: v1beta1.TransitionProof{
			Voters: namesOf(t.before.Voters), Required: int32(len(t.before.Voters)) - t.before.AckCount, PromisedBy: append([]v1beta1.Promised{}, t.promised...),
			Floor: t.floor, Chosen: t.chosen, MarkerGTID: t.marker, AckedBy: append([]string{}, t.acked...),
		},
	}
	since := t.troubled
	if t.kind == v1beta1.TransitionSwitchover && !t.closing.IsZero() {
		since, made.StartedAt = t.closing, metav1.NewTime(t.closing)
	}
	if since.IsZero() {
		since = t.claimed
	}
	made.WritePauseMillis = t.served.Sub(since).Milliseconds()
	if len(t.accepted) > 0 {
		made.LostTransactions = -1
	}
	return made
}

// steps are those whose beginning and end were seen.
func (t *timeline) steps() []v1beta1.TransitionStep {
	led := t.led
	if led.IsZero() {
		led = t.marked // too quick to be seen on its own
	}
	all := []struct {
		name string
		span
	}{
		{stepClose, span{t.closing, t.claimed}},
		{stepFence, span{t.claimed, t.choice.from}},
		{stepChoose, t.choice},
		{stepPrepare, span{t.choice.to, led}},
		{stepMark, span{led, t.marked}},
		{stepOpen, span{t.marked, t.served}},
	}
	var steps []v1beta1.TransitionStep
	for _, s := range all {
		if !s.from.IsZero() && !s.to.Before(s.from) {
			steps = append(steps, v1beta1.TransitionStep{Name: s.name, Millis: s.to.Sub(s.from).Milliseconds()})
		}
	}
	return steps
}

func namesOf(members []topology.Member) []string {
	names := make([]string, 0, len(members))
	for _, m := range members {
		names = append(names, m.Name)
	}
	return names
}

// unseen returns the transition that ended while no controller watched, as far as it is known, or nil. Without an earlier
// transition there is nothing to tell it from the first opening of the cluster.
func unseen(record *topology.Record, last *v1beta1.Transition) *v1beta1.Transition {
	if record == nil || last == nil || record.Phase != v1beta1.RecordOpened || record.Epoch <= last.Epoch || record.Primary.Name == last.To {
		return nil
	}
	opened := record.LastOpened
	return &v1beta1.Transition{
		Kind: v1beta1.TransitionFailover, Reason: "the controller was restarted meanwhile; what led to it and its steps are not known",
		From: last.To, To: opened.Primary.Name, Epoch: opened.Epoch, StartedAt: last.StartedAt,
		Proof: v1beta1.TransitionProof{
			Voters: namesOf(opened.Voters), Required: int32(len(opened.Voters)) - opened.AckCount, PromisedBy: []v1beta1.Promised{},
			Chosen: opened.Primary.Name, MarkerGTID: opened.MarkerGTID, AckedBy: []string{},
		},
	}
}

// announcement is the sentence of the event about a transition.
func announcement(t *v1beta1.Transition) string {
	verb := "Failed over"
	if t.Kind == v1beta1.TransitionSwitchover {
		verb = "Switched over"
	}
	text := fmt.Sprintf("%s from %s to %s in %.2f s; ", verb, t.From, t.To, float64(t.WritePauseMillis)/1000)
	if t.LostTransactions != 0 {
		return text + "writes that only these held may be lost, as was accepted: " + strings.Join(t.AcceptedLoss, ", ")
	}
	return text + "no acknowledged transaction was lost"
}
