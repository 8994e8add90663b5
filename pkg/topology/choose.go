// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// promised returns what an instance held when it was fenced for the record's epoch, or nil. It is of the mysqld that runs.
func promised(i *Instance, r *Record) *api.Fence {
	if i == nil || i.Agent == nil || i.Agent.Fence == nil {
		return nil
	}
	f := i.Agent.Fence
	if f.Epoch != r.Epoch || f.Claim != r.Claim || i.Agent.PromisedEpoch != r.Epoch || i.Agent.PromisedClaim != r.Claim {
		return nil
	}
	return f
}

// collect gathers the promises of a claimed epoch of our own and chooses its primary.
func collect(want Desired, seen Observed) Plan {
	r := seen.Record
	actions := append(fenceAll(seen), startFollowers(want, seen)...)
	old := seen.holder(r.LastOpened.Primary)
	spared := old != nil && promised(old, r) != nil && promised(old, r).Spared && has(promised(old, r).Received, r.LastOpened.MarkerGTID)
	members := fenced(want, seen)
	outstanding := toPromise(want, seen)
	lack := ""
	if spared && want.Switchover != nil && slices.Contains(outstanding, want.Switchover.Target) {
		lack = want.Switchover.Target // it is well, and it was asked for
	}
	if !spared { // a primary that handed over has everything; else it takes a quorum of those that acknowledged
		lack = shortage(r, want.AcceptLoss, func(m Member) bool { return slices.ContainsFunc(members, func(i *Instance) bool { return i.is(m) }) })
	}
	if lack == "" {
		chosen, why := choose(want, seen, members)
		if chosen != nil {
			return chosenPlan(seen, chosen, fmt.Sprintf("%s is chosen as the primary of epoch %d: of the %d that promised, none has more", chosen.Name, r.Epoch, len(members)))
		}
		lack = why
	}
	if len(outstanding) == 0 && salvageable(old, r) {
		return chosenPlan(seen, old, fmt.Sprintf("%s leads again in epoch %d from its own log: %s", old.Name, r.Epoch, lack))
	}
	return Plan{
		Decision: Decision{RuleChoose, fmt.Sprintf("epoch %d waits for the promises of enough voters", r.Epoch), lack},
		Actions:  actions, Requeue: lookAgain,
	}
}

// toPromise names the voters that could promise and have not yet.
func toPromise(want Desired, seen Observed) []string {
	var names []string
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if voted(seen.Record, i.incarnation()) && !i.is(seen.Record.LastOpened.Primary) && usable(want, i) && promised(i, seen.Record) == nil {
			names = append(names, i.Name)
		}
	}
	return names
}

// salvageable reports whether the old primary itself may lead again: its agent has promised the epoch, and its mysqld is
// reaped, or closed and fenced. Its own log is whole then and holds everything that was acknowledged.
func salvageable(old *Instance, r *Record) bool {
	if old == nil || old.Stopping || old.Agent.Diverged != nil {
		return false
	}
	return promised(old, r) != nil || knows(old, r) && old.Agent.Mysqld == api.MysqldDown && old.Agent.Volume == api.VolumeReady
}

// chosenPlan writes the choice.
func chosenPlan(seen Observed, chosen *Instance, reason string) Plan {
	next := seen.Record.DeepCopy()
	lead(next, member(chosen))
	return write(RuleChoose, reason, next)
}

// fenceAll asks every reachable instance for its promise, learners too, until it has given one with a fence.
func fenceAll(seen Observed) []Action {
	var actions []Action
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.Agent == nil || i.Agent.Volume == api.VolumeWaiting || i.Agent.Volume == api.VolumeUnreadable {
			continue
		}
		if !knows(i, seen.Record) || (i.running() && promised(i, seen.Record) == nil) {
			actions = append(actions, Action{Kind: Promise, Instance: i.Name, Record: seen.Record})
		}
	}
	return actions
}

// startFollowers starts what does not run and did not lead: a promise without a running mysqld says nothing.
func startFollowers(want Desired, seen Observed) []Action {
	return slices.DeleteFunc(startAll(want, seen), func(a Action) bool {
		i := seen.find(a.Instance)
		return i.is(seen.Record.LastOpened.Primary)
	})
}

// fenced are the voters whose answer counts: fenced for this epoch, with a vote, and here to stay. The old primary is one
// of them only if it handed over.
func fenced(want Desired, seen Observed) []*Instance {
	var members []*Instance
	for n := range seen.Instances {
		i := &seen.Instances[n]
		f := promised(i, seen.Record)
		if f == nil || f.Killed || !voted(seen.Record, i.incarnation()) || (i.is(seen.Record.LastOpened.Primary) && !f.Spared) {
			continue
		}
		if usable(want, i) || f.Spared {
			members = append(members, i)
		}
	}
	return members
}

// voted reports whether an incarnation votes in any configuration that counts.
func voted(r *Record, incarnation string) bool {
	return slices.ContainsFunc(configurations(r), func(c Configuration) bool { return contains(&c, incarnation) })
}

// ranked is a candidate with what it is compared by.
type ranked struct {
	*Instance
	acked   gtid.Set // what it holds of the line that was acknowledged
	behind  int64    // transactions received and not applied
	penalty int      // reasons to prefer another that holds as much
}

