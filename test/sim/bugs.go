// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

// Bug names a deliberate mistake. Tests plant one to show that the simulator would find it.
type Bug string

// The bugs.
const (
	BugPromiseNotPersisted  Bug = "the promise is not persisted"
	BugPromiseNotChecked    Bug = "the promise is not checked after a restart of the agent"
	BugPromiseUndone        Bug = "the promise is undone when its epoch comes to nothing"
	BugFenceWhileConnecting Bug = "the fence does not wait for a receiver that connects"
	BugReceivedBeforeFence  Bug = "Recv is read before the receiver has stopped"
	BugQuorumTooSmall       Bug = "the quorum is n-k-1"
	BugQuorumOfAttempt      Bug = "the quorum counts the configuration last tried, not the one last opened"
	BugFloorIgnored         Bug = "the floor is ignored"
	BugNoMarker             Bug = "there is no marker"
	BugNotApplied           Bug = "the candidate leads before it has applied what it received"
	BugRelayLogRecovery     Bug = "relay_log_recovery is on"
	BugRepointStopped       Bug = "a replica is repointed with both threads stopped"
	BugLearnerAcknowledges  Bug = "a learner acknowledges"
	BugFiniteTimeout        Bug = "the semi-sync timeout is finite"
	BugSemiSyncAfterOpen    Bug = "semi-sync is switched on after read_only is off"
	BugGracefulStop         Bug = "a primary with waiting sessions is stopped gracefully"
	BugSourceOffWithWaiters Bug = "source semi-sync is switched off while sessions wait"
	BugRewindUnverified     Bug = "a rewind is not verified"
	BugRewindKeepsUUID      Bug = "a rewound instance keeps its server_uuid"
	BugCloneKeepsVote       Bug = "a volume filled anew keeps its vote"
	BugNoCompare            Bug = "the record is written without comparing"
	BugTwoPods              Bug = "two Pods use one volume"
	BugSelfResume           Bug = "a crashed primary opens again without a marker"
	BugStaleLabel           Bug = "a stale controller moves the label"
	BugLockOutLate          Bug = "k is lowered before acknowledgements are revoked"
	BugReplacedAcknowledges Bug = "an instance whose node is gone is replaced, and may go on to acknowledge"
)

// Bugs are all of them.
var Bugs = []Bug{
	BugPromiseNotPersisted,
	BugPromiseNotChecked,
	BugPromiseUndone,
	BugFenceWhileConnecting,
	BugReceivedBeforeFence,
	BugQuorumTooSmall,
	BugQuorumOfAttempt,
	BugFloorIgnored,
	BugNoMarker,
	BugNotApplied,
	BugRelayLogRecovery,
	BugRepointStopped,
	BugLearnerAcknowledges,
	BugFiniteTimeout,
	BugSemiSyncAfterOpen,
	BugGracefulStop,
	BugSourceOffWithWaiters,
	BugRewindUnverified,
	BugRewindKeepsUUID,
	BugCloneKeepsVote,
	BugNoCompare,
	BugTwoPods,
	BugSelfResume,
	BugStaleLabel,
	BugLockOutLate,
	BugReplacedAcknowledges,
}

// plantInTick is what a wrong agent does by itself.
func (w *world) plantInTick(n *node) {
	a := n.agent
	switch {
	case w.bug(BugPromiseUndone):
		if a.fence != nil && w.now-a.fencedAt > time.Second && a.Record.Phase == v1beta1.RecordClaimed && a.Record.LastOpened != nil {
			if r := w.watch.opened[a.Record.LastOpened.Epoch]; r != nil {
				a.PromisedEpoch, a.PromisedClaim, a.Record, a.fence = r.Epoch, r.Claim, r, nil
				w.save(n)
				if n.server != nil && n.vol.channel != nil {
					n.server.receiver = receiverConnecting
				}
			}
		}
	case w.bug(BugSelfResume):
		r := a.Record
		if n.server != nil || !n.vol.filled || r == nil || r.Phase != v1beta1.RecordOpened || r.Primary.Incarnation != a.Incarnation || r.Epoch != a.PromisedEpoch {
			return
		}
		w.startOwn(n)
		w.setSource(n, int(a.AckCount))
		a.LedStart = a.StartedID
		n.server.superReadOnly, n.server.offline = false, false
		w.opened(n)
		w.save(n)
	}
}

// plantInTime is what a wrong mysqld does as time passes.
func (w *world) plantInTime() {
	if !w.bug(BugFiniteTimeout) {
		return
	}
	for _, n := range w.nodes {
		if s := n.server; s != nil && len(s.waiters) > 0 && w.percent(3) {
			w.releaseAll(n)
			s.source = false
		}
	}
}

// plantInObservation is what a wrong decision would see.
func (w *world) plantInObservation(seen topology.Observed) topology.Observed {
	switch {
	case w.bug(BugFloorIgnored):
		seen.Floor = ""
	case w.bug(BugQuorumTooSmall):
		if !w.calm {
			plantVoter(&seen)
		}
	case w.bug(BugNotApplied):
		plantApplied(&seen)
	case w.bug(BugQuorumOfAttempt):
		plantAttempt(&seen)
	}
	return seen
}

// plantVoter makes up the promise of one voter that is not there: the quorum is one smaller then.
func plantVoter(seen *topology.Observed) {
	r := seen.Record
	if r.LastOpened == nil {
		return
	}
	for _, v := range r.LastOpened.Voters {
		i := slices.IndexFunc(seen.Instances, func(i topology.Instance) bool { return i.Name == v.Name })
		if i < 0 || v.Incarnation == r.LastOpened.Primary.Incarnation || seen.Instances[i].Agent != nil && seen.Instances[i].Agent.Server != nil {
			continue
		}
		made := &api.Status{Volume: api.VolumeReady, Incarnation: v.Incarnation, Mysqld: api.MysqldRunning, PromisedEpoch: r.Epoch, PromisedClaim: r.Claim, Record: r}
		made.Server = &api.Server{SuperReadOnly: true, OfflineMode: true, Channel: &api.Channel{Receiver: receiverNo}}
		made.Fence = &api.Fence{Epoch: r.Epoch, Claim: r.Claim}
		seen.Instances[i].Agent, seen.Instances[i].Silent = made, 0
		return
	}
}

// plantApplied makes a candidate look as if it had applied what it received.
func plantApplied(seen *topology.Observed) {
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if seen.Record.Phase == v1beta1.RecordChosen && i.Agent != nil && i.Agent.Server != nil && i.Agent.Incarnation == seen.Record.Primary.Incarnation {
			status, server := *i.Agent, *i.Agent.Server
			server.GTIDExecuted = server.Received
			status.Server, i.Agent = &server, &status
		}
	}
}

// plantAttempt makes the configuration that was tried last look like the one that was opened last.
func plantAttempt(seen *topology.Observed) {
	r := seen.Record
	if r.LastOpened == nil || r.Pending == nil && len(r.Earlier) == 0 {
		return
	}
	next := r.DeepCopy()
	if r.Pending != nil {
		next.LastOpened.Configuration = *r.Pending
	} else {
		next.LastOpened.Configuration = r.Earlier[len(r.Earlier)-1]
	}
	next.Earlier = nil
	seen.Record = next
}

// pretend fills a lost volume at once with what somebody else has executed, and keeps its identity and its vote.
func (w *world) pretend(n *node, incarnation string) {
	for _, donor := range w.nodes {
		if donor == n || donor.server == nil {
			continue
		}
		w.copyFrom(n, donor)
		n.vol.purged = set{}
		n.vol.durable.Incarnation = incarnation
		return
	}
}
