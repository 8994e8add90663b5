// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// serve keeps an opened epoch at work: the primary open, the voters following, the learners coming. A primary that is
// lost is replaced if that is safe; one that is to go hands over first.
func serve(want Desired, seen Observed) Plan {
	r := seen.Record
	p := seen.holder(*r.Primary)
	if suspected := suspicion(want, seen); suspected != "" {
		plan, begun := failover(want, seen, suspected)
		if begun {
			return plan
		}
		if p == nil {
			plan.Actions = append(showRecord(seen), startAll(want, seen)...)
			return plan
		}
	}
	if p == nil {
		return Plan{
			Decision: Decision{RuleHold, fmt.Sprintf("%s, the primary of epoch %d, does not answer", r.Primary.Name, r.Epoch), describe(seen.find(r.Primary.Name), *r.Primary)},
			Actions:  append(showRecord(seen), startAll(want, seen)...), Requeue: lookAgain,
		}
	}
	if wantsSwitchover(want, p) {
		return handOver(want, seen, p)
	}
	return serveOn(want, seen, p)
}

// handOver hands over from a primary that runs, or lets one that does not run go.
func handOver(want Desired, seen Observed, p *Instance) Plan {
	if p.running() && (!p.closed() || p.Agent.Closed != nil) {
		return switchover(want, seen, p)
	}
	if leaves(want, p) {
		return cannotSwitch(want, seen, p, p.Name+" is not open")
	}
	return serveOn(want, seen, p)
}

// serveOn goes on with the primary there is.
func serveOn(want Desired, seen Observed, p *Instance) Plan {
	if !p.running() || p.closed() {
		return reopen(want, seen, p)
	}
	shown := showRecord(seen)
	actions := append(shown, stopFenced(want, seen, p)...)
	reconciling, returning := reconcile(seen, p)
	actions = append(append(actions, reconciling...), followers(want, seen, p)...)
	if plan := change(want, seen, p); plan != nil && len(shown) == 0 {
		return *plan
	}
	if joiner := readyLearner(want, seen, p); joiner != nil && len(actions) == 0 {
		return grow(want, seen, joiner, p)
	}
	fill, waiting := learners(want, seen, p)
	return Plan{Decision: judge(want, seen, returning, waiting), Actions: append(actions, fill...), Requeue: lookAgain}
}

// stopFenced stops mysqld of the instances that a person wants down.
func stopFenced(want Desired, seen Observed, p *Instance) []Action {
	var actions []Action
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i != p && i.Agent != nil && i.Agent.Mysqld == api.MysqldRunning && slices.Contains(want.Fenced, i.Name) && knows(i, seen.Record) {
			actions = append(actions, Action{Kind: Stop, Instance: i.Name, Record: seen.Record})
		}
	}
	return actions
}

// reopen proves a primary that is closed, for whatever reason, with a fresh marker in its own epoch. If a later epoch
// has taken its voters away, the marker is never acknowledged and it stays closed.
func reopen(want Desired, seen Observed, p *Instance) Plan {
	r := seen.Record
	actions := showRecord(seen)
	if !p.running() {
		return starting(RuleReopen, want, seen, p, actions)
	}
	if behind := ahead(seen, p); len(behind) > 0 {
		return lacking(p, actions, behind)
	}
	stage, waitingFor := prepare(want, seen, p, target(r))
	actions = append(actions, stage...)
	if waitingFor != "" {
		return Plan{
			Decision: Decision{RuleReopen, fmt.Sprintf("%s opens again in epoch %d", p.Name, r.Epoch), waitingFor},
			Actions:  actions, Requeue: lookAgain,
		}
	}
	if without := unmarked(seen, p); len(without) > 0 {
		plan := marking(seen, p, actions, without)
		plan.Decision.Rule = RuleReopen
		return plan
	}
	plan := Plan{
		Decision: Decision{RuleOpen, fmt.Sprintf("%s opens for clients in epoch %d", p.Name, r.Epoch), p.Name},
		Actions:  actions, Requeue: lookAgain,
	}
	if sworn(p, r) { // the command carries the record: it needs not be shown first
		plan.Actions = append(withoutPromise(plan.Actions, p.Name), Action{Kind: Open, Instance: p.Name, Record: r})
	}
	return plan
}

// withoutPromise drops the Promise of an instance that gets a command which carries the record anyway.
func withoutPromise(actions []Action, instance string) []Action {
	return slices.DeleteFunc(actions, func(a Action) bool { return a.Kind == Promise && a.Instance == instance })
}

