// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// establish drives a chosen epoch of our own whose primary led before, or is the first, to Opened: data, promises,
// followers, k, marker, record.
func establish(want Desired, seen Observed) Plan {
	r := seen.Record
	p := seen.holder(*r.Primary)
	if r.LastOpened != nil {
		if suspected := suspicion(want, seen); suspected != "" && !salvaged(want, seen, p) {
			if plan, begun := failover(want, seen, suspected); begun {
				return plan
			}
		}
	}
	if p == nil || p.Stopping {
		if r.LastOpened == nil && p == nil {
			return nextEpoch(want, seen)
		}
		plan := wait(RulePrepare, fmt.Sprintf("the primary of epoch %d does not answer", r.Epoch), describe(seen.find(r.Primary.Name), *r.Primary))
		plan.Actions = append(showRecord(seen), startAll(want, seen)...)
		return plan
	}
	if plan := giveUp(want, seen, p); plan != nil {
		return *plan
	}
	actions := showRecord(seen)
	if p.Agent.Volume != api.VolumeReady {
		return initialise(want, p, r, actions)
	}
	if !p.running() {
		return starting(RulePrepare, want, seen, p, actions)
	}
	if behind := ahead(seen, p); p.closed() && len(behind) > 0 {
		return lacking(p, actions, behind)
	}
	stage, waitingFor := prepare(want, seen, p, target(r))
	actions = append(actions, stage...)
	if waitingFor != "" {
		return Plan{
			Decision: Decision{RulePrepare, fmt.Sprintf("%s and its followers are being prepared for epoch %d", p.Name, r.Epoch), waitingFor},
			Actions:  actions, Requeue: lookAgain,
		}
	}
	if without := unmarked(seen, p); len(without) > 0 {
		return marking(seen, p, actions, without)
	}
	return openRecord(seen, p)
}

// openRecord writes that the epoch is opened: k of its voters hold its marker.
func openRecord(seen Observed, p *Instance) Plan {
	r := seen.Record
	next := r.DeepCopy()
	next.Phase, next.Pending, next.Earlier = v1beta1.RecordOpened, nil, nil
	next.LastOpened = &v1beta1.OpenedEpoch{
		Configuration: target(r), Epoch: r.Epoch, Primary: *r.Primary, MarkerGTID: p.Agent.Marker.GTID, ServerUUID: p.Agent.Server.ServerUUID,
	}
	return write(RuleOpen, fmt.Sprintf("the marker of epoch %d is acknowledged", r.Epoch), next)
}

// initialise makes the first data directory, once the agent has promised the epoch.
func initialise(want Desired, p *Instance, r *Record, actions []Action) Plan {
	kind, words := Initialise, " makes the first data directory"
	if want.FromBackup {
		kind, words = Restore, " restores the first data directory"
	}
	plan := Plan{
		Decision: Decision{RuleInitialise, p.Name + words, describeTask(p)},
		Actions:  actions, Requeue: lookAgain,
	}
	promised := p.Agent.PromisedEpoch == r.Epoch && p.Agent.PromisedClaim == r.Claim
	if promised && p.Agent.Volume == api.VolumeEmpty && p.Configured && r.LastOpened == nil {
		plan.Actions = append(plan.Actions, Action{Kind: kind, Instance: p.Name, Record: r})
	}
	return plan
}

// starting starts mysqld of p and of its followers.
func starting(rule Rule, want Desired, seen Observed, p *Instance, actions []Action) Plan {
	return Plan{
		Decision: Decision{rule, p.Name + " starts mysqld", describe(p, *seen.Record.Primary)},
		Actions:  append(actions, startAll(want, seen)...), Requeue: lookAgain,
	}
}

// startAll starts every complete instance whose mysqld is down. It starts closed, so this serves nobody.
func startAll(want Desired, seen Observed) []Action {
	var actions []Action
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if knows(i, seen.Record) && startable(want, seen, i) {
			actions = append(actions, Action{Kind: Start, Instance: i.Name, Record: seen.Record})
		}
	}
	return actions
}

