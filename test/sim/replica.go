// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// fencePatience is how long a receiver may take to stop before its mysqld is killed.
const fencePatience = 500 * time.Millisecond

// running is a step that refuses when mysqld is down.
func running(n *node) step {
	return must(func() *api.Error {
		if n.server == nil {
			return refuse(api.ErrorPrecondition, "mysqld is not running")
		}
		return nil
	})
}

// fenceSteps carry out a promise that takes the lead away.
func (w *world) fenceSteps(n *node, c *command) []step {
	a := n.agent
	led := a.LedStart != "" && a.LedStart == a.StartedID
	switch {
	case n.server == nil && led && admission.NeedsReturn(a.Durable, ""):
		return []step{do(func() { a.fence = &api.Fence{Epoch: c.env.Epoch, Claim: c.env.Claim, Killed: true} })}
	case n.server == nil:
		return nil
	case admission.Opened(a.Durable):
		return []step{do(func() { w.fenceLeader(n, c) })}
	case led:
		return append([]step{do(func() { w.demote(n) })}, w.fenceReplica(n, c)...)
	}
	return w.fenceReplica(n, c)
}

// demote ends the lead of a candidate that was never opened: only a marker of an epoch that is over can wait there.
func (w *world) demote(n *node) {
	if n.server != nil {
		w.setSource(n, 0)
		n.agent.LedStart = ""
		w.save(n)
	}
}

// fenceReplica stops the receiver, and only then reads what was received. A fence is of one process of mysqld.
func (w *world) fenceReplica(n *node, c *command) []step {
	fence := &api.Fence{Epoch: c.env.Epoch, Claim: c.env.Claim}
	start := n.serverStart()
	read := do(func() {
		if n.server != nil {
			fence.Received = w.history.text(n.server.received())
		}
	})
	publish := do(func() {
		if n.serverStart() == start {
			n.agent.fence, n.agent.fencedAt = fence, w.now
			w.tracef("%s: fenced with %s", n.name, fence.Received)
		}
	})
	if w.bug(BugReceivedBeforeFence) {
		return []step{read, w.stopReceiver(n), publish}
	}
	return []step{w.stopReceiver(n), read, publish}
}

// stopReceiver stops the receiver and verifies that it neither runs nor tries to connect. One that does not stop in time
// goes with its mysqld.
func (w *world) stopReceiver(n *node) step {
	begun := time.Duration(-1)
	return func() (bool, *api.Error) {
		s := n.server
		if s == nil || s.receiver == receiverNo {
			return true, nil
		}
		if begun < 0 {
			begun, s.stopping = w.now, true
		}
		if w.bug(BugFenceWhileConnecting) && s.receiver == receiverConnecting {
			return true, nil
		}
		if w.percent(40) {
			w.receiverStops(n)
			return true, nil
		}
		if w.now-begun > fencePatience {
			w.crash(n)
			w.startOwn(n)
			return true, nil
		}
		return false, nil
	}
}

// startOwn starts mysqld as the agent does: its id is on disk first.
func (w *world) startOwn(n *node) {
	s := w.startServer(n)
	n.agent.StartedID = s.start
	w.save(n)
}

// fenceLeader ends the lead of a mysqld under which somebody may wait: it is killed, unless it was closed and nothing was
// committed since.
func (w *world) fenceLeader(n *node, c *command) {
	a, s := n.agent, n.server
	if s == nil {
		return
	}
	fence := &api.Fence{Epoch: c.env.Epoch, Claim: c.env.Claim}
	executed := w.history.text(s.executed)
	spared := a.closed != nil && a.closed.GTIDExecuted != "" && a.closed.GTIDExecuted == executed && s.superReadOnly && len(s.waiters) == 0 && s.hungSince == 0
	switch {
	case spared || w.bug(BugSourceOffWithWaiters):
		w.setSource(n, 0)
		a.LedStart = ""
		fence.Spared, fence.Received = true, w.history.text(s.received())
		s.superReadOnly, s.offline = true, true
	default:
		w.crash(n)
		w.lookAtProcess(n)
		fence.Killed = true
	}
	a.fence, a.fencedAt = fence, w.now
	w.save(n)
	w.tracef("%s: leader fenced, spared=%t", n.name, fence.Spared)
}

// startSteps start mysqld, closed.
func (w *world) startSteps(n *node) []step {
	return []step{func() (bool, *api.Error) {
		switch {
		case n.server != nil:
		case !n.vol.filled:
			return true, refuse(api.ErrorPrecondition, "the volume is empty")
		case admission.NeedsReturn(n.agent.Durable, ""):
			return true, refuse(api.ErrorPrecondition, "it must be compared first")
		default:
			w.startOwn(n)
		}
		return true, nil
	}}
}

