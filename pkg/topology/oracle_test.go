// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// The oracle judges by the words of the scenario, from which the observation was made, and never asks the code under test.

func (p *part) agentAnswers() bool { return p.life != silent && p.life != hiccup && p.life != gone }

// hasData: its agent reports the incarnation that the record counts.
func (p *part) hasData() bool { return p.agentAnswers() && p.life != lostVolume }

func (p *part) dead() bool { return p.life == down || p.life == unjudged }

// accepts reports whether a person gave an instance up.
func (s *scenario) accepts(role int) bool {
	return (role == roleA && (s.wish == wishLossA || s.wish == wishLossAC)) || (role == roleC && s.wish == wishLossAC)
}

func (s *scenario) personStops(role int) bool {
	return role == roleA && s.wish == wishFencedA || role == roleC && s.wish == wishFencedC
}

// counts: the instance may take part in a takeover. Its word is of use, and it stays.
func (s *scenario) counts(role int) bool {
	p := &s.parts[role]
	return p.life == running && !p.unvouched && !p.diverged && !p.stopping && !s.personStops(role)
}

// promises: it counts, and its fence is of this very epoch and claim.
func (s *scenario) promises(role int) bool {
	return s.counts(role) && s.parts[role].fence == fencedHere && !s.parts[role].unknowing
}

// conf is a configuration by roles; the primary of the last opened epoch is always a member.
type conf struct {
	ackers []int
	n, k   int
}

// confs are the configurations under which writes may have been acknowledged.
func (s *scenario) confs() []conf {
	all := []conf{{[]int{roleB, roleC}, 3, 1}}
	if s.stage == stageOpened {
		return all
	}
	switch s.side {
	case sideShrink:
		all = append(all, conf{[]int{roleB}, 2, 1})
	case sideGrow:
		all = append(all, conf{[]int{roleB, roleC, roleD}, 4, 2})
	case sideAlone:
		all = append(all, conf{[]int{roleB}, 1, 0})
	default:
	}
	return all
}

// quorum: whoever has an acknowledged write is among those that answer, |S ∩ ackers| >= n − k for every configuration. What
// a person gave up is not waited for, but never everything.
func (s *scenario) quorum(answers func(role int) bool) bool {
	return !slices.ContainsFunc(s.confs(), func(c conf) bool {
		have, missing, accepted := 0, 0, 0
		for _, role := range c.ackers {
			switch {
			case answers(role):
				have++
			case s.accepts(role):
				accepted++
			default:
				missing++
			}
		}
		enough := have >= c.n-c.k || have+accepted >= c.n-c.k && accepted > 0 || missing == 0 && s.accepts(roleA)
		return have == 0 || !enough
	})
}

// next are the voters of a takeover's epoch and its k.
func (s *scenario) next() (voters []int, k int) {
	switch {
	case s.wish == wishLossA:
		return []int{roleB, roleC}, 1
	case s.wish == wishLossAC || s.side == sideAlone:
		return []int{roleB}, 0
	default:
		return []int{roleA, roleB, roleC}, 1
	}
}

// canFinish: a takeover that is begun now would come to its end, as far as the present reports tell.
func (s *scenario) canFinish() bool {
	voters, k := s.next()
	able, marked := 0, false
	for _, role := range voters {
		if role != roleA && s.counts(role) {
			able++
			marked = marked || s.parts[role].recv >= levelMarker
		}
	}
	return s.quorum(s.counts) && able >= k+1 && marked && (!s.ownLog || s.accepts(roleA))
}

// missesA: the agent of a replica says that nothing comes from the primary of the last opened epoch.
func (s *scenario) missesA(role int) bool {
	p := &s.parts[role]
	return p.hasData() && (p.dead() || p.life == running && (p.leads || p.hearing != hears || p.toB))
}

// suspected: the primary's own agent says that it does not work, or it is silent and a majority of the others misses it.
func (s *scenario) suspected() bool {
	p := &s.parts[roleA]
	switch p.life {
	case silent, gone:
		return s.accepts(roleA) || s.missesA(roleB) && s.missesA(roleC)
	case hiccup:
		return s.accepts(roleA)
	case running:
		return p.stalled || p.open && s.unheard() && !s.leavesA() // one that goes hands over, or stops first
	default:
		return p.dead() || p.life == lostVolume || p.life == hung
	}
}

// unheard: an open primary whose replicas' agents answer, and none of whose replicas hears it.
func (s *scenario) unheard() bool {
	deaf := 0
	for _, role := range []int{roleB, roleC} {
		p := &s.parts[role]
		switch {
		case p.life != running:
		case !p.leads && (p.hearing == quietSource || p.hearing == connecting):
			deaf++
		default:
			return false
		}
	}
	return deaf > 0
}

