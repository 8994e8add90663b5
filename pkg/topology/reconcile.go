// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// reconcile brings instances back whose history may differ from the open primary's, and gives votes back. Nothing that
// it concerns is started or connected before.
func reconcile(seen Observed, p *Instance) (actions []Action, waiting []string) {
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i == p || i.Agent == nil || i.Stopping || !knows(i, seen.Record) || i.Agent.Volume != api.VolumeReady {
			continue
		}
		if returns(seen, i, p) {
			actions = append(actions, Action{Kind: Return, Instance: i.Name, Record: seen.Record, Executed: history(p)})
			waiting = append(waiting, i.Name+": to be compared with "+p.Name)
		}
	}
	vouching, awaited := vouch(seen, p)
	return append(actions, vouching...), append(waiting, awaited...)
}

// returns reports whether an instance must be compared with the open primary before anything else is done to it.
func returns(seen Observed, i, p *Instance) bool {
	if i.Agent.NeedsReturn {
		return i.Agent.Mysqld == api.MysqldDown
	}
	return i.running() && i.Agent.Diverged == nil && voted(seen.Record, i.incarnation()) && !follows(i, p, api.AckOn) && !within(i, p)
}

// within reports whether an instance holds nothing that the primary lacks. Markers are left out, of epochs that were never
// opened, and so is the primary's own line: what was received from it may be newer than what is known of it.
func within(i, p *Instance) bool {
	mine, errMine := gtid.Parse(i.Agent.Server.Received)
	theirs, errTheirs := gtid.Parse(p.Agent.Server.GTIDExecuted)
	if errMine != nil || errTheirs != nil {
		return false
	}
	own := mine.OfUUID(p.Agent.Server.ServerUUID)
	return theirs.Contains(mine.Subtract(own).WithoutTagPrefix(gtid.MarkerTagPrefix))
}

// vouch gives votes back: a connected voter is told of a marker that the primary has not begun, then the primary begins it.
// A learner that lost it before gets it back before it votes: beside a primary that is alone it acknowledges at once.
func vouch(seen Observed, p *Instance) (actions []Action, waiting []string) {
	r := seen.Record
	marker := int64(0)
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i == p || !i.running() || i.Agent.Unvouched == "" || i.Agent.Diverged != nil || i.Stopping || !knows(i, r) {
			continue
		}
		waiting = append(waiting, fmt.Sprintf("%s: its vote (%s)", i.Name, i.Agent.Unvouched))
		ack := api.AckOff
		if IsVoter(r, i.incarnation()) {
			ack = api.AckOn
		}
		if !follows(i, p, ack) || i.Agent.Server.Channel.Receiver != receiverConnected {
			continue
		}
		if attempt := awaits(r, i); attempt > 0 && !has(p.Agent.Server.GTIDExecuted, i.Agent.Awaiting) {
			marker = attempt
			continue
		}
		if i.Agent.Awaiting == "" {
			actions = append(actions, Action{Kind: Await, Instance: i.Name, Record: r, Attempt: p.Agent.StateCounter + firstAwaited})
		}
	}
	if m := p.Agent.Marker; marker > 0 && !p.closed() && (m == nil || m.State != api.MarkerWaiting) {
		actions = append(actions, Action{Kind: Mark, Instance: p.Name, Record: r, Attempt: marker})
	}
	return actions, waiting
}

// firstAwaited keeps the attempts that voters await apart from those of openings, which are state counters.
const firstAwaited = 1 << 40

// awaits returns the attempt of the marker that an instance awaits in this epoch, 0 for none.
func awaits(r *Record, i *Instance) int64 {
	set, err := gtid.Parse(i.Agent.Awaiting)
	if err != nil || set.Count() != 1 || set.HighestMarkerEpoch(r.ClusterUUID) != r.Epoch {
		return 0
	}
	return set.Intervals(set.Sources()[0])[0].First
}

// change begins a change of the voters, if one is needed and can be finished: nil when not.
func change(want Desired, seen Observed, p *Instance) *Plan {
	r := seen.Record
	for _, v := range r.LastOpened.Voters {
		why := unfit(want, seen, v, p)
		if why == "" {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(r.LastOpened.Voters), func(m Member) bool { return m.Incarnation == v.Incarnation })
		next := Configuration{Voters: left, AckCount: AckCount(len(left))}
		least := minVoters
		if slices.Contains(want.AcceptLoss, v.Name) && why != absent {
			least = 1 // a person lets the primary acknowledge alone until it has another
		}
		if len(left) < least || connected(seen, next, p) < next.AckCount || (why == absent && next.AckCount != r.LastOpened.AckCount) {
			continue
		}
		plan := write(RuleShrink, fmt.Sprintf("%s loses its vote in epoch %d: %s", v.Name, r.Epoch+1, why), pending(seen, next))
		return &plan
	}
	return nil
}