// followSteps make the instance a replica of the record's primary.
func (w *world) followSteps(n *node, c *command) []step {
	a, r := n.agent, c.Record
	allowed := must(func() *api.Error {
		switch {
		case n.server == nil:
			return refuse(api.ErrorPrecondition, "mysqld is not running")
		case r.Primary == nil || r.Phase == v1beta1.RecordClaimed || r.Primary.Incarnation == a.Incarnation:
			return refuse(api.ErrorPrecondition, "the record names nobody to follow")
		case c.Ack == api.AckOn && !admission.MayAcknowledge(r, a.Incarnation):
			return refuse(api.ErrorPrecondition, "only a voter may acknowledge")
		case n.server.source || !n.server.superReadOnly:
			return refuse(api.ErrorPrecondition, "the instance leads")
		}
		return nil
	})
	ack := c.Ack == api.AckOn || w.bug(BugLearnerAcknowledges)
	before := set{}
	steps := []step{allowed, do(func() { before = n.server.received() })}
	if n.server != nil && n.server.replica != ack {
		steps = append(steps, w.stopReceiver(n), running(n), do(func() { n.server.replica = ack }))
	}
	if a.Unvouched != "" && !a.Discarded && r.Primary != nil {
		// The relay log is doubtful: it goes before the instance connects to a primary that has everything.
		steps = append(steps, w.stopReceiver(n), running(n), do(func() {
			n.server.applier = false
			n.vol.dropRelay()
			n.vol.channel, a.ChannelHash, a.Discarded = nil, "", true
			before = set{}
			w.save(n)
			w.tracef("%s: discards its relay log", n.name)
		}))
	}
	source := w.nodes[c.peer]
	return append(steps, w.sourceSteps(n, source, &before)...)
}

// sourceSteps make or change the channel and see to it that both threads run.
func (w *world) sourceSteps(n, source *node, before *set) []step {
	a := n.agent
	steps := []step{running(n)}
	if a.ChannelHash != source.ip || n.vol.channel == nil {
		steps = append(steps, w.stopReceiver(n), running(n), do(func() {
			if n.vol.channel != nil {
				n.server.applier = !w.bug(BugRepointStopped)
			}
			if !n.server.applier || n.vol.channel == nil && !n.server.applier {
				n.vol.dropRelay() // CHANGE REPLICATION SOURCE with both threads stopped
			}
			n.vol.channel = &channel{source.n, source.ip, n.replicationUser()}
			a.ChannelHash = source.ip
			w.save(n)
		}))
	}
	return append(steps, running(n), do(func() { n.server.applier = true }), do(func() {
		if s := n.server; s != nil && n.vol.channel != nil && s.receiver == receiverNo {
			s.receiver, s.stopping, s.peer, s.heard, s.errno = receiverConnecting, false, nil, w.now, 0
		}
	}), must(func() *api.Error {
		if n.server != nil && !before.minus(n.server.received()).empty() && !w.bug(BugRepointStopped) {
			a.unvouch("the relay log lost transactions")
			w.save(n)
			return refuse(api.ErrorPrecondition, "the relay log lost transactions")
		}
		return nil
	}))
}

// isMarker reports whether a transaction is a marker of the cluster.
func (w *world) isMarker(x int) bool {
	return strings.HasPrefix(w.history.all[x].source.Tag, gtid.MarkerTagPrefix)
}

// returnSteps reconcile with the history of the open primary.
func (w *world) returnSteps(n *node, c *command) []step {
	opened := must(func() *api.Error {
		if c.Record.Phase != v1beta1.RecordOpened || c.Record.Primary.Incarnation == n.agent.Incarnation {
			return refuse(api.ErrorPrecondition, "there is no open primary to compare with")
		}
		return nil
	})
	if n.server == nil {
		return []step{opened, do(func() { w.rewind(n, w.history.parse(c.Executed)) })}
	}
	return []step{opened, w.stopReceiver(n), running(n), do(func() { n.server.applier = false }), do(func() { w.compare(n, w.history.parse(c.Executed)) })}
}

// extra returns what of s the history lacks; markers, which nobody was ever told of, are left out.
func (w *world) extra(s, history set) set {
	left := w.history.names(s).minus(history)
	for _, x := range left.list() {
		if w.isMarker(x) {
			left.remove(x)
		}
	}
	return left
}

// rewind cuts the tail off the binary log that no history contains, before a mysqld can commit it.
func (w *world) rewind(n *node, history set) {
	a, log := n.agent, n.vol.log
	settle := func() {
		a.LedStart = ""
		a.Counter++
		w.save(n)
	}
	extra := w.extra(log.set(), history)
	if extra.empty() {
		settle()
		return
	}
	first := slices.IndexFunc(log.list, func(x int) bool { return extra.has(w.history.all[x].name) })
	for _, x := range log.list[first:] {
		if history.has(w.history.all[x].name) {
			first = -1
			break
		}
	}
	if (first < 0 || first < log.lastFile) && !w.bug(BugRewindUnverified) {
		w.tracef("%s: cannot be rewound", n.name) // it is judged when it runs
		a.unvouch("its log could not be rewound")
		settle()
		return
	}
	first = max(first, log.lastFile)
	w.checkCut(n, log.list[first:])
	w.tracef("%s: rewound by %d", n.name, len(log.list)-first)
	log.list = log.list[:first]
	if !w.bug(BugRewindKeepsUUID) {
		n.vol.serverUUID = w.uuid()
	}
	a.unvouch("it was rewound")
	settle()
}