// leavesA: the primary goes, with or without a successor.
func (s *scenario) leavesA() bool { return s.parts[roleA].stopping || s.wish == wishFencedA }

// handsOver: the primary was asked to go, is closed, and somebody who is connected to it has executed all of it.
func (s *scenario) handsOver() bool {
	a := &s.parts[roleA]
	if !s.leavesA() && s.wish != wishAny && s.wish != wishC || a.life != running || !a.closed {
		return false
	}
	able, complete := 0, false
	for _, role := range []int{roleB, roleC} {
		p := &s.parts[role]
		if s.counts(role) && p.hearing == hears && !p.toB {
			able++
			complete = complete || p.exec == levelAll && !p.unknowing && (s.wish != wishC || role == roleC)
		}
	}
	if !s.leavesA() {
		able++
	}
	return able >= 2 && complete && !s.ownLog
}

// candidateLost: the candidate of an epoch of our own cannot go on.
func (s *scenario) candidateLost() bool {
	p := &s.parts[roleB]
	switch p.life {
	case running:
		c := &s.parts[roleC]
		if (c.life == lostVolume || c.life == unjudged || c.diverged) && s.parts[roleA].life == unjudged && !s.parts[roleA].stopping && s.wish != wishLossA && s.wish != wishLossAC {
			return true // nobody is left to acknowledge, and the old primary holds everything
		}
		return s.forgot() || p.stopping || p.broken && (s.betterC() || s.atRestA())
	case hiccup:
		return false
	case mute:
		return p.stopping
	default:
		return true
	}
}

// forgot: nobody knows any more what the candidate held when it promised.
func (s *scenario) forgot() bool {
	p := &s.parts[roleB]
	return (p.fence != fencedHere || p.unknowing) && !p.leads
}

// betterC: db-mysql-2 holds as much as a candidate that cannot apply it, and could lead.
func (s *scenario) betterC() bool {
	voters, _ := s.next()
	c := &s.parts[roleC]
	return slices.Contains(voters, roleC) && s.promises(roleC) && !c.broken && c.recv >= s.parts[roleB].recv
}

// atRestA: the old primary is there, serves nobody and has promised; it holds everything.
func (s *scenario) atRestA() bool {
	a := &s.parts[roleA]
	return a.life == running && !a.open && !a.stopping && !a.diverged && !a.unknowing
}

// mayClaim says whether another epoch without a primary may be begun.
func (s *scenario) mayClaim() bool {
	switch {
	case s.stage == stageClaimed:
		return false
	case s.stage == stageChosenB:
		b := &s.parts[roleB]
		same := b.life == running && b.broken && !s.forgot() && !b.stopping && !s.betterC() // would be chosen again
		return s.candidateLost() && s.canFinish() && !same
	case s.stage == stageOpened && s.handsOver():
		return true
	}
	return s.suspected() && s.canFinish() && s.wish != wishManual
}

// spared: the old primary handed over; its fence says what it ever had.
func (s *scenario) spared() bool {
	return s.parts[roleA].hasData() && s.parts[roleA].fence == sparedLeader
}

// mayLead says whether the old primary's successor may be that instance.
func (s *scenario) mayLead(role int) bool {
	voters, k := s.next()
	if role == roleA || !slices.Contains(voters, role) || !s.promises(role) || (s.ownLog && !s.accepts(roleA)) {
		return false
	}
	if !s.spared() && !s.quorum(s.promises) {
		return false
	}
	able, most := 0, s.floor
	for _, other := range []int{roleB, roleC, roleD} {
		if other == roleD && s.side != sideGrow || !s.promises(other) {
			continue
		}
		if slices.Contains(voters, other) {
			able++
		}
		most = max(most, s.parts[other].recv)
	}
	if s.spared() {
		most = max(s.floor, levelAll)
		if !s.parts[roleA].stopping && slices.Contains(voters, roleA) {
			able++
		}
	}
	have := s.parts[role].recv
	return have >= levelMarker && have >= most && able >= k+1
}

// judgePlan says what is wrong with a plan.
func judgePlan(s *scenario, seen *Observed, plan *Plan) []string {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if plan.Decision.Rule == "" || plan.Decision.Reason == "" {
		complain("it does not say why")
	}
	for n := range plan.Actions {
		a := &plan.Actions[n]
		if a.Kind != WriteRecord {
			wrong = append(wrong, s.judgeCommand(seen, plan, a)...)
			continue
		}
		if len(plan.Actions) > 1 {
			complain("the record is written among other actions")
		}
		wrong = append(wrong, s.judgeRecord(seen.Record, a.Record)...)
	}
	return append(wrong, s.judgeProgress(plan)...)
}

