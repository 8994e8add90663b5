// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// closing is how long a primary may stay closed for a switchover before it opens again by itself.
const closing = 10 * time.Second

// wantsSwitchover reports whether the primary is to hand over: somebody asks for another, or it is to stop.
func wantsSwitchover(want Desired, p *Instance) bool {
	if p.Stopping || p.Agent.Terminating || slices.Contains(want.Fenced, p.Name) {
		return true
	}
	return want.Switchover != nil && want.Switchover.Target != p.Name
}

// leaves reports whether the primary goes, whether or not it can hand over.
func leaves(want Desired, p *Instance) bool {
	return p.Stopping || p.Agent.Terminating || slices.Contains(want.Fenced, p.Name)
}

// switchover hands over from an open primary that works. Everything is checked before anything is touched; until the
// claim everything can be undone, after it there is only forward.
func switchover(want Desired, seen Observed, p *Instance) Plan {
	r := seen.Record
	next, refused := successor(want, seen, p)
	if closed := p.Agent.Closed; refused == "" && closed != nil && closed.Error != "" {
		refused = fmt.Sprintf("%s could not be closed to writes: %s", p.Name, closed.Error)
	}
	if refused != "" {
		return cannotSwitch(want, seen, p, refused)
	}
	closed := p.Agent.Closed
	if closed != nil && closed.GTIDExecuted != "" && !containsSet(closed.GTIDExecuted, p.Agent.Server.GTIDExecuted) {
		return serveOn(want, seen, p) // it was to open again meanwhile, and has committed its marker: it could not be spared
	}
	plan := Plan{Requeue: lookAgain, Decision: Decision{Rule: RuleSwitchover, Reason: fmt.Sprintf("%s hands over to %s", p.Name, next.Name)}}
	switch {
	case !knows(p, r) || !knows(next, r):
		plan.Actions, plan.Decision.WaitingFor = showRecord(seen), "the agents of both"
	case closed == nil:
		plan.Decision.WaitingFor = p.Name + " to be closed"
		plan.Actions = []Action{{Kind: Close, Instance: p.Name, Record: r, Duration: closing}}
	case closed.GTIDExecuted == "":
		plan.Decision.WaitingFor = "the sessions on " + p.Name + " to end"
	case !containsSet(next.Agent.Server.GTIDExecuted, closed.GTIDExecuted):
		plan.Decision.WaitingFor = next.Name + " to apply the last writes"
	default:
		return claim(want, seen, RuleSwitchover, fmt.Sprintf("%s hands over; epoch %d is claimed", p.Name, nextNumber(seen)))
	}
	return plan
}

// cannotSwitch leaves everything as it is and says why; a primary that goes anyway is stopped without a successor.
func cannotSwitch(want Desired, seen Observed, p *Instance, refused string) Plan {
	if !leaves(want, p) {
		plan := serveOn(want, seen, p)
		plan.Refused = refused
		return plan
	}
	if p.running() && !p.closed() && prospects(want, seen, p) > seen.Record.LastOpened.AckCount {
		reconciling, _ := reconcile(seen, p)
		return Plan{
			Decision: Decision{RuleSwitchover, fmt.Sprintf("%s is to stop, and serves until somebody can take over", p.Name), refused},
			Actions:  append(append(showRecord(seen), reconciling...), followers(want, seen, p)...), Requeue: lookAgain, Refused: refused,
		}
	}
	plan := Plan{
		Decision: Decision{RuleStop, fmt.Sprintf("%s stops, and nobody can take over: %s", p.Name, refused), p.Name},
		Actions:  showRecord(seen), Requeue: lookAgain, Refused: refused,
	}
	if p.Agent.Mysqld == api.MysqldRunning {
		plan.Actions = append(plan.Actions, Action{Kind: Stop, Instance: p.Name, Record: seen.Record})
	}
	return plan
}