// followers keeps every voter but the primary following and serving reads.
func followers(want Desired, seen Observed, p *Instance) []Action {
	var actions []Action
	for _, v := range seen.Record.LastOpened.Voters {
		i := seen.holder(v)
		if i == nil || i == p || !knows(i, seen.Record) {
			continue
		}
		follow, ready := following(want, seen, i, p, api.AckOn)
		if len(follow) > 0 && i.running() && i.Agent.Server.Channel != nil && turnedAway(i.Agent.Server.Channel) {
			actions = append(actions, Action{Kind: Admit, Instance: p.Name, Peer: i.Name, Record: seen.Record})
		}
		actions = append(actions, follow...)
		if ready && i.Agent.Server.OfflineMode && caughtUp(i) {
			actions = append(actions, Action{Kind: Open, Instance: i.Name, Record: seen.Record})
		}
	}
	return actions
}

// maxJoinLag is how far behind, in seconds, a learner may be when it becomes a voter and a replica when it begins to
// serve reads. The marker makes a joiner complete; this only keeps the wait for it short.
const maxJoinLag = 1

// caughtUp reports whether a connected replica is close to its source.
func caughtUp(i *Instance) bool {
	c := i.Agent.Server.Channel
	return c != nil && c.Receiver == receiverConnected && c.ApplierRunning && c.LagSeconds >= 0 && c.LagSeconds <= maxJoinLag
}

// readyLearner returns the learner of the lowest ordinal that can become a voter now, or nil.
func readyLearner(want Desired, seen Observed, p *Instance) *Instance {
	if !enoughConnected(seen, p) && swapped(want, seen, p) == "" {
		return nil
	}
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.Ordinal >= want.Replicas || i == p || i.Stopping || !i.running() || IsVoter(seen.Record, i.incarnation()) || replaced(want, i.Name) != "" {
			continue
		}
		if i.Agent.Unvouched != "" || i.Agent.Diverged != nil {
			continue
		}
		if follows(i, p, api.AckOff) && caughtUp(i) && near(i, p) && servesAll(seen, i) {
			return i
		}
	}
	return nil
}

// maxJoinGap is how many transactions of the primary a learner may not even have received when it becomes a voter. A
// receiver that has just connected reports no lag at all, whatever it lacks.
const maxJoinGap = 1000

// near reports whether a learner has received nearly everything.
func near(i, p *Instance) bool {
	theirs, errTheirs := gtid.Parse(p.Agent.Server.GTIDExecuted)
	mine, errMine := gtid.Parse(i.Agent.Server.Received)
	return errTheirs == nil && errMine == nil && theirs.Subtract(mine).Count() <= maxJoinGap
}

// enoughConnected reports whether the voters needed by the present k are connected, and one more when k must grow
// beyond 1, so that raising it stalls no write.
func enoughConnected(seen Observed, p *Instance) bool {
	now := seen.Record.LastOpened.Configuration
	need := now.AckCount
	if next := AckCount(len(now.Voters) + 1); next > need && now.AckCount > 0 {
		need = next
	}
	connected := int32(0)
	for _, v := range now.Voters {
		i := seen.holder(v)
		if i != nil && i != p && i.running() && follows(i, p, api.AckOn) && i.Agent.Server.Channel.Receiver == receiverConnected {
			connected++
		}
	}
	return connected >= need
}

// servesAll reports whether the learner, were it ever a source, has kept everything some voter still lacks.
func servesAll(seen Observed, i *Instance) bool {
	purged, err := gtid.Parse(i.Agent.Server.GTIDPurged)
	if err != nil {
		return false
	}
	for _, v := range seen.Record.LastOpened.Voters {
		voter := seen.holder(v)
		if voter == nil || !voter.running() {
			continue
		}
		received, err := gtid.Parse(voter.Agent.Server.Received)
		if err != nil || !received.Contains(purged) {
			return false
		}
	}
	return true
}

// grow makes a learner a voter, in an epoch of its own. Of two voters one whose volume was lost is replaced by it: the
// other alone can acknowledge nothing, so nothing is acknowledged meanwhile.
func grow(want Desired, seen Observed, joiner, p *Instance) Plan {
	lost := swapped(want, seen, p)
	kept := slices.DeleteFunc(slices.Clone(seen.Record.LastOpened.Voters), func(m Member) bool { return m.Incarnation == lost })
	voters := sortedByOrdinal(append(kept, member(joiner)))
	next := pending(seen, Configuration{Voters: voters, AckCount: AckCount(len(voters))})
	return write(RuleGrow, fmt.Sprintf("%s becomes a voter in epoch %d", joiner.Name, next.Epoch), next)
}