// judgeRecord judges a write of the record.
func (s *scenario) judgeRecord(r, next *Record) []string {
	var wrong []string
	if next.Version != r.Version || next.ClusterUUID != r.ClusterUUID {
		wrong = append(wrong, "the version or the cluster's UUID changes")
	}
	if next.Epoch == r.Epoch {
		return append(wrong, s.judgeStep(r, next)...)
	}
	if next.Epoch != r.Epoch+1 || next.Claim != "fresh" {
		wrong = append(wrong, fmt.Sprintf("epoch %d of claim %q follows %d", next.Epoch, next.Claim, r.Epoch))
	}
	if !reflect.DeepEqual(next.LastOpened, r.LastOpened) {
		wrong = append(wrong, "what was opened last changes without an opening")
	}
	if r.Pending != nil && !remembersPending(next, r.Pending) {
		wrong = append(wrong, "what was pending is forgotten")
	}
	for _, c := range s.confs() {
		if !remembers(next, c) {
			wrong = append(wrong, fmt.Sprintf("the configuration of %v is forgotten", c.ackers))
		}
	}
	switch next.Phase {
	case v1beta1.RecordClaimed:
		if next.Primary != nil || !s.mayClaim() {
			wrong = append(wrong, "an epoch is claimed without need, or without a chance")
		}
	case v1beta1.RecordChosen:
		a := &s.parts[roleA]
		if next.Primary == nil || next.Primary.Incarnation != worldMember(roleA).Incarnation {
			wrong = append(wrong, "another primary is chosen without a claim")
		} else if !a.hasData() || a.stopping {
			wrong = append(wrong, "the primary of the new epoch is not there")
		} else if !votesInWhatOpens(next) {
			wrong = append(wrong, "the primary has no vote in what its epoch opens with")
		}
		if s.stage == stageOpened && s.suspected() && s.canFinish() {
			wrong = append(wrong, "the voters are changed under a lost primary")
		}
	default:
		wrong = append(wrong, "a new epoch is opened at once")
	}
	return wrong
}

// votesInWhatOpens: k counts the others, so the primary itself must be a voter.
func votesInWhatOpens(r *Record) bool {
	opens := r.LastOpened.Configuration
	if r.Pending != nil {
		opens = *r.Pending
	}
	return slices.Contains(opens.Voters, *r.Primary)
}

// remembersPending reports whether a record still counts what was pending before.
func remembersPending(r *Record, before *Configuration) bool {
	return r.Pending != nil && reflect.DeepEqual(r.Pending, before) ||
		slices.ContainsFunc(r.Earlier, func(c Configuration) bool { return reflect.DeepEqual(&c, before) })
}

// remembers reports whether a record still counts a configuration.
func remembers(r *Record, c conf) bool {
	all := append([]Configuration{r.LastOpened.Configuration}, r.Earlier...)
	if r.Pending != nil {
		all = append(all, *r.Pending)
	}
	return slices.ContainsFunc(all, func(have Configuration) bool {
		return len(have.Voters) == c.n && int(have.AckCount) == c.k && !slices.ContainsFunc(c.ackers, func(role int) bool {
			return !slices.Contains(have.Voters, worldMember(role))
		})
	})
}

// judgeStep judges a write within one epoch.
func (s *scenario) judgeStep(r, next *Record) []string {
	if next.Claim != r.Claim || s.foreign() || s.stage == stageOpened {
		return []string{"an epoch of another claim is continued"}
	}
	switch {
	case next.Phase == v1beta1.RecordChosen && s.stage == stageClaimed:
		return s.judgeChoice(r, next)
	case next.Phase == v1beta1.RecordOpened && s.stage != stageClaimed:
		return s.judgeOpening(r, next)
	}
	return []string{fmt.Sprintf("phase %s follows %s", next.Phase, r.Phase)}
}

