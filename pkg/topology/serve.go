// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"strings"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// serve keeps an opened epoch at work: the primary open, the voters following, the learners coming.
func serve(want Desired, seen Observed) Plan {
	r := seen.Record
	p := seen.holder(*r.Primary)
	if p == nil || p.Stopping {
		return wait(RuleHold, fmt.Sprintf("%s, the primary of epoch %d, does not answer", r.Primary.Name, r.Epoch),
			describe(seen.find(r.Primary.Name), *r.Primary))
	}
	if !p.running() || p.closed() {
		return reopen(seen, p)
	}
	actions := append(showRecord(seen), followers(seen, p)...)
	if joiner := readyLearner(want, seen, p); joiner != nil && len(actions) == 0 {
		return grow(seen, joiner)
	}
	fill, waiting := learners(want, seen, p)
	return Plan{Decision: judge(want, seen, waiting), Actions: append(actions, fill...), Requeue: lookAgain}
}

// reopen proves a primary that is closed, for whatever reason, with a fresh marker in its own epoch. If a later epoch
// has taken its voters away, the marker is never acknowledged and it stays closed.
func reopen(seen Observed, p *Instance) Plan {
	r := seen.Record
	actions := showRecord(seen)
	if !p.running() {
		return starting(RuleReopen, seen, p, actions)
	}
	if behind := ahead(seen, p); len(behind) > 0 {
		return lacking(p, actions, behind)
	}
	if stage, waitingFor := prepare(seen, p, target(r)); len(stage) > 0 || waitingFor != "" {
		return Plan{
			Decision: Decision{RuleReopen, fmt.Sprintf("%s opens again in epoch %d", p.Name, r.Epoch), waitingFor},
			Actions:  append(actions, stage...), Requeue: lookAgain,
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
	if knows(p, r) {
		plan.Actions = append(plan.Actions, Action{Kind: Open, Instance: p.Name, Record: r})
	}
	return plan
}

// followers keeps every voter but the primary following and serving reads.
func followers(seen Observed, p *Instance) []Action {
	var actions []Action
	for _, v := range seen.Record.LastOpened.Voters {
		i := seen.holder(v)
		if i == nil || i == p {
			continue
		}
		follow, ready := following(seen, i, p, api.AckOn)
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
	if !enoughConnected(seen, p) {
		return nil
	}
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.Ordinal >= want.Replicas || i == p || i.Stopping || !i.running() || IsVoter(seen.Record, i.incarnation()) {
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

// grow makes a learner a voter, in an epoch of its own.
func grow(seen Observed, joiner *Instance) Plan {
	next := seen.Record.DeepCopy()
	voters := sortedByOrdinal(append(next.LastOpened.Voters, member(joiner)))
	next.Epoch++
	next.Phase, next.Claim = v1beta1.RecordChosen, seen.FreshClaim
	next.Pending = &Configuration{Voters: voters, AckCount: AckCount(len(voters))}
	return write(RuleGrow, fmt.Sprintf("%s becomes a voter in epoch %d", joiner.Name, next.Epoch), next)
}

// learners says what brings the instances that do not vote yet forward, and what each of them waits for.
func learners(want Desired, seen Observed, p *Instance) (actions []Action, waiting []string) {
	busy := donorsAtWork(seen)
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.Ordinal >= want.Replicas || IsVoter(seen.Record, i.incarnation()) {
			continue
		}
		step, waitingFor := advance(seen, i, p, busy)
		actions = append(actions, step...)
		waiting = append(waiting, waitingFor)
	}
	return actions, waiting
}

// advance says what brings one learner forward. It may take a donor, which it then marks busy.
func advance(seen Observed, i, p *Instance, busy map[string]bool) (actions []Action, waitingFor string) {
	if i.Agent == nil || i.Stopping || !i.Configured || !knows(i, seen.Record) || !knows(p, seen.Record) {
		return nil, describe(i, Member{Name: i.Name})
	}
	switch i.Agent.Volume {
	case api.VolumeEmpty:
		return fillFrom(seen, i, p, busy)
	case api.VolumeFilling:
		return nil, describeTask(i)
	case api.VolumeReady:
		return attach(seen, i, p)
	default:
		return nil, describe(i, Member{Name: i.Name})
	}
}

// fillFrom clones an empty instance from a donor that is free: a replica if there is one, else the primary.
func fillFrom(seen Observed, i, p *Instance, busy map[string]bool) (actions []Action, waitingFor string) {
	if held := lostVoter(seen, i); held != "" {
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
		if i != nil && i != p && !i.Stopping && i.running() && follows(i, p, api.AckOn) && caughtUp(i) && !busy[i.Name] {
			return i
		}
	}
	if !busy[p.Name] {
		return p
	}
	return nil
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

// attach starts a filled learner and lets it follow, if it holds nothing the primary lacks.
func attach(seen Observed, i, p *Instance) (actions []Action, waitingFor string) {
	if i.Agent.Mysqld == api.MysqldDown {
		return []Action{{Kind: Start, Instance: i.Name, Record: seen.Record}}, i.Name + ": mysqld to start"
	}
	if !i.running() {
		return nil, describe(i, Member{Name: i.Name})
	}
	if follows(i, p, api.AckOff) {
		return nil, fmt.Sprintf("%s: to catch up with %s%s", i.Name, p.Name, parenthesis(channelTrouble(i)))
	}
	if i.Agent.Server.Channel == nil && !covered(i, p) {
		return nil, i.Name + ": its volume holds transactions that the primary does not have"
	}
	return []Action{
		{Kind: Admit, Instance: p.Name, Peer: i.Name, Record: seen.Record},
		{Kind: Follow, Instance: i.Name, Peer: p.Name, Address: p.IP, Record: seen.Record, Ack: api.AckOff},
	}, fmt.Sprintf("%s: to connect to %s", i.Name, p.Name)
}

// covered reports whether p executed everything i has.
func covered(i, p *Instance) bool {
	mine, errMine := gtid.Parse(i.Agent.Server.Received)
	theirs, errTheirs := gtid.Parse(p.Agent.Server.GTIDExecuted)
	return errMine == nil && errTheirs == nil && theirs.Contains(mine)
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
func judge(want Desired, seen Observed, waiting []string) Decision {
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
	case len(missing) > 0:
		return Decision{RuleRejoin, "a voter is away", strings.Join(missing, "; ")}
	case len(waiting) > 0:
		return Decision{RuleFill, fmt.Sprintf("%d of %d instances vote", len(seen.Record.LastOpened.Voters), want.Replicas), strings.Join(waiting, "; ")}
	default:
		return Decision{Rule: RuleSteady, Reason: "everything is as wanted"}
	}
}
