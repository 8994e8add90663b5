// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"strconv"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// chosen is a step that refuses unless the record has chosen this incarnation and its mysqld runs.
func chosen(n *node, c *command) step {
	return must(func() *api.Error {
		r := c.Record
		switch {
		case r.Primary == nil || r.Primary.Incarnation != n.agent.Incarnation || r.Phase == v1beta1.RecordClaimed:
			return refuse(api.ErrorPrecondition, "the record has not chosen this incarnation")
		case n.server == nil:
			return refuse(api.ErrorPrecondition, "mysqld is not running")
		}
		return nil
	})
}

// applySteps let the candidate apply what it has received.
func (w *world) applySteps(n *node, c *command) []step {
	return []step{chosen(n, c), w.stopReceiver(n), running(n), do(func() {
		n.server.offline = true
		n.server.applier = n.vol.channel != nil
	})}
}

// leadSteps prepare the source side.
func (w *world) leadSteps(n *node, c *command) []step {
	a, k := n.agent, int(c.AckCount)
	applied := must(func() *api.Error {
		s := n.server
		if s != nil && n.vol.channel != nil && !w.history.names(s.received()).minus(w.history.names(s.executed)).empty() && !w.bug(BugNotApplied) {
			return refuse(api.ErrorPrecondition, "received transactions are not applied")
		}
		return nil
	})
	return []step{
		chosen(n, c), do(func() { n.server.replica = false }), w.stopReceiver(n), running(n), applied,
		do(func() { n.server.applier = n.server.applier && n.vol.channel == nil }), applied, running(n),
		do(func() {
			if n.vol.channel != nil {
				n.vol.dropRelay()
				n.vol.channel, a.ChannelHash = nil, ""
			}
			a.AckCount = max(a.AckCount, int32(k))
			if k > 0 {
				a.LedStart = a.StartedID
			}
			w.save(n)
		}),
		running(n),
		do(func() {
			if w.bug(BugSemiSyncAfterOpen) && n.server.superReadOnly {
				n.server.k, a.semiLater = k, true
				return
			}
			w.setSource(n, k)
		}),
		do(func() {
			a.AckCount = int32(k)
			w.save(n)
		}),
	}
}

// markSteps begin a marker.
func (w *world) markSteps(n *node, c *command) []step {
	return []step{chosen(n, c), must(func() *api.Error {
		a, s := n.agent, n.server
		source := gtid.Source{UUID: clusterUUID, Tag: gtid.MarkerTagPrefix + strconv.FormatInt(c.Record.Epoch, 10)}
		marker := transaction{source: source, number: c.Attempt}
		switch {
		case n.vol.channel != nil:
			return refuse(api.ErrorPrecondition, "the instance is a replica")
		case (a.AckCount > 0 && !s.source || s.k != int(a.AckCount)) && !a.semiLater:
			return refuse(api.ErrorPrecondition, "semi-sync is not prepared")
		case len(w.history.all) > maxTransactions-16:
			return refuse(api.ErrorUnavailable, "the run is over")
		case !w.history.parse(marker.String()).minus(w.history.names(s.log.set())).empty():
		case !w.history.parse(marker.String()).empty():
			return refuse(api.ErrorPrecondition, "the attempt must be fresh")
		}
		a.marker = &api.Marker{GTID: marker.String(), Epoch: c.env.Epoch, Claim: c.env.Claim, State: api.MarkerWaiting}
		if w.bug(BugNoMarker) {
			a.marker.State = api.MarkerCommitted
			w.watch.pretended = append(w.watch.pretended, marker.String())
			return nil
		}
		a.markerTx = s.noTx
		a.markerX = w.commit(n, marker.source, marker.number, false)
		return nil
	})}
}