// judgeChoice judges who was chosen.
func (s *scenario) judgeChoice(r, next *Record) []string {
	role := int(next.Primary.Ordinal)
	same := reflect.DeepEqual(next.Earlier, r.Earlier) && reflect.DeepEqual(next.Pending, r.Pending)
	switch {
	case *next.Primary != worldMember(role):
		return []string{"a stranger is chosen"}
	case !reflect.DeepEqual(next.LastOpened, r.LastOpened) || !same && (role != roleA || r.Pending == nil):
		return []string{"the choice changes what counts"}
	case !votesInWhatOpens(next):
		return []string{"the primary has no vote in what its epoch opens with"}
	}
	if role != roleA {
		if !s.mayLead(role) {
			return []string{"one is chosen that may lack an acknowledged write, or that can never open"}
		}
		return nil
	}
	a := &s.parts[roleA]
	if !a.hasData() || a.stopping || a.fence == unfenced && !a.dead() {
		return []string{"the old primary is chosen although its log is not at rest"}
	}
	for _, other := range []int{roleB, roleC} {
		if s.mayLead(other) && (!s.spared() || s.wish == wishNothing) {
			return []string{"the old primary is chosen although another could lead"}
		}
	}
	return nil
}

// judgeOpening judges whether the marker is where it must be.
func (s *scenario) judgeOpening(r, next *Record) []string {
	leader, others, k := roleA, []int{roleB, roleC}, 1
	if s.stage == stageChosenB {
		leader, others = roleB, []int{roleA, roleC}
		if voters, ack := s.next(); len(voters) < 3 {
			others, k = slices.DeleteFunc(slices.Clone(voters), func(role int) bool { return role == roleB }), ack
		}
	} else {
		switch s.side {
		case sideShrink:
			others = []int{roleB}
		case sideGrow:
			others, k = append(others, roleD), 2
		default:
		}
	}
	have := 0
	for _, role := range others {
		if p := &s.parts[role]; p.life == running && p.marked && !p.unknowing {
			have++
		} else if role == roleD {
			return []string{"an epoch is opened without its joiner"}
		}
	}
	p := &s.parts[leader]
	switch {
	case p.life != running || p.marker != committedMarker || have < k:
		return []string{"an epoch is opened without its marker"}
	case next.LastOpened == nil || next.LastOpened.Epoch != r.Epoch || next.LastOpened.Primary != worldMember(leader) || next.LastOpened.MarkerGTID != markerSix:
		return []string{"what was opened is noted wrongly"}
	case next.Pending != nil || next.Earlier != nil || len(next.LastOpened.Voters) != len(others)+1 || int(next.LastOpened.AckCount) != k:
		return []string{"the opened configuration is noted wrongly"}
	}
	return nil
}

// leader is the role of the record's primary, -1 for none.
func (s *scenario) leader() int {
	switch s.stage {
	case stageClaimed, stageClaimedForeign:
		return -1
	case stageChosenB, stageChosenBForeign:
		return roleB
	default:
		return roleA
	}
}

// judgeCommand judges one command.
func (s *scenario) judgeCommand(seen *Observed, plan *Plan, a *Action) []string {
	role := slices.IndexFunc(seen.Instances, func(i Instance) bool { return i.Name == a.Instance })
	if role < 0 {
		return []string{"a command for nobody"}
	}
	p := &s.parts[role]
	var wrong []string
	complain := func(when bool, what string) {
		if when {
			wrong = append(wrong, fmt.Sprintf("%s %s: %s", a.Kind, a.Instance, what))
		}
	}
	complain(!p.agentAnswers(), "it does not answer")
	complain(s.foreign() && a.Kind != Promise && a.Kind != Start, "the epoch is somebody else's")
	complain(a.Record != seen.Record, "it carries another record")
	complain(p.stopping && !slices.Contains([]ActionKind{Promise, Stop, Close}, a.Kind), "its Pod is being stopped")
	leads := role == s.leader()
	switch a.Kind {
	case Promise, Admit:
	case Start:
		complain(!p.dead(), "mysqld is not down")
		complain(p.life == unjudged && !leads, "it led, and was not compared")
		complain(s.personStops(role), "a person wants it down")
	case Follow:
		wrong = append(wrong, s.judgeFollow(a, role)...)
	case Lead, Mark:
		complain(!leads || p.life != running, "it is not the primary")
		complain(s.stage == stageChosenB && p.exec < p.recv && !p.leads, "it has not applied everything")
		complain(s.stage == stageChosenB && p.fence != fencedHere && !p.leads, "nobody knows what it held")
		complain(a.Kind == Mark && !p.leads && !slices.ContainsFunc(plan.Actions, func(b Action) bool { return b.Kind == Lead }), "semi-sync is off")
	case Apply:
		complain(!leads || s.stage != stageChosenB || p.life != running, "it is not to take over")
	case Open:
		complain(s.stage != stageOpened || p.life != running, "the epoch is not opened")
		complain(!leads && (p.hearing != hears && p.hearing != quietSource || p.toB), "it does not follow")
	case Close:
		complain(!leads || s.stage != stageOpened || !p.open, "it is no open primary")
		complain(!s.leavesA() && s.wish != wishAny && s.wish != wishC, "nobody asked for it")
		complain(s.stage == stageOpened && !s.canFinishHandOver(), "nobody could take over")
	case Stop:
		complain(!s.personStops(role) && (!leads || !p.stopping), "nobody wants it down")
	case LockOut:
		complain(!leads || s.side != sideShrink, "nobody leaves")
		complain(!slices.Equal(a.Members, []string{worldMember(roleC).Incarnation}), "it needs others' acknowledgements")
	case Return, Discard, Await:
		complain(leads || s.stage != stageOpened, "there is no open epoch of another")
		complain(!s.parts[roleA].open, "the primary is not open")
		complain(a.Kind == Discard, "it votes")
		complain(a.Kind == Return && p.life == running && !p.alien && p.recv != levelOld, "it holds nothing of its own")
	default:
		complain(true, "nothing is to be filled")
	}
	return wrong
}