// startable reports whether mysqld of an instance is to be started. One that led and did not stop cleanly is first
// compared with the new primary: its start would end the chance to cut off what was never acknowledged.
func startable(want Desired, seen Observed, i *Instance) bool {
	if i.Agent.Mysqld != api.MysqldDown || i.Agent.Volume != api.VolumeReady || !i.Configured || i.Stopping || slices.Contains(want.Fenced, i.Name) {
		return false
	}
	return !i.Agent.NeedsReturn || (seen.Record.Primary != nil && i.is(*seen.Record.Primary))
}

// showRecord makes every reachable agent keep the record as it is now, learners too: the truth must outlive the store,
// and no agent may follow an older epoch afterwards.
func showRecord(seen Observed) []Action {
	var actions []Action
	for n := range seen.Instances {
		i := &seen.Instances[n]
		usable := i.Agent != nil && !i.Stopping && i.Agent.Volume != api.VolumeWaiting && i.Agent.Volume != api.VolumeUnreadable
		if usable && !knows(i, seen.Record) {
			actions = append(actions, Action{Kind: Promise, Instance: i.Name, Record: seen.Record})
		}
	}
	return actions
}

// sworn reports whether the agent has promised the record's epoch and claim, whatever phase it was shown last.
func sworn(i *Instance, r *Record) bool {
	return i.Agent != nil && i.Agent.PromisedEpoch == r.Epoch && i.Agent.PromisedClaim == r.Claim
}

// knows reports whether the agent has promised the record's epoch and claim and keeps its newest phase.
func knows(i *Instance, r *Record) bool {
	a := i.Agent
	return a != nil && a.PromisedEpoch == r.Epoch && a.PromisedClaim == r.Claim &&
		a.Record != nil && a.Record.Epoch == r.Epoch && a.Record.Phase == r.Phase
}

// prepare brings followers and k to what conf needs. It returns what to do now, and what the marker has to wait for; "" when
// it has not: voters beyond the k that are needed come when they can. The order is what keeps writes going and safe: k is raised only while enough voters are
// connected, and an instance acknowledges only once the configuration that counts it is pending.
func prepare(want Desired, seen Observed, p *Instance, conf Configuration) (actions []Action, waitingFor string) {
	old := opened(seen.Record)
	if gone := leavers(seen.Record, conf); !lockedOut(p, gone) {
		if !knows(p, seen.Record) {
			return nil, "the agent of " + p.Name
		}
		return []Action{{Kind: LockOut, Instance: p.Name, Record: seen.Record, Members: gone}}, "those that lose their vote to be locked out"
	}
	joiners, connected := 0, 0
	for _, v := range conf.Voters {
		i := seen.holder(v)
		if v.Incarnation == p.incarnation() {
			continue
		}
		joining := !contains(old, v.Incarnation)
		if joining && conf.AckCount > 1 && p.Agent.Server.AckCount < conf.AckCount {
			joiners++ // k grows above 1: the joiner acknowledges only after k was raised
			if p.closed() {
				follow, ready := following(want, seen, i, p, api.AckOff)
				if actions = append(actions, follow...); ready {
					connected++ // nothing can stall while k is raised before it acknowledges
				}
			}
			continue
		}
		follow, ready := following(want, seen, i, p, api.AckOn)
		actions = append(actions, follow...)
		if ready {
			connected++
		}
	}
	if int32(connected) < conf.AckCount {
		return actions, fmt.Sprintf("%d voters connected to %s (%d are)", conf.AckCount, p.Name, connected)
	}
	if !leads(p, conf.AckCount) {
		return append(actions, Action{Kind: Lead, Instance: p.Name, Record: seen.Record, AckCount: conf.AckCount}), p.Name + " to lead"
	}
	if joiners > 0 {
		return actions, "the joining instance"
	}
	return actions, ""
}

// leads reports whether the source side is as k demands.
func leads(p *Instance, k int32) bool {
	s := p.Agent.Server
	if k == 0 {
		return !s.SourceSemiSync && s.Channel == nil
	}
	return s.SourceSemiSync && s.SourceActive && s.AckCount == k && s.Channel == nil
}

