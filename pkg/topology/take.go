// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"

	"github.com/moco-mysql/moco/pkg/agent/api"
)

// takesOver reports whether the chosen primary is another than that of the last opened epoch.
func takesOver(r *Record) bool {
	return r.LastOpened != nil && r.Primary != nil && r.Primary.Incarnation != r.LastOpened.Primary.Incarnation
}

// take drives the candidate of a claimed epoch of our own to Opened: apply everything, lead, followers, marker, record.
// Different instances do their part at the same time; the marker waits in the candidate until followers acknowledge it.
func take(want Desired, seen Observed) Plan {
	r := seen.Record
	p := seen.holder(*r.Primary)
	if lost := unable(want, seen, p); lost != "" {
		return again(want, seen, lost)
	}
	if p == nil {
		return wait(RulePrepare, fmt.Sprintf("%s, chosen for epoch %d, is silent", r.Primary.Name, r.Epoch), describe(seen.find(r.Primary.Name), *r.Primary))
	}
	plan := Plan{
		Decision: Decision{Rule: RulePrepare, Reason: fmt.Sprintf("%s takes over in epoch %d", p.Name, r.Epoch)},
		Actions:  showRecord(seen), Requeue: lookAgain,
	}
	if !p.running() {
		plan.Decision.WaitingFor = describe(p, *r.Primary)
		return plan
	}
	conf, connected := target(r), int32(0)
	for _, v := range conf.Voters {
		i := seen.holder(v)
		if i == p {
			continue
		}
		steps, ready := following(want, seen, i, p, api.AckOn)
		if ready {
			connected++
		}
		for _, a := range steps {
			plan.Actions = append(withoutPromise(plan.Actions, a.Instance), a)
		}
	}
	switch {
	case !sworn(p, r):
		plan.Decision.WaitingFor = "the promise of " + p.Name
		return plan
	case !leads(p, conf.AckCount) && !applied(p, r):
		plan.Decision.WaitingFor = backlog(p, r)
		plan.Actions = append(withoutPromise(plan.Actions, p.Name), Action{Kind: Apply, Instance: p.Name, Record: r})
		return plan
	case !leads(p, conf.AckCount):
		plan.Decision.WaitingFor = p.Name + " to lead"
		plan.Actions = append(withoutPromise(plan.Actions, p.Name), Action{Kind: Lead, Instance: p.Name, Record: r, AckCount: conf.AckCount})
		if p.Agent.Marker == nil {
			plan.Actions = append(plan.Actions, Action{Kind: Mark, Instance: p.Name, Record: r, Attempt: attempt(seen, p)})
		}
		return plan
	}
	without := unmarked(seen, p)
	if len(without) == 0 {
		return openRecord(seen, p)
	}
	marked := marking(seen, p, plan.Actions, without)
	if connected < conf.AckCount {
		marked.Decision.WaitingFor = fmt.Sprintf("%d voters connected to %s (%d are)", conf.AckCount, p.Name, connected)
	}
	return marked
}

// unable says why the candidate cannot go on, "" when it can.
func unable(want Desired, seen Observed, p *Instance) string {
	r := seen.Record
	switch expected := seen.find(r.Primary.Name); {
	case p == nil && (expected == nil || expected.Gone || expected.Agent != nil || expected.Silent >= want.Detection):
		return r.Primary.Name + " was lost while it took over"
	case p == nil:
		return ""
	case p.Agent.Mysqld == api.MysqldDown:
		return fmt.Sprintf("mysqld of %s ended while it took over", p.Name)
	case p.Unanswered > 0 && p.Unanswered >= want.Detection:
		return fmt.Sprintf("mysqld of %s does not answer", p.Name)
	case p.Stopping:
		return p.Name + " is being stopped while it takes over"
	case left(want, seen, p) < target(r).AckCount && present(seen):
		return fmt.Sprintf("too few are left to acknowledge the writes of %s", p.Name)
	case p.running() && promised(p, r) == nil && !leads(p, target(r).AckCount):
		return p.Name + " has forgotten what it held when it promised" // its mysqld or its agent was started again
	case applierError(p) != "" && (better(want, seen, p) || returnable(seen)):
		return fmt.Sprintf("%s cannot apply what it received, and another holds as much", p.Name)
	}
	return ""
}

// left counts the voters that could acknowledge the candidate's writes, now or when they are back: not those whose data is
// lost, and not an old primary that must be compared with an open one first.
func left(want Desired, seen Observed, p *Instance) int32 {
	n := int32(0)
	for _, v := range target(seen.Record).Voters {
		i := seen.holder(v)
		if i == p || (i != nil && (i.Agent.NeedsReturn || i.Agent.Diverged != nil)) {
			continue
		}
		if why := unfit(want, seen, v, p); i != nil || why == "" || why == absent {
			n++
		}
	}
	return n
}

// better reports whether another fenced member that can lead and apply holds as much as the candidate.
func better(want Desired, seen Observed, p *Instance) bool {
	r := seen.Record
	mine, conf := promised(p, r), target(r)
	for _, i := range fenced(want, seen) {
		if i == p || mine == nil || applierError(i) != "" || i.is(r.LastOpened.Primary) || !contains(&conf, i.incarnation()) || !i.running() {
			continue
		}
		if containsSet(promised(i, r).Received, mine.Received) {
			return true
		}
	}
	return false
}

// present reports whether the old primary's data is there and still wanted, so that it could lead again although it does
// not run.
func present(seen Observed) bool {
	old, conf := seen.holder(seen.Record.LastOpened.Primary), target(seen.Record)
	return old != nil && !old.Stopping && old.Agent.Diverged == nil && contains(&conf, old.incarnation())
}

// returnable reports whether the old primary is there, at rest, to lead again in an epoch of its own: it holds everything.
func returnable(seen Observed) bool {
	old := seen.holder(seen.Record.LastOpened.Primary)
	return old != nil && old.running() && !old.Stopping && old.closed() && sworn(old, seen.Record) && old.Agent.Diverged == nil
}

// again begins the epoch after one whose candidate was lost, if enough voters are there, and waits for them otherwise.
func again(want Desired, seen Observed, lost string) Plan {
	lack := obstacle(want, seen)
	if p := seen.holder(*seen.Record.Primary); lack == "" && p != nil && applierError(p) != "" && !better(want, seen, p) && returnable(seen) {
		lack = "another that holds as much and can apply it" // the next choice would be the same
	}
	if lack != "" {
		old := seen.holder(seen.Record.LastOpened.Primary)
		if old != nil && !old.Stopping {
			next := seen.Record.DeepCopy()
			next.Epoch = nextNumber(seen)
			return claimFor(want, seen, RuleNextEpoch, next, seen.Record.LastOpened.Primary)
		}
		plan := wait(RuleHold, lost+"; no other instance can take over", lack)
		plan.Actions = append(showRecord(seen), startFollowers(want, seen)...)
		return plan
	}
	return claim(want, seen, RuleNextEpoch, fmt.Sprintf("%s; epoch %d is claimed", lost, nextNumber(seen)))
}
