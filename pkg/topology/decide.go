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
)

// DefaultDetection is the detection time of a Desired that gives none.
const DefaultDetection = 2 * time.Second

// Decide says what to do next for one cluster. It is total and deterministic; it only reads what it is given.
func Decide(want Desired, seen Observed) Plan {
	if want.Detection <= 0 {
		want.Detection = DefaultDetection // without one every pause would be a failure
	}
	switch r := seen.Record; {
	case r == nil:
		return decideWithoutRecord(want, seen)
	case r.Version > v1beta1.RecordVersion:
		return wait(RuleRecordTooNew, fmt.Sprintf("the record has format %d; this controller knows %d", r.Version, v1beta1.RecordVersion),
			"a controller that knows this format")
	case overtaken(seen) != nil:
		return rebuild(want, seen, overtaken(seen))
	case highestPromise(seen) > r.Epoch && r.LastOpened != nil:
		return rebuild(want, seen, r) // an epoch was promised whose record is nowhere; it was never opened
	case r.Phase != v1beta1.RecordOpened && r.Claim != seen.OwnClaim && seen.RivalAtWork:
		return wait(RuleNextEpoch, fmt.Sprintf("another controller began epoch %d a moment ago", r.Epoch), "that controller to go on")
	case r.Phase != v1beta1.RecordOpened && r.Claim != seen.OwnClaim, r.Phase == v1beta1.RecordClaimed && r.LastOpened == nil:
		return nextEpoch(want, seen)
	case r.Phase == v1beta1.RecordClaimed:
		return collect(want, seen)
	case r.Phase == v1beta1.RecordChosen && takesOver(r):
		return take(want, seen)
	case r.Phase == v1beta1.RecordChosen:
		return establish(want, seen)
	default:
		return serve(want, seen)
	}
}

// decideWithoutRecord covers a new cluster and one whose record was lost. The two are told apart by reading every
// volume: never by the order of ordinals, and never by an absence that was not looked at.
func decideWithoutRecord(want Desired, seen Observed) Plan {
	if unread := unreadVolumes(seen); len(unread) > 0 {
		return wait(RuleReadVolumes, "there is no record yet; every bound volume is read before anything is made on one of them",
			strings.Join(unread, ", "))
	}
	if copied := newestCopy(seen); copied != nil && copied.LastOpened != nil {
		return rebuild(want, seen, copied)
	}
	if unborn := neverOpened(seen); unborn != nil {
		return claimFor(want, seen, RuleRebuildRecord, unborn, *unborn.Primary)
	}
	if held := holdingData(seen); len(held) > 0 {
		return wait(RuleHold, "volumes hold data that no record describes: "+strings.Join(held, ", "),
			"a person to move those volumes away or to restore the record")
	}
	if seen.Initialized {
		return wait(RuleHold, "the cluster was initialised before, but neither its record nor its data is there", "a person to restore it from a backup")
	}
	return bootstrap(seen)
}

// neverOpened returns the next record of a cluster whose object was deleted while its first epoch was not opened yet, or
// nil. Nobody was ever served from that volume, and no other holds data.
func neverOpened(seen Observed) *Record {
	copied := newestCopy(seen)
	if copied == nil || copied.LastOpened != nil || copied.Primary == nil || seen.Initialized || highestPromise(seen) != copied.Epoch {
		return nil
	}
	holder, holding := seen.holder(*copied.Primary), holdingData(seen)
	if holder == nil || len(holding) > 1 || (len(holding) == 1 && holding[0] != holder.Name) {
		return nil
	}
	next := copied.DeepCopy()
	next.Epoch++
	return next
}

// bootstrap claims the first epoch for the lowest instance whose volume is empty.
func bootstrap(seen Observed) Plan {
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.Agent == nil || i.Stopping || !i.Configured || i.Agent.Volume != api.VolumeEmpty || i.Agent.Incarnation == "" {
			continue
		}
		first := member(i)
		next := &Record{
			Version: v1beta1.RecordVersion, Epoch: highestPromise(seen) + 1, Phase: v1beta1.RecordChosen,
			Claim: seen.FreshClaim, ClusterUUID: seen.FreshUUID, Primary: &first,
		}
		return write(RuleBootstrap, i.Name+" is chosen to be initialised as the first primary", next)
	}
	return wait(RuleBootstrap, "no instance is ready to be initialised", firstCause(seen))
}

// rebuild takes up the work of a record that is missing or older than a promise.
func rebuild(want Desired, seen Observed, copied *Record) Plan {
	if unread := unreadVolumes(seen); len(unread) > 0 {
		return wait(RuleReadVolumes, "the record is older than what an instance promised; every bound volume is read before it is taken up again",
			strings.Join(unread, ", "))
	}
	if copied.LastOpened == nil {
		return wait(RuleHold, "an instance promised an epoch that no record describes and that was never opened", "a person to look at it")
	}
	seen.Record = copied
	return succeed(want, seen, RuleRebuildRecord)
}