// following says what makes i follow p, and whether it already does.
func following(want Desired, seen Observed, i, p *Instance, ack api.Acknowledge) (actions []Action, ready bool) {
	if i == nil || i.Stopping || !i.Configured || i.Agent == nil || i.Agent.Volume != api.VolumeReady || !sworn(i, seen.Record) ||
		slices.Contains(want.Fenced, i.Name) {
		return nil, false
	}
	if startable(want, seen, i) {
		return []Action{{Kind: Start, Instance: i.Name, Record: seen.Record}}, false
	}
	if !i.running() || i.Agent.Server.SourceSemiSync {
		return nil, false
	}
	if follows(i, p, ack) {
		return nil, i.Agent.Server.Channel.Receiver == receiverConnected
	}
	if i.Agent.Diverged != nil || !within(i, p) {
		return nil, false // it is compared with the primary once that is open
	}
	return []Action{{Kind: Follow, Instance: i.Name, Peer: p.Name, Address: p.IP, Record: seen.Record, Ack: ack}}, false
}

// receiverConnected is Replica_IO_Running of a receiver that is connected (manual, SHOW REPLICA STATUS).
const receiverConnected = "Yes"

// receiverStopped is Replica_IO_Running of a receiver that is not trying.
const receiverStopped = "No"

// follows reports whether i's channel leads to p with the wanted right to acknowledge; it may still be connecting.
func follows(i, p *Instance, ack api.Acknowledge) bool {
	s := i.Agent.Server
	return s.Channel != nil && s.Channel.Host == p.IP && s.Channel.Receiver != receiverStopped && s.Channel.ApplierRunning &&
		s.Channel.User == api.ReplicationUser(i.incarnation()) && s.ReplicaSemiSync == (ack == api.AckOn) && !turnedAway(s.Channel)
}

// accessDenied is ER_ACCESS_DENIED_ERROR, accountLocked ER_ACCOUNT_HAS_BEEN_LOCKED.
const (
	accessDenied  = 1045
	accountLocked = 3118
)

// turnedAway reports whether the source refuses the receiver's login: its account is missing, locked, or has another password.
// Going on as it is would not help then.
func turnedAway(c *api.Channel) bool {
	return c.Receiver != receiverConnected && (c.ReceiverErrno == accessDenied || c.ReceiverErrno == accountLocked)
}

// ahead names voters that hold transactions of p's own line, or markers of the cluster, that p itself lacks: its volume
// was set back, and opening it would give their GTIDs to new transactions. Other lines do not count: what a replica
// executed by itself was never acknowledged to a client of the primary. It is told before p's mysqld begins a marker: one
// that waits is on the voters, and not yet in p's gtid_executed, and so are the writes of clients on a mysqld that leads.
func ahead(seen Observed, p *Instance) []string {
	if p.Agent.Marker != nil || p.Agent.Server.SourceSemiSync {
		return nil
	}
	mine, err := gtid.Parse(p.Agent.Server.Received)
	if err != nil {
		return []string{p.Name}
	}
	var names []string
	for _, v := range target(seen.Record).Voters {
		i := seen.holder(v)
		if i == nil || i == p || !i.running() {
			continue
		}
		if theirs, err := gtid.Parse(i.Agent.Server.Received); err != nil || leadsLine(seen, p, theirs.Subtract(mine)) {
			names = append(names, i.Name)
		}
	}
	return names
}

// leadsLine reports whether a set holds transactions of p's own line or markers of epochs that were opened. Those of this
// epoch are left out: one may still wait in p, begun before its agent was restarted.
func leadsLine(seen Observed, p *Instance, set gtid.Set) bool {
	r := seen.Record
	if !set.OfUUID(p.Agent.Server.ServerUUID).Empty() {
		return true
	}
	if r.LastOpened == nil {
		return false
	}
	for _, source := range set.Sources() {
		number, marker := strings.CutPrefix(source.Tag, gtid.MarkerTagPrefix)
		epoch, err := strconv.ParseInt(number, 10, 64)
		if marker && err == nil && source.UUID == strings.ToLower(r.ClusterUUID) && epoch <= r.LastOpened.Epoch && epoch != r.Epoch {
			return true
		}
	}
	return false
}

// lacking holds a primary closed that has less than its voters.
func lacking(p *Instance, actions []Action, behind []string) Plan {
	return Plan{
		Decision: Decision{
			RuleHold, fmt.Sprintf("%s stays closed: its volume lacks transactions that its voters hold (%s)", p.Name, strings.Join(behind, ", ")),
			"a person to restore the volume of " + p.Name,
		},
		Actions: actions, Requeue: lookAgain,
	}
}