// choose returns the member that holds everything, or nil and why there is none. Only members that hold the marker of
// the last opened epoch are compared: a voter that acknowledged in that epoch has it, so the others cannot hold an
// acknowledged write that these lack. Everything acknowledged in that epoch is of its primary's own line, in the order
// of its log.
func choose(want Desired, seen Observed, members []*Instance) (chosen *Instance, why string) {
	r := seen.Record
	if seen.OwnLog && !slices.Contains(want.AcceptLoss, r.LastOpened.Primary.Name) {
		return nil, fmt.Sprintf("acknowledged writes may be on the volume of %s alone; it must come back", r.LastOpened.Primary.Name)
	}
	candidates, all := rank(want, seen, members)
	if len(candidates) == 0 {
		return nil, fmt.Sprintf("nobody that promised can lead and holds the marker of epoch %d", r.LastOpened.Epoch)
	}
	floor, err := gtid.Parse(seen.Floor)
	if err == nil {
		all = all.Union(acknowledged(r, floor))
	}
	whole := slices.DeleteFunc(candidates, func(c ranked) bool { return !c.acked.Contains(all) })
	if err != nil || len(whole) == 0 {
		return nil, "no member holds everything that the others hold, or that the old primary was seen to have committed"
	}
	if able := countVoters(target(r), members); able < target(r).AckCount+1 {
		return nil, fmt.Sprintf("a new primary needs %d others that can acknowledge, %d promised", target(r).AckCount, max(able-1, 0))
	}
	slices.SortFunc(whole, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.penalty, b.penalty), cmp.Compare(a.behind, b.behind), cmp.Compare(a.Ordinal, b.Ordinal))
	})
	return whole[0].Instance, ""
}

// rank returns the members that may lead, and everything that members which hold the marker hold of the acknowledged line.
func rank(want Desired, seen Observed, members []*Instance) (candidates []ranked, all gtid.Set) {
	r := seen.Record
	for _, i := range members {
		received, err := gtid.Parse(promised(i, r).Received)
		if err != nil || !has(promised(i, r).Received, r.LastOpened.MarkerGTID) {
			continue
		}
		all = all.Union(acknowledged(r, received)) // of one whose mysqld does not answer now, too: the fence says it
		conf := target(r)
		if i.is(r.LastOpened.Primary) || i.Stopping || !i.running() || !contains(&conf, i.incarnation()) {
			continue
		}
		executed, err := gtid.Parse(i.Agent.Server.GTIDExecuted)
		if err != nil {
			continue
		}
		candidates = append(candidates, ranked{
			Instance: i, acked: acknowledged(r, received), behind: received.Subtract(executed).Count(), penalty: penalty(want, i, members, r),
		})
	}
	return candidates, all
}

// acknowledged is the part of a set in which everything that was acknowledged in the last opened epoch lies.
func acknowledged(r *Record, set gtid.Set) gtid.Set {
	if r.LastOpened.ServerUUID == "" {
		return set.WithoutTagPrefix(gtid.MarkerTagPrefix)
	}
	return set.OfUUID(r.LastOpened.ServerUUID)
}

// penalty counts what speaks against a candidate as long as another holds as much: it is not the one asked for, its
// applier met an error, or it has purged what too many of the others would need from it.
func penalty(want Desired, i *Instance, members []*Instance, r *Record) int {
	p := 0
	if want.Switchover != nil && want.Switchover.Target != "" && want.Switchover.Target != i.Name {
		p++
	}
	if applierError(i) != "" {
		p += 4
	}
	purged, err := gtid.Parse(i.Agent.Server.GTIDPurged)
	served := int32(0)
	for _, other := range members {
		received, errOther := gtid.Parse(promised(other, r).Received)
		if other != i && err == nil && errOther == nil && received.Contains(purged) {
			served++
		}
	}
	if served < target(r).AckCount {
		p += 2
	}
	return p
}

// countVoters counts the members that vote in c.
func countVoters(c Configuration, members []*Instance) int32 {
	n := int32(0)
	for _, i := range members {
		if contains(&c, i.incarnation()) && !i.Stopping {
			n++
		}
	}
	return n
}

// applied reports whether a candidate has executed everything it held when it was fenced.
func applied(i *Instance, r *Record) bool {
	f := promised(i, r)
	if f == nil || !i.running() {
		return false
	}
	received, err := gtid.Parse(f.Received)
	executed, errExecuted := gtid.Parse(i.Agent.Server.GTIDExecuted)
	return err == nil && errExecuted == nil && executed.Contains(received)
}

// backlog says how much a candidate has still to apply.
func backlog(i *Instance, r *Record) string {
	f := promised(i, r)
	if f == nil {
		return i.Name
	}
	received, err := gtid.Parse(f.Received)
	executed, errExecuted := gtid.Parse(i.Agent.Server.GTIDExecuted)
	if err != nil || errExecuted != nil {
		return i.Name
	}
	return fmt.Sprintf("%s to apply %d more transactions%s", i.Name, received.Subtract(executed).Count(), parenthesis(strings.TrimSpace(applierError(i))))
}

func applierError(i *Instance) string {
	if !i.running() || i.Agent.Server.Channel == nil {
		return ""
	}
	return i.Agent.Server.Channel.ApplierError
}