// minVoters is the fewest voters that are left by taking votes away: with one alone, writes would have no second copy.
const minVoters = 2

// absent is why a voter that is away too long loses its vote.
const absent = "it is away"

// unfit says why a voter must lose its vote, "" when it keeps it.
func unfit(want Desired, seen Observed, v Member, p *Instance) string {
	i, name := seen.holder(v), v.Name
	if i != nil {
		name = i.Name
	}
	why := replaced(want, name)
	switch {
	case i == p:
		return ""
	case why != "":
		return why
	case i != nil && i.Agent.Diverged != nil:
		return "it executed transactions that the primary does not have"
	case i != nil && i.Away >= want.RemoveAbsent && want.RemoveAbsent > 0:
		return absent
	case i != nil:
		return ""
	}
	expected := seen.find(v.Name)
	switch {
	case expected == nil:
		return ""
	case expected.Agent != nil && expected.Agent.Incarnation != "" && expected.Agent.Volume != api.VolumeWaiting && expected.Agent.Volume != api.VolumeUnreadable:
		return "its volume was lost"
	case expected.Away >= want.RemoveAbsent && want.RemoveAbsent > 0:
		return absent
	}
	return ""
}

// connected counts the replicas of a configuration that acknowledge the primary's writes now.
func connected(seen Observed, c Configuration, p *Instance) int32 {
	n := int32(0)
	for _, v := range c.Voters {
		i := seen.holder(v)
		if i != nil && i != p && i.running() && follows(i, p, api.AckOn) && i.Agent.Server.Channel.Receiver == receiverConnected {
			n++
		}
	}
	return n
}

// pending is the next record, which introduces a configuration under the same primary.
func pending(seen Observed, c Configuration) *Record {
	next := seen.Record.DeepCopy()
	next.Epoch = nextNumber(seen)
	next.Phase, next.Claim, next.Pending = v1beta1.RecordChosen, seen.FreshClaim, &c
	return next
}

// giveUp ends a growth that lost one of its members before it was opened: the configuration from before is opened again, in
// an epoch of its own. Nil when there is nothing to give up. The configuration counts on for the quorum of a takeover, and
// whoever was to join is locked out first.
func giveUp(want Desired, seen Observed, p *Instance) *Plan {
	r := seen.Record
	if r.Pending == nil || r.LastOpened == nil || len(r.Earlier) >= maxEarlier {
		return nil
	}
	joining, lost := false, ""
	for _, v := range r.Pending.Voters {
		joining = joining || !contains(opened(r), v.Incarnation)
		if why := unfit(want, seen, v, p); why != "" {
			lost = fmt.Sprintf("%s: %s", v.Name, why)
		}
	}
	able := int32(0)
	for _, v := range r.LastOpened.Voters {
		if unfit(want, seen, v, p) == "" && seen.holder(v) != p {
			able++
		}
	}
	if !joining || lost == "" || able < r.LastOpened.AckCount {
		return nil
	}
	next := r.DeepCopy()
	next.Epoch = nextNumber(seen)
	next.Claim, next.Earlier, next.Pending = seen.FreshClaim, append(next.Earlier, *r.Pending), nil
	plan := write(RuleShrink, fmt.Sprintf("nobody joins in epoch %d (%s); the voters from before go on in epoch %d", r.Epoch, lost, next.Epoch), next)
	return &plan
}

// leavers are the incarnations that lose their right to acknowledge with a configuration.
func leavers(r *Record, c Configuration) []string {
	if r.LastOpened == nil {
		return nil
	}
	var gone []string
	for _, all := range configurations(r) {
		for _, v := range all.Voters {
			if !contains(&c, v.Incarnation) && !slices.Contains(gone, v.Incarnation) && v.Incarnation != r.Primary.Incarnation {
				gone = append(gone, v.Incarnation)
			}
		}
	}
	return gone
}

// lockedOut reports whether the primary keeps all of them from acknowledging.
func lockedOut(p *Instance, members []string) bool {
	for _, m := range members {
		if !slices.Contains(p.Agent.LockedOut, m) {
			return false
		}
	}
	return true
}