// canFinishHandOver: somebody who was asked for is connected, and enough others can acknowledge its writes.
func (s *scenario) canFinishHandOver() bool {
	able, asked := 0, false
	for _, role := range []int{roleB, roleC} {
		if p := &s.parts[role]; s.counts(role) && p.hearing == hears && !p.toB {
			able++
			asked = asked || s.wish != wishC || role == roleC
		}
	}
	if !s.leavesA() {
		able++
	}
	return asked && able >= 2 && !s.ownLog
}

// judgeFollow judges who is made to follow whom.
func (s *scenario) judgeFollow(a *Action, role int) []string {
	var wrong []string
	complain := func(when bool, what string) {
		if when {
			wrong = append(wrong, fmt.Sprintf("Follow %s: %s", a.Instance, what))
		}
	}
	p, leader := &s.parts[role], s.leader()
	complain(leader < 0 || role == leader, "there is nobody to follow")
	if leader < 0 {
		return wrong
	}
	source := &s.parts[leader]
	complain(a.Peer != worldName(leader) || source.life != running, "not the primary")
	complain(p.life != running || p.diverged || p.leads, "it is in no state to follow")
	complain(p.alien || p.recv == levelOld, "it holds what the primary does not have")
	complain(leader == roleB && p.recv > source.exec, "it holds what the primary does not have yet")
	complain(s.personStops(role), "a person wants it down")
	votes := role != roleD
	if s.stage == stageChosenA {
		votes = role == roleB || role == roleC && s.side != sideShrink || role == roleD && s.side == sideGrow
	} else if voters, _ := s.next(); s.stage == stageChosenB {
		votes = slices.Contains(voters, role)
	}
	complain(!votes && a.Ack == api.AckOn, "it acknowledges and has no vote")
	complain(votes && a.Ack == api.AckOff && role != roleD, "it votes and does not acknowledge")
	return wrong
}

// judgeProgress complains when nothing is done although everything for it is there.
func (s *scenario) judgeProgress(plan *Plan) []string {
	written := func(phase v1beta1.RecordPhase) bool {
		return len(plan.Actions) == 1 && plan.Actions[0].Kind == WriteRecord && plan.Actions[0].Record.Phase == phase
	}
	sent := func(kind ActionKind, role int) bool {
		return slices.ContainsFunc(plan.Actions, func(a Action) bool { return a.Kind == kind && a.Instance == worldName(role) })
	}
	a, b := &s.parts[roleA], &s.parts[roleB]
	switch {
	case (s.stage == stageOpened || s.foreign()) && s.suspected() && s.canFinish() && s.wish != wishManual:
		if !written(v1beta1.RecordClaimed) && s.wish != wishFencedA {
			return []string{"a lost primary is not replaced"}
		}
	case s.stage == stageOpened && a.dead() && !a.stopping && !s.personStops(roleA):
		if !sent(Start, roleA) {
			return []string{"a primary that nobody can replace is not started"}
		}
	case s.stage == stageClaimed && !s.spared() && (s.mayLead(roleB) || s.mayLead(roleC)):
		if !written(v1beta1.RecordChosen) {
			return []string{"nobody is chosen"}
		}
	case s.stage == stageChosenB && !s.candidateLost() && b.life == running && !b.unknowing:
		step := Lead
		if b.exec < b.recv {
			step = Apply
		}
		if !b.leads && !sent(step, roleB) {
			return []string{"the candidate is not told to go on"}
		}
	}
	return nil
}