// compare looks at a running instance: what only its relay log holds beyond the history is dropped with it.
func (w *world) compare(n *node, history set) {
	a, s := n.agent, n.server
	if s == nil {
		return
	}
	executed := w.extra(s.executed, history)
	if !executed.empty() && !w.bug(BugRewindUnverified) {
		a.Diverged = &api.Divergence{GTIDs: w.history.text(executed)}
		w.tracef("%s: diverged by %s", n.name, a.Diverged.GTIDs)
	} else if !w.extra(s.received(), history).empty() {
		n.vol.dropRelay()
		n.vol.channel, a.ChannelHash = nil, ""
		a.unvouch("its relay log was dropped")
		w.tracef("%s: drops its relay log", n.name)
	}
	w.save(n)
}

// awaitSteps begin to give the vote back.
func (w *world) awaitSteps(n *node, c *command) []step {
	name := fmt.Sprintf("%s:%s%d:%d", c.Record.ClusterUUID, gtid.MarkerTagPrefix, c.Record.Epoch, c.Attempt)
	return []step{must(func() *api.Error {
		a, s := n.agent, n.server
		switch {
		case s == nil || c.Record.Phase != v1beta1.RecordOpened || n.vol.channel == nil || s.receiver != receiverYes:
			return refuse(api.ErrorPrecondition, "it is not connected to an open primary")
		case a.Unvouched != "" && !a.Discarded:
			return refuse(api.ErrorPrecondition, "its relay log is doubtful")
		case !w.history.parse(name).empty() && w.history.parse(name).minus(w.history.names(s.received())).empty():
			return refuse(api.ErrorPrecondition, "the marker is here already")
		}
		a.awaiting, a.awaitingEpoch = name, c.Record.Epoch
		return nil
	})}
}

// discardSteps empty the volume of an instance that does not vote.
func (w *world) discardSteps(n *node, c *command) []step {
	return []step{must(func() *api.Error {
		if admission.Votes(c.Record, n.agent.Incarnation) {
			return refuse(api.ErrorPrecondition, "it votes")
		}
		w.crash(n)
		w.emptyVolume(n)
		return nil
	})}
}

// emptyVolume leaves the promise, and nothing else.
func (w *world) emptyVolume(n *node) {
	a := n.agent
	n.vol.filled, n.vol.log, n.vol.channel, n.vol.purged = false, &binlog{}, nil, set{}
	n.vol.dropRelay()
	d := a.Durable
	a.kept = kept{}
	a.Incarnation, a.Counter, a.PromisedEpoch, a.PromisedClaim, a.Record = "inc-"+w.uuid(), d.Counter+1, d.PromisedEpoch, d.PromisedClaim, d.Record
	w.lookAtProcess(n)
	w.save(n)
	w.tracef("%s: its volume is emptied", n.name)
}

// cloneSteps fill an empty volume from a donor.
func (w *world) cloneSteps(n *node, c *command) []step {
	return []step{must(func() *api.Error {
		donor := w.nodes[c.peer]
		switch {
		case n.vol.filled || n.server != nil:
			return refuse(api.ErrorPrecondition, "the volume is not empty")
		case donor.server == nil || !w.linked(n, donor):
			return refuse(api.ErrorUnavailable, "the donor does not answer")
		case c.Record != nil && admission.Votes(c.Record, n.agent.Incarnation):
			return refuse(api.ErrorPrecondition, "it votes")
		}
		w.copyFrom(n, donor)
		n.agent.Incarnation = "inc-" + w.uuid()
		n.agent.task = &api.Task{Kind: api.TaskClone, State: api.TaskDone, Donor: donor.name}
		w.save(n)
		for _, x := range n.vol.log.list {
			w.watch.holds(n, x)
		}
		w.tracef("%s: cloned from %s", n.name, donor.name)
		return nil
	})}
}

// copyFrom fills a volume with what the donor has executed.
func (w *world) copyFrom(n, donor *node) {
	v := n.vol
	v.log = &binlog{}
	for _, x := range donor.server.log.list {
		if donor.server.executed.has(x) {
			v.log.list = append(v.log.list, x)
		}
	}
	v.filled, v.purged, v.serverUUID, v.locked = true, v.log.set(), w.uuid(), slices.Clone(donor.vol.locked)
	v.serverID = w.serial
	v.channel = nil
	v.dropRelay()
}