// swapped returns the one of two voters whose data was lost, "" when there is none.
func swapped(want Desired, seen Observed, p *Instance) string {
	if len(seen.Record.LastOpened.Voters) > minVoters {
		return ""
	}
	for _, v := range seen.Record.LastOpened.Voters {
		if why := unfit(want, seen, v, p); why != "" && why != absent {
			return v.Incarnation
		}
	}
	return ""
}

// learners says what brings the instances that do not vote yet forward, and what each of them waits for.
func learners(want Desired, seen Observed, p *Instance) (actions []Action, waiting []string) {
	busy := donorsAtWork(seen)
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.Ordinal >= want.Replicas || IsVoter(seen.Record, i.incarnation()) {
			continue
		}
		step, waitingFor := advance(want, seen, i, p, busy)
		actions = append(actions, step...)
		waiting = append(waiting, waitingFor)
	}
	return actions, waiting
}

// advance says what brings one learner forward. It may take a donor, which it then marks busy.
func advance(want Desired, seen Observed, i, p *Instance, busy map[string]bool) (actions []Action, waitingFor string) {
	if why := replaced(want, i.Name); why != "" {
		return nil, i.Name + ": to be replaced: " + why
	}
	if i.Agent == nil || i.Stopping || !i.Configured || !knows(i, seen.Record) || !knows(p, seen.Record) {
		return nil, describe(i, Member{Name: i.Name})
	}
	switch i.Agent.Volume {
	case api.VolumeEmpty:
		return fillFrom(seen, i, p, busy)
	case api.VolumeFilling:
		return nil, describeTask(i)
	case api.VolumeReady:
		return attach(want, seen, i, p)
	default:
		return nil, describe(i, Member{Name: i.Name})
	}
}

// fillFrom clones an empty instance from a donor that is free: a replica if there is one, else the primary.
func fillFrom(seen Observed, i, p *Instance, busy map[string]bool) (actions []Action, waitingFor string) {
	if held := lostVoter(seen, i); held != "" && len(seen.Record.LastOpened.Voters) > minVoters {
		return nil, held
	}
	donor := pickDonor(seen, p, busy)
	if donor == nil {
		return nil, i.Name + ": a donor that is not serving another clone"
	}
	busy[donor.Name] = true
	return []Action{{Kind: Clone, Instance: i.Name, Peer: donor.Name, Record: seen.Record}}, fmt.Sprintf("%s: a clone of %s", i.Name, donor.Name)
}

// lostVoter says why an empty volume is not filled: the configuration still counts the data that was on it.
func lostVoter(seen Observed, i *Instance) string {
	for _, v := range seen.Record.LastOpened.Voters {
		if v.Name == i.Name {
			return fmt.Sprintf("%s: its volume is empty, but epoch %d still counts the data it held as a voter", i.Name, seen.Record.LastOpened.Epoch)
		}
	}
	return ""
}

// pickDonor returns a free donor: it serves one clone at a time (error 3634, ER_CLONE_TOO_MANY_CONCURRENT_CLONES).
func pickDonor(seen Observed, p *Instance, busy map[string]bool) *Instance {
	for _, v := range seen.Record.LastOpened.Voters {
		i := seen.holder(v)
		if i != nil && i != p && !i.Stopping && i.running() && follows(i, p, api.AckOn) && caughtUp(i) && !busy[i.Name] && pure(seen, i, p) {
			return i
		}
	}
	if !busy[p.Name] {
		return p
	}
	return nil
}

// pure reports whether a donor holds no marker that the primary lacks: a clone would have it as purged, and could neither
// vote nor ever lead those that do not have it.
func pure(seen Observed, i, p *Instance) bool {
	mine, errMine := gtid.Parse(i.Agent.Server.GTIDExecuted)
	theirs, errTheirs := gtid.Parse(p.Agent.Server.GTIDExecuted)
	if errMine != nil || errTheirs != nil {
		return false
	}
	newer := mine.OfUUID(p.Agent.Server.ServerUUID)
	for _, source := range mine.Subtract(theirs).Subtract(newer).Sources() {
		if source.Tag != gtid.MarkerTagPrefix+strconv.FormatInt(seen.Record.Epoch, 10) {
			return false
		}
	}
	return true
}

// donorsAtWork returns the names of the instances that serve a clone now.
func donorsAtWork(seen Observed) map[string]bool {
	busy := map[string]bool{}
	for n := range seen.Instances {
		if a := seen.Instances[n].Agent; a != nil && a.Task != nil && a.Task.Kind == api.TaskClone && a.Task.State == api.TaskRunning {
			busy[a.Task.Donor] = true
		}
	}
	return busy
}