// prospects counts the voters that can take over or acknowledge, or will when they are back. One that is itself to stop
// will not, nor one whose data is lost.
func prospects(want Desired, seen Observed, p *Instance) int32 {
	n := int32(0)
	for _, v := range seen.Record.LastOpened.Voters {
		i, expected := seen.holder(v), seen.find(v.Name)
		switch {
		case i == p || expected == nil || expected.Stopping || slices.Contains(want.Fenced, v.Name):
		case unfit(want, seen, v, p) == "":
			n++
		}
	}
	return n
}

// successor returns the instance to hand over to, or why there is none.
func successor(want Desired, seen Observed, p *Instance) (next *Instance, refused string) {
	r := seen.Record
	target := ""
	if want.Switchover != nil {
		target = want.Switchover.Target
	}
	if target != "" && seen.find(target) == nil {
		return nil, fmt.Sprintf("there is no instance %s", target)
	}
	able, best := int32(0), int64(-1)
	var notReady []string
	for _, v := range r.LastOpened.Voters {
		i := seen.holder(v)
		if i == p {
			continue
		}
		if why := unready(want, seen, i, p, v); why != "" {
			notReady = append(notReady, why)
			continue
		}
		able++
		if gap := distance(i, p); (target == "" || target == i.Name) && (best < 0 || gap < best) {
			next, best = i, gap
		}
	}
	if !leaves(want, p) {
		able++ // the old primary acknowledges then
	}
	switch {
	case next == nil && target != "" && !slices.ContainsFunc(notReady, func(s string) bool { return strings.HasPrefix(s, target) }):
		return nil, target + " does not vote"
	case next == nil:
		return nil, strings.Join(append(notReady, firstOf(len(notReady), "no other instance votes")...), "; ")
	case able < r.LastOpened.AckCount+1:
		return nil, fmt.Sprintf("%d replicas would have to acknowledge the writes of %s, %d could; %s", r.LastOpened.AckCount, next.Name, able-1, strings.Join(notReady, "; "))
	case seen.OwnLog:
		return nil, fmt.Sprintf("acknowledged writes may be on the volume of %s alone", p.Name)
	}
	return next, ""
}

func firstOf(have int, otherwise string) []string {
	if have > 0 {
		return nil
	}
	return []string{otherwise}
}

// unready says why a voter cannot take over from a primary that works, "" when it can.
func unready(want Desired, seen Observed, i, p *Instance, v Member) string {
	switch {
	case i == nil || i.Agent == nil || !i.running() || i.Stopping:
		return describe(seen.find(v.Name), v)
	case i.Agent.Unvouched != "" || i.Agent.Diverged != nil:
		return i.Name + " has no vote: " + i.Agent.Unvouched
	case slices.Contains(want.Fenced, i.Name):
		return i.Name + " is fenced"
	case !follows(i, p, api.AckOn) || i.Agent.Server.Channel.Receiver != receiverConnected:
		return i.Name + " is not connected to " + p.Name
	case time.Duration(i.Agent.Server.Channel.QuietMillis)*time.Millisecond >= want.Detection:
		return i.Name + " has heard nothing of " + p.Name + " for a while"
	case p.closed():
		return "" // nothing new comes; it catches up
	case !caughtUp(i) || !near(i, p):
		return fmt.Sprintf("%s is behind by %d s", i.Name, max(i.Agent.Server.Channel.LagSeconds, 0))
	}
	return ""
}

// distance is how many transactions of p an instance has not executed.
func distance(i, p *Instance) int64 {
	theirs, errTheirs := gtid.Parse(p.Agent.Server.GTIDExecuted)
	mine, errMine := gtid.Parse(i.Agent.Server.GTIDExecuted)
	if errTheirs != nil || errMine != nil {
		return gtid.MaxNumber
	}
	return theirs.Subtract(mine).Count()
}

// containsSet compares two sets given as text; what cannot be read contains nothing and is in nothing.
func containsSet(superset, subset string) bool {
	whole, err := gtid.Parse(superset)
	if err != nil {
		return false
	}
	part, err := gtid.Parse(subset)
	return err == nil && whole.Contains(part)
}
