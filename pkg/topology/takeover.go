// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// suspicion says why the primary of the last opened epoch is taken for lost, "" when it is not. That the coordinator cannot reach it
// is never enough: its replicas must miss it, too, or its own agent must say so.
func suspicion(want Desired, seen Observed) string {
	p := seen.holder(seen.Record.LastOpened.Primary)
	switch {
	case p == nil:
		return absence(want, seen)
	case p.Agent.Mysqld == api.MysqldDown:
		return fmt.Sprintf("mysqld of %s ended%s", p.Name, parenthesis(p.Agent.ExitMessage))
	case p.Unanswered > 0 && p.Unanswered >= recoveryPatience*want.Detection:
		return fmt.Sprintf("mysqld of %s has been starting for %s", p.Name, p.Unanswered.Round(time.Second))
	case time.Duration(p.Agent.StalledMillis)*time.Millisecond >= want.Detection:
		return fmt.Sprintf("mysqld of %s has not completed a write for %d ms", p.Name, p.Agent.StalledMillis)
	case p.running() && !p.closed() && !leaves(want, p) && cutOff(want, seen, p):
		return fmt.Sprintf("the replicas have heard nothing of %s for %s, and too few are left to acknowledge its writes", p.Name, want.Detection)
	}
	return ""
}

// recoveryPatience is how many detection times a primary that nobody could replace when it crashed may take to start,
// before another that can is preferred. A start of the whole cluster must not end in a failover.
const recoveryPatience = 10

// absence says why a primary whose data nobody reports is taken for lost.
func absence(want Desired, seen Observed) string {
	name := seen.Record.LastOpened.Primary.Name
	i := seen.find(name)
	if i != nil && i.Agent != nil {
		if i.Agent.Volume == api.VolumeWaiting || i.Agent.Volume == api.VolumeUnreadable {
			return corroborated(want, seen, describe(i, seen.Record.LastOpened.Primary))
		}
		return fmt.Sprintf("the volume of %s was lost", name)
	}
	if slices.Contains(want.AcceptLoss, name) {
		return fmt.Sprintf("%s is given up by a person", name)
	}
	if i != nil && !i.Gone && i.Silent < want.Detection {
		return ""
	}
	return corroborated(want, seen, fmt.Sprintf("%s is silent", name))
}

// corroborated returns the reason if a majority of the other voters' agents see the primary gone, too.
func corroborated(want Desired, seen Observed, reason string) string {
	others, missing := 0, 0
	for _, v := range seen.Record.LastOpened.Voters {
		if v.Incarnation == seen.Record.LastOpened.Primary.Incarnation {
			continue
		}
		others++
		if i := seen.holder(v); i != nil && misses(want, i, seen.Record.LastOpened.ServerUUID) {
			missing++
		}
	}
	if missing < others/2+1 {
		return ""
	}
	return fmt.Sprintf("%s, and %d of %d replicas miss it", reason, missing, others)
}

// misses reports whether a replica hears nothing from the server with that UUID, by the word of its own receiver. One that
// hears another, the candidate of an epoch that came to nothing, misses it.
func misses(want Desired, i *Instance, primary string) bool {
	if !i.running() {
		return i.Agent.Mysqld == api.MysqldDown
	}
	c := i.Agent.Server.Channel
	return c == nil || c.Receiver != receiverConnected || time.Duration(c.QuietMillis)*time.Millisecond >= want.Detection ||
		(c.SourceUUID != "" && primary != "" && c.SourceUUID != primary)
}

// cutOff reports whether too few voters hear the primary to acknowledge its writes, although their agents answer.
func cutOff(want Desired, seen Observed, p *Instance) bool {
	hearing, cut := int32(0), int32(0)
	for _, v := range seen.Record.LastOpened.Voters {
		i := seen.holder(v)
		if i == nil || i == p || !i.running() {
			continue
		}
		c := i.Agent.Server.Channel
		if c != nil && c.Receiver != receiverStopped && time.Duration(c.QuietMillis)*time.Millisecond >= want.Detection {
			cut++
			continue
		}
		hearing++
	}
	return cut > 0 && hearing < seen.Record.LastOpened.AckCount
}