// unmarked names what the marker of this epoch still needs: p itself, or voters that do not have it. A marker counts
// when k voters that promised this epoch report it in Recv, and every voter that joins with this epoch, too.
func unmarked(seen Observed, p *Instance) []string {
	r, m := seen.Record, p.Agent.Marker
	if m == nil || m.Epoch != r.Epoch || m.Claim != r.Claim || m.State != api.MarkerCommitted {
		return []string{p.Name}
	}
	conf, old := target(r), opened(r)
	var lacking []string
	have, joinersLack := int32(0), false
	for _, v := range conf.Voters {
		if v.Incarnation == p.incarnation() {
			continue
		}
		i := seen.holder(v)
		if i != nil && i.running() && sworn(i, r) && has(i.Agent.Server.Received, m.GTID) {
			have++
			continue
		}
		lacking = append(lacking, v.Name)
		joinersLack = joinersLack || !contains(old, v.Incarnation)
	}
	if have >= conf.AckCount && !joinersLack {
		return nil
	}
	return lacking
}

// has reports whether the set, as text, contains the transaction. Text that cannot be parsed contains nothing.
func has(set, transaction string) bool {
	whole, err := gtid.Parse(set)
	if err != nil {
		return false
	}
	one, err := gtid.Parse(transaction)
	return err == nil && !one.Empty() && whole.Contains(one)
}

// marking starts a marker unless one of this epoch waits, and says who lacks it. One that waits although k voters have
// received it lost its acknowledgement on the way; only another write frees it, so the next marker is started.
func marking(seen Observed, p *Instance, actions []Action, without []string) Plan {
	r, m := seen.Record, p.Agent.Marker
	plan := Plan{
		Decision: Decision{RuleMark, fmt.Sprintf("the marker of epoch %d waits for acknowledgements", r.Epoch), "the marker on " + strings.Join(without, ", ")},
		Actions:  actions, Requeue: lookAgain,
	}
	if m == nil || m.Epoch != r.Epoch || m.Claim != r.Claim || m.State == api.MarkerFailed || unheard(seen, p) {
		plan.Actions = append(plan.Actions, Action{Kind: Mark, Instance: p.Name, Record: r, Attempt: attempt(seen, p)})
	}
	return plan
}

// attempt is the number of p's next marker: its state counter, which only grows, or the number after the highest marker of
// this epoch that anybody received, should its agent have ended between a marker and the counting of it.
func attempt(seen Observed, p *Instance) int64 {
	next, line := p.Agent.StateCounter, gtid.Source{UUID: strings.ToLower(seen.Record.ClusterUUID), Tag: gtid.MarkerTagPrefix + strconv.FormatInt(seen.Record.Epoch, 10)}
	for n := range seen.Instances {
		if !seen.Instances[n].running() {
			continue
		}
		set, err := gtid.Parse(seen.Instances[n].Agent.Server.Received)
		if err != nil {
			continue
		}
		for _, i := range set.Intervals(line) {
			if i.Last < firstAwaited {
				next = max(next, i.Last+1)
			}
		}
	}
	return next
}

// unheard reports whether the marker of p waits although k other voters report it in Recv.
func unheard(seen Observed, p *Instance) bool {
	m, conf := p.Agent.Marker, target(seen.Record)
	if m.State != api.MarkerWaiting || conf.AckCount == 0 {
		return false
	}
	received := int32(0)
	for _, v := range conf.Voters {
		i := seen.holder(v)
		if i != nil && i != p && i.running() && has(i.Agent.Server.Received, m.GTID) {
			received++
		}
	}
	return received >= conf.AckCount
}

// describeTask says how far the long task of an instance is.
func describeTask(i *Instance) string {
	t := i.Agent.Task
	switch {
	case t == nil:
		return describe(i, Member{Name: i.Name})
	case t.State == api.TaskFailed:
		return fmt.Sprintf("%s: the last attempt failed: %s", i.Name, t.Error)
	default:
		return fmt.Sprintf("%s: %s", i.Name, t.Stage)
	}
}

// sortedByOrdinal returns the voters in the order of their ordinals.
func sortedByOrdinal(voters []Member) []Member {
	sorted := slices.Clone(voters)
	slices.SortFunc(sorted, func(a, b Member) int { return int(a.Ordinal - b.Ordinal) })
	return sorted
}