// nextEpoch replaces an epoch that this process did not begin. What the interrupted attempt wanted stays pending, so
// its quorum counts until an epoch is opened.
func nextEpoch(want Desired, seen Observed) Plan {
	if seen.Record.LastOpened != nil {
		return succeed(want, seen, RuleNextEpoch)
	}
	next := seen.Record.DeepCopy()
	next.Epoch = nextNumber(seen)
	// Never opened: whatever the first attempt left on its volume serves nobody, so any empty volume will do.
	if seen.Record.Primary != nil && seen.holder(*seen.Record.Primary) != nil {
		return claimFor(want, seen, RuleNextEpoch, next, *seen.Record.Primary)
	}
	plan := bootstrap(seen)
	for n := range plan.Actions {
		plan.Actions[n].Record.Epoch = next.Epoch
		plan.Actions[n].Record.ClusterUUID = seen.Record.ClusterUUID
	}
	return plan
}

// succeed begins the epoch after one that came to nothing. The primary of the last opened epoch goes on if it can: it
// has everything that was acknowledged, because nobody was served after it. Else another takes over.
func succeed(want Desired, seen Observed, rule Rule) Plan {
	if suspected := suspicion(want, seen); suspected != "" {
		if plan, begun := failover(want, seen, suspected); begun {
			plan.Decision.Rule = rule
			return plan
		}
	}
	next := seen.Record.DeepCopy()
	next.Epoch = nextNumber(seen)
	return claimFor(want, seen, rule, next, seen.Record.LastOpened.Primary)
}

// claimFor writes next as Chosen for primary, if its agent answers: an epoch that cannot be finished is not begun.
func claimFor(want Desired, seen Observed, rule Rule, next *Record, primary Member) Plan {
	i := seen.holder(primary)
	if i == nil || i.Stopping {
		plan := wait(rule, fmt.Sprintf("%s, the primary of the last opened epoch, does not answer", primary.Name), describe(seen.find(primary.Name), primary))
		if seen.Record != nil {
			plan.Actions = append(showRecord(seen), startAll(want, seen)...) // whoever could take over instead must run for it
		}
		return plan
	}
	lead(next, member(i))
	next.Claim = seen.FreshClaim
	return write(rule, fmt.Sprintf("epoch %d begins with %s as its primary", next.Epoch, i.Name), next)
}

// overtaken returns the copy of the record that an agent was shown later than the one in the store, or nil. That
// happens when the object was restored from an older copy. Within one epoch only its opening counts: writes were
// acknowledged in it, which the last opened epoch of the older copy knows nothing of.
func overtaken(seen Observed) *Record {
	copied, r := newestCopy(seen), seen.Record
	switch {
	case copied == nil || copied.Epoch < r.Epoch:
		return nil
	case copied.Epoch > r.Epoch, copied.Phase == v1beta1.RecordOpened && r.Phase != v1beta1.RecordOpened:
		return copied
	}
	return nil
}

// newestCopy returns the copy with the highest epoch among the agents; of equal ones the opened one.
func newestCopy(seen Observed) *Record {
	var best *Record
	for n := range seen.Instances {
		a := seen.Instances[n].Agent
		if a == nil || a.Record == nil {
			continue
		}
		if best == nil || a.Record.Epoch > best.Epoch || (a.Record.Epoch == best.Epoch && a.Record.Phase == v1beta1.RecordOpened) {
			best = a.Record
		}
	}
	return best
}

func highestPromise(seen Observed) int64 {
	var highest int64
	for n := range seen.Instances {
		if a := seen.Instances[n].Agent; a != nil {
			highest = max(highest, a.PromisedEpoch)
		}
	}
	return highest
}

// unreadVolumes names the instances whose volume may hold data that nobody has reported.
func unreadVolumes(seen Observed) []string {
	var names []string
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.HasVolume && (i.Agent == nil || i.Agent.Volume == api.VolumeWaiting) {
			names = append(names, describe(i, Member{Name: i.Name}))
		}
	}
	return names
}

// holdingData names the instances whose volume is not empty.
func holdingData(seen Observed) []string {
	var names []string
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if i.Agent != nil && slices.Contains([]api.VolumeState{api.VolumeReady, api.VolumeUnreadable}, i.Agent.Volume) {
			names = append(names, i.Name)
		}
	}
	return names
}

// describe says in words why an instance is not of use.
func describe(i *Instance, m Member) string {
	switch {
	case i == nil:
		return m.Name + ": it does not exist"
	case i.Stopping:
		return i.Name + ": its Pod is being stopped"
	case i.Agent == nil:
		return i.Name + ": " + i.Cause
	case i.Agent.Volume == api.VolumeWaiting:
		return fmt.Sprintf("%s: Pod %s still holds its volume", i.Name, i.Agent.VolumeHolder)
	case i.Agent.Volume == api.VolumeUnreadable:
		return i.Name + ": its volume holds data, but the agent's state beside it cannot be read"
	case m.Incarnation != "" && !i.is(m):
		return i.Name + ": its volume does not hold the data it should (it was lost or replaced)"
	case !i.Configured:
		return i.Name + ": it has not received its configuration"
	case i.Agent.Mysqld == api.MysqldDown:
		return i.Name + ": mysqld is not running" + parenthesis(i.Agent.ExitMessage)
	case i.Agent.Server == nil:
		return i.Name + ": mysqld does not answer yet" + parenthesis(i.Agent.ServerError)
	default:
		return i.Name
	}
}

func parenthesis(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

// firstCause says why the first instance is not of use.
func firstCause(seen Observed) string {
	if len(seen.Instances) == 0 {
		return "the first Pod"
	}
	return describe(&seen.Instances[0], Member{Name: seen.Instances[0].Name})
}