// configurations are all that count for the quorum of a takeover: what they promised to clients was acknowledged by
// voters of any of them.
func configurations(r *Record) []Configuration {
	all := []Configuration{r.LastOpened.Configuration}
	if r.Pending != nil {
		all = append(all, *r.Pending)
	}
	return append(all, r.Earlier...)
}

// ackers are the voters of c whose acknowledgement counted: all but the primary of the last opened epoch.
func ackers(r *Record, c Configuration) []Member {
	return slices.DeleteFunc(slices.Clone(c.Voters), func(m Member) bool { return m.Incarnation == r.LastOpened.Primary.Incarnation })
}

// shortage says which voters a takeover still needs, given those that answer; "" when it has its quorum. An acknowledged
// write is on k of the n-1 ackers of a configuration, so any n-k of them include one that has it. accepted are names of
// instances without which a person lets it go on.
func shortage(r *Record, accepted []string, answers func(Member) bool) string {
	for _, c := range configurations(r) {
		need, have := len(c.Voters)-int(c.AckCount), 0
		var missing []string
		for _, m := range ackers(r, c) {
			switch {
			case answers(m):
				have++
			case slices.Contains(accepted, m.Name):
				need--
			default:
				missing = append(missing, m.Name)
			}
		}
		if slices.Contains(accepted, r.LastOpened.Primary.Name) {
			need = min(need, have+len(missing)) // a primary without replicas: what is left is all there is
		}
		if have < max(need, 1) {
			return fmt.Sprintf("%d of its %d replicas must answer, %d do; missing: %s", need, len(c.Voters)-1, have, listed(missing))
		}
	}
	return ""
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nobody that could have it"
	}
	return strings.Join(names, ", ")
}

// usable reports whether an instance may take part in a takeover: its mysqld answers, its vote counts, and it stays.
func usable(want Desired, i *Instance) bool {
	return i != nil && i.running() && i.Agent.Unvouched == "" && i.Agent.Diverged == nil && !i.Stopping && !slices.Contains(want.Fenced, i.Name)
}

// obstacle says why no other instance could take over from the primary now, "" when one could. It asks before anything is
// touched: a takeover that cannot finish must never hurt a primary that works.
func obstacle(want Desired, seen Observed) string {
	r := seen.Record
	if seen.OwnLog && !slices.Contains(want.AcceptLoss, r.LastOpened.Primary.Name) {
		return fmt.Sprintf("acknowledged writes may be on the volume of %s alone; it must come back", r.LastOpened.Primary.Name)
	}
	answers := func(m Member) bool { return usable(want, seen.holder(m)) }
	if lack := shortage(r, want.AcceptLoss, answers); lack != "" {
		return lack
	}
	next := nextConfiguration(want, r)
	able, candidates := int32(0), 0
	for _, m := range next.Voters {
		i := seen.holder(m)
		if m.Incarnation == r.LastOpened.Primary.Incarnation || !usable(want, i) {
			continue
		}
		able++
		if has(i.Agent.Server.Received, r.LastOpened.MarkerGTID) {
			candidates++
		}
	}
	switch {
	case candidates == 0:
		return fmt.Sprintf("no replica that answers holds the marker of epoch %d", r.LastOpened.Epoch)
	case able < next.AckCount+1:
		return fmt.Sprintf("a new primary needs %d replicas to acknowledge its writes, %d would be there", next.AckCount, able-1)
	}
	return ""
}

// salvaged reports whether p leads again from its own log because nobody else holds everything: it was killed for this very
// epoch, and is to be started, not replaced. Else its death would begin epoch after epoch.
func salvaged(want Desired, seen Observed, p *Instance) bool {
	r := seen.Record
	if p == nil || p.Agent.Mysqld != api.MysqldDown || !slices.ContainsFunc(seen.Instances, func(i Instance) bool { return promised(&i, r) != nil }) {
		return false
	}
	all, err := gtid.Parse(seen.Floor)
	if err != nil {
		return true
	}
	all = acknowledged(r, all)
	var held []gtid.Set
	next := nextConfiguration(want, r)
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i == p || !voted(r, i.incarnation()) || !usable(want, i) || !has(i.Agent.Server.Received, r.LastOpened.MarkerGTID) {
			continue
		}
		received, _ := gtid.Parse(i.Agent.Server.Received) // it was parsed for the marker
		if all = all.Union(acknowledged(r, received)); contains(&next, i.incarnation()) {
			held = append(held, acknowledged(r, received))
		}
	}
	return !slices.ContainsFunc(held, func(set gtid.Set) bool { return set.Contains(all) })
}