// openSteps let the instance serve.
func (w *world) openSteps(n *node, c *command) []step {
	a, r := n.agent, c.Record
	if r.Primary == nil || r.Primary.Incarnation != a.Incarnation {
		return []step{must(func() *api.Error {
			if n.server == nil || n.vol.channel == nil || n.server.receiver == receiverNo || !n.server.superReadOnly {
				return refuse(api.ErrorPrecondition, "replication is not running")
			}
			n.server.offline = false
			return nil
		})}
	}
	ready := must(func() *api.Error {
		s, k := n.server, 0
		if r.LastOpened != nil {
			k = int(r.LastOpened.AckCount)
		}
		switch {
		case r.Phase != v1beta1.RecordOpened || s == nil || n.vol.channel != nil:
			return refuse(api.ErrorPrecondition, "the record is not opened, or this is a replica")
		case (int(a.AckCount) != k || k > 0 && (!s.source || s.k != k)) && !a.semiLater:
			return refuse(api.ErrorPrecondition, "semi-sync is not prepared")
		case !w.bug(BugNoMarker) && !w.history.parse(r.LastOpened.MarkerGTID).minus(w.history.names(s.executed)).empty():
			return refuse(api.ErrorPrecondition, "the marker is not committed here")
		}
		a.Unvouched, a.Discarded, a.awaiting = "", false, ""
		a.OpenStart, a.OpenEpoch, a.OpenPrimary, a.OpenNoTx = a.StartedID, r.Epoch, true, s.noTx
		w.save(n)
		return nil
	})
	return []step{ready, running(n), do(func() {
		n.server.superReadOnly, n.server.offline, a.closed = false, false, nil
		w.tracef("%s: opens in epoch %d", n.name, r.Epoch)
		w.opened(n)
	}), do(func() {
		if a.semiLater && n.server != nil {
			w.setSource(n, n.server.k)
			a.semiLater = false
		}
	})}
}

// closeSteps close an open primary for a switchover.
func (w *world) closeSteps(n *node, c *command) []step {
	a := n.agent
	begun := w.now
	duration := max(c.Duration, time.Second)
	return []step{chosen(n, c), must(func() *api.Error {
		if n.server.superReadOnly || !n.server.source {
			return refuse(api.ErrorPrecondition, "it is not open")
		}
		a.closed, a.closeEnd = &api.Closed{}, w.now+duration
		n.server.offline = true
		for i := range n.server.waiters {
			n.server.waiters[i].client = false // its session is ended; the outcome is unknown to it
		}
		return nil
	}), running(n), func() (bool, *api.Error) {
		s := n.server
		switch {
		case s == nil:
			return true, refuse(api.ErrorUnavailable, "mysqld is gone")
		case len(s.waiters) == 0:
			s.superReadOnly = true
			a.closed = &api.Closed{GTIDExecuted: w.history.text(s.executed)}
			return true, nil
		case w.now-begun > duration/2:
			s.offline = false
			a.closed = &api.Closed{Error: "sessions wait for acknowledgements"}
			return true, nil
		}
		return false, nil
	}}
}

// stopSteps end mysqld as the end of the Pod would.
func (w *world) stopSteps(n *node) []step {
	return []step{do(func() { w.terminate(n) })}
}

// terminate stops cleanly where nobody can wait, else kills.
func (w *world) terminate(n *node) {
	a, s := n.agent, n.server
	if s == nil {
		return
	}
	if w.bug(BugGracefulStop) || !n.led() {
		w.stopServer(n)
		w.lookAtProcess(n)
		return
	}
	s.offline = true
	if len(s.waiters) == 0 {
		s.superReadOnly = true
		a.CleanStart = a.StartedID
		w.save(n)
		w.stopServer(n)
	} else {
		w.crash(n)
	}
	w.lookAtProcess(n)
}

// lockOutSteps take the right to acknowledge away.
func (w *world) lockOutSteps(n *node, c *command) []step {
	return []step{chosen(n, c), do(func() {
		if w.bug(BugLockOutLate) {
			return
		}
		members := slices.Clone(c.Members)
		if w.bug(BugReplacedAcknowledges) && w.gone != nil {
			members = slices.DeleteFunc(members, func(m string) bool { return m == w.gone.agentIncarnation() })
		}
		n.vol.locked = append(n.vol.locked, members...)
		for _, other := range w.everybody() {
			if o := other.server; o != nil && o.peer == n.server && slices.Contains(members, other.agentIncarnation()) {
				o.receiver, o.peer = receiverConnecting, nil
			}
		}
	}), do(func() {
		n.agent.LockedOut = slices.Clone(c.Members)
		w.save(n)
	})}
}

// admitSteps make the account of a member, or unlock it.
func (w *world) admitSteps(n *node, c *command) []step {
	return []step{must(func() *api.Error {
		if n.server == nil || n.agent.OpenStart != n.server.start || !n.agent.OpenPrimary {
			return refuse(api.ErrorPrecondition, "it is not an open primary")
		}
		out := func(m string) bool { return m == c.member }
		for _, other := range w.nodes { // the statement is logged: whoever follows has it, too
			other.vol.locked = slices.DeleteFunc(slices.Clone(other.vol.locked), out)
		}
		n.agent.LockedOut = slices.DeleteFunc(slices.Clone(n.agent.LockedOut), out)
		return nil
	})}
}