// attach starts a filled learner and lets it follow, if it holds nothing the primary lacks. What holds more is compared
// first, and if that cannot be undone filled anew.
func attach(want Desired, seen Observed, i, p *Instance) (actions []Action, waitingFor string) {
	r := seen.Record
	switch {
	case i.Agent.Diverged != nil:
		return []Action{{Kind: Discard, Instance: i.Name, Record: r, Executed: history(p)}},
			fmt.Sprintf("%s: to be cloned again; it had executed %s, which no primary has", i.Name, i.Agent.Diverged.GTIDs)
	case i.Agent.NeedsReturn && i.Agent.Mysqld == api.MysqldDown:
		return nil, i.Name + ": to be compared with " + p.Name
	case startable(want, seen, i):
		return []Action{{Kind: Start, Instance: i.Name, Record: r}}, i.Name + ": mysqld to start"
	case !i.running():
		return nil, describe(i, Member{Name: i.Name})
	case follows(i, p, api.AckOff) && caughtUp(i) && near(i, p) && !servesAll(seen, i) && !pure(seen, i, p):
		return []Action{{Kind: Discard, Instance: i.Name, Record: r, Executed: history(p)}},
			i.Name + ": to be cloned again; it was cloned from an instance with a marker that the others will never get"
	case follows(i, p, api.AckOff):
		return nil, fmt.Sprintf("%s: to catch up with %s%s", i.Name, p.Name, parenthesis(channelTrouble(i)))
	case !within(i, p) && belongs(seen, i):
		return []Action{{Kind: Return, Instance: i.Name, Record: r, Executed: history(p)}}, i.Name + ": to be compared with " + p.Name
	case !within(i, p):
		return nil, i.Name + ": its volume holds transactions that the primary does not have"
	}
	follow := Action{Kind: Follow, Instance: i.Name, Peer: p.Name, Address: p.IP, Record: r, Ack: api.AckOff}
	if i.Agent.Server.ReplicaSemiSync {
		return []Action{follow}, i.Name + ": to give up its vote" // only then its account lets it in again
	}
	return []Action{{Kind: Admit, Instance: p.Name, Peer: i.Name, Record: r}, follow}, fmt.Sprintf("%s: to connect to %s", i.Name, p.Name)
}

// belongs reports whether the data of an instance are of this cluster: they hold one of its markers.
func belongs(seen Observed, i *Instance) bool {
	set, err := gtid.Parse(i.Agent.Server.Received)
	return err == nil && set.HighestMarkerEpoch(seen.Record.ClusterUUID) > 0
}

// history is the history of an open primary for a comparison that is made later: all it has executed, and all it will.
func history(p *Instance) string {
	return fmt.Sprintf("%s,%s:1-%d", p.Agent.Server.GTIDExecuted, p.Agent.Server.ServerUUID, int64(gtid.MaxNumber))
}

// channelTrouble returns what the channel complains about.
func channelTrouble(i *Instance) string {
	c := i.Agent.Server.Channel
	switch {
	case c.ReceiverErrno != 0:
		return fmt.Sprintf("its receiver met error %d", c.ReceiverErrno)
	case c.ApplierError != "":
		return "its applier stopped"
	default:
		return ""
	}
}

// judge names the state of a serving cluster: growing, missing somebody, or as wanted.
func judge(want Desired, seen Observed, returning, waiting []string) Decision {
	var missing []string
	p := seen.holder(*seen.Record.Primary)
	for _, v := range seen.Record.LastOpened.Voters {
		i := seen.holder(v)
		if i != nil && (i == p || (i.running() && follows(i, p, api.AckOn) && i.Agent.Server.Channel.Receiver == receiverConnected && !i.Agent.Server.OfflineMode)) {
			continue
		}
		missing = append(missing, describe(seen.find(v.Name), v))
	}
	switch {
	case len(returning) > 0:
		return Decision{RuleReconcile, "an instance comes back", strings.Join(append(returning, missing...), "; ")}
	case len(missing) > 0:
		return Decision{RuleRejoin, "a voter is away", strings.Join(missing, "; ")}
	case len(waiting) > 0:
		return Decision{RuleFill, fmt.Sprintf("%d of %d instances vote", len(seen.Record.LastOpened.Voters), want.Replicas), strings.Join(waiting, "; ")}
	default:
		return Decision{Rule: RuleSteady, Reason: "everything is as wanted"}
	}
}