// nextConfiguration is what a takeover opens with: the last opened configuration, without those whose loss was accepted.
func nextConfiguration(want Desired, r *Record) Configuration {
	c := r.LastOpened.Configuration
	if len(want.AcceptLoss) == 0 {
		return c
	}
	left := slices.DeleteFunc(slices.Clone(c.Voters), func(m Member) bool { return slices.Contains(want.AcceptLoss, m.Name) })
	if len(left) == 0 || len(left) == len(c.Voters) {
		return c
	}
	return Configuration{Voters: left, AckCount: AckCount(len(left))}
}

// FailoverPossible reports whether another instance could take over from the primary now, and if not, why.
func FailoverPossible(want Desired, seen Observed) (possible bool, reason string) {
	r := seen.Record
	if r == nil || r.LastOpened == nil {
		return false, "the cluster is not open yet"
	}
	if len(r.LastOpened.Voters) == 1 {
		return false, "only one instance votes"
	}
	reason = obstacle(want, seen)
	return reason == "", reason
}

// failover begins a takeover, or says why it does not.
func failover(want Desired, seen Observed, suspected string) (plan Plan, begun bool) {
	r := seen.Record
	lack := obstacle(want, seen)
	switch {
	case lack != "":
		return wait(RuleHold, fmt.Sprintf("%s; no other instance can take over", suspected), lack), false
	case want.Manual && want.Switchover == nil && len(want.AcceptLoss) == 0:
		return wait(RuleHold, fmt.Sprintf("%s; another instance could take over, but spec.failover.mode is Manual", suspected),
			"the annotation "+v1beta1.AnnotationSwitchover+", or "+r.LastOpened.Primary.Name), false
	}
	return claim(want, seen, RuleFailover, fmt.Sprintf("%s; epoch %d is claimed for a new primary", suspected, nextNumber(seen))), true
}

// nextNumber is the epoch of the next claim.
func nextNumber(seen Observed) int64 { return max(highestPromise(seen), seen.Record.Epoch) + 1 }

// maxEarlier bounds Record.Earlier.
const maxEarlier = 8

// claim writes the next epoch without a primary: nobody may lead in it until voters have promised and one is chosen.
// A configuration that was being introduced counts on for the quorum, but is introduced no further.
func claim(want Desired, seen Observed, rule Rule, reason string) Plan {
	next := seen.Record.DeepCopy()
	next.Epoch = nextNumber(seen)
	next.Phase, next.Claim, next.Primary = v1beta1.RecordClaimed, seen.FreshClaim, nil
	giveUpPending(next)
	if c := nextConfiguration(want, next); !sameVoters(c, next.LastOpened.Configuration) {
		next.Pending = &c
	}
	if len(next.Earlier) > maxEarlier {
		return wait(RuleHold, "too many configurations were begun and never opened", "the instances of the last opened one")
	}
	return write(rule, reason, next)
}

// giveUpPending makes the pending configuration one that counts for the quorum, and is introduced no further.
func giveUpPending(next *Record) {
	if next.Pending != nil && !slices.ContainsFunc(next.Earlier, func(c Configuration) bool { return sameVoters(c, *next.Pending) }) {
		next.Earlier = append(next.Earlier, *next.Pending)
	}
	next.Pending = nil
}

// lead makes an instance the one candidate of a record. A primary that was given up, and was to be left out, votes again if
// it leads again: everything is counted by voters.
func lead(next *Record, leader Member) {
	next.Phase, next.Primary = v1beta1.RecordChosen, &leader
	if next.Pending != nil && !contains(next.Pending, leader.Incarnation) {
		giveUpPending(next)
	}
}

// sameVoters compares two configurations.
func sameVoters(a, b Configuration) bool {
	return a.AckCount == b.AckCount && slices.EqualFunc(a.Voters, b.Voters, func(x, y Member) bool { return x.Incarnation == y.Incarnation })
}
