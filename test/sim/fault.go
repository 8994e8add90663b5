// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"time"

	"github.com/moco-mysql/moco/pkg/topology"
)

// victim picks an instance, in half of the cases the one that serves writes.
func (w *world) victim() *node {
	if p := w.leader(); p != nil && w.percent(50) {
		return p
	}
	return w.anyNode()
}

// fault breaks or mends something.
func (w *world) fault() {
	w.profile.faults--
	n := w.victim()
	dice := w.rng.IntN(100)
	if w.percent(40) {
		dice = w.profile.favourite
	}
	switch {
	case dice < 14:
		w.crash(n)
	case dice < 25:
		w.restartAgent(n)
	case dice < 33:
		w.partition(n)
	case dice < 51:
		w.flap(n)
	case dice < 55:
		w.heal()
	case dice < 62:
		w.hostDown(n)
	case dice < 67:
		w.loseVolume(n)
	case dice < 73:
		w.askSwitchover()
	case dice < 75:
		w.dropAcks()
	case dice < 84:
		w.hang(n)
	case dice < 89:
		w.restart(w.coords[w.rng.IntN(len(w.coords))])
	case dice < 94:
		w.deletePod(n)
	case dice < 97:
		w.replacePod(n)
	default:
		w.nodeGone(n)
	}
}

// hang stops the work of a mysqld for a while.
func (w *world) hang(n *node) {
	s := n.server
	if s == nil {
		return
	}
	s.hungSince = w.now
	w.tracef("%s: hangs", n.name)
	w.after(1500*time.Millisecond, func() {
		s.hungSince = 0
		w.tracef("%s: goes on", n.name)
	})
}

// flap cuts an instance off from everybody, and gives it back its replicas, but not its coordinators, after about the
// time in which it is found to be lost.
func (w *world) flap(n *node) {
	for other := range w.storeAddress() + 1 {
		if other != n.n {
			w.cut[n.n][other], w.cut[other][n.n] = true, true
		}
	}
	w.tracef("%s: cut off from all", n.name)
	w.after(1200*time.Millisecond, func() {
		for other := range w.nodes {
			w.cut[n.n][other], w.cut[other][n.n] = false, false
		}
		w.tracef("%s: reaches the other instances again", n.name)
	})
	w.after(2*time.Second, func() {
		if w.percent(50) {
			w.heal()
		}
	})
}

// leader is the instance that serves writes, or nil.
func (w *world) leader() *node {
	for _, n := range w.nodes {
		if n.server != nil && n.server.open() {
			return n
		}
	}
	return nil
}

func (w *world) restartAgent(n *node) {
	if n.agent == nil || !n.up || n.agent.waiting {
		return
	}
	w.boot(n)
}

// partition cuts ways around an instance or a coordinator, in one direction or both.
func (w *world) partition(n *node) {
	all := w.storeAddress() + 1
	center := n.n
	if w.percent(25) {
		center = len(w.nodes) + w.rng.IntN(len(w.coords))
	}
	both, everything := w.percent(70), w.percent(50)
	for other := range all {
		if other == center || !everything && w.percent(50) {
			continue
		}
		w.cut[center][other] = true
		if both {
			w.cut[other][center] = true
		}
	}
	w.tracef("cut around %d, both ways %t", center, both)
	w.after(3*time.Second, func() {
		if w.percent(60) {
			w.heal()
		}
	})
}

func (w *world) heal() {
	w.cut = [16][16]bool{}
	w.tracef("the network is whole")
}

// hostDown ends everything on a host; what was not flushed of its relay log is gone.
func (w *world) hostDown(n *node) {
	if w.profile.hosts == 0 || !n.up {
		return
	}
	w.profile.hosts--
	w.crash(n)
	n.ghost, n.agent, n.up, n.stopping = nil, nil, false, false
	v := n.vol
	keep := len(v.relay)
	for keep > 0 && !v.relay[keep-1].synced && w.percent(80) {
		keep--
		v.retrieved.remove(v.relay[keep].x)
	}
	v.relay = v.relay[:keep]
	if keep > 0 && !v.relay[keep-1].synced && w.percent(50) {
		v.relay[keep-1].torn = true
		v.retrieved.remove(v.relay[keep-1].x)
	}
	w.watch.forget(n)
	w.tracef("%s: host goes down", n.name)
	w.after(2*time.Second, func() {
		if !n.up && w.percent(70) {
			w.hostUp(n)
		}
	})
}

// hostUp starts the host and the Pod on it again.
func (w *world) hostUp(n *node) {
	n.boots++
	n.up = true
	w.boot(n)
}

// loseVolume replaces a volume by an empty one.
func (w *world) loseVolume(n *node) {
	if w.profile.volumes == 0 || !n.up || n.stopping || n.agent != nil && n.agent.waiting {
		return
	}
	w.profile.volumes--
	w.lost++
	w.crash(n)
	n.ghost = nil
	old := n.vol.durable.Incarnation
	n.vol = &volume{durable: kept{}, serverUUID: w.uuid(), serverID: w.serial, log: &binlog{}}
	n.vol.durable.Incarnation, n.vol.durable.Counter = "inc-"+w.uuid(), 1
	n.boots++
	if w.bug(BugCloneKeepsVote) {
		w.pretend(n, old)
	}
	w.tracef("%s: its volume is lost", n.name)
	w.boot(n)
}

func (w *world) askSwitchover() {
	if w.profile.switchover == nil {
		w.profile.switchover = &topology.Switchover{Target: w.anyNode().name}
		w.tracef("switchover to %s is asked for", w.profile.switchover.Target)
	}
}

// dropAcks loses acknowledgements on their way.
func (w *world) dropAcks() {
	kept := w.messages[:0]
	for _, m := range w.messages {
		if m.ack == nil {
			kept = append(kept, m)
		}
	}
	w.messages = kept
}

// deletePod begins the end of a Pod.
func (w *world) deletePod(n *node) {
	if n.up && n.agent != nil && !n.agent.waiting {
		n.stopping = true
		w.tracef("%s: Pod is being deleted", n.name)
		w.after(4*time.Second, func() {
			if n.stopping && n.up {
				w.finishPod(n)
			}
		})
	}
}

// finishPod ends a Pod that is being deleted and makes the next one.
func (w *world) finishPod(n *node) {
	w.terminate(n)
	n.stopping = false
	n.boots++
	w.tracef("%s: Pod is made anew", n.name)
	n.agent = nil
	n.vol.durable.BootID = n.bootID() // the same host
	w.boot(n)
}

// replacePod is a forced deletion while the node is cut off: the old mysqld goes on, nobody commands it, and a new Pod
// waits for the volume.
func (w *world) replacePod(n *node) {
	if n.server == nil || !n.up || n.agent == nil || n.stopping || n.agent.waiting {
		return
	}
	n.boots++
	n.ghost = n.server
	n.vol.durable.BootID = n.bootID()
	w.tracef("%s: an old mysqld goes on without its agent", n.name)
	if w.bug(BugTwoPods) {
		n.server = nil
		v := *n.vol
		v.log = &binlog{list: append([]int(nil), v.log.list...)}
		v.relay = append([]relayEntry(nil), v.relay...)
		n.vol = &v
		n.agent = nil
		w.boot(n)
		w.after(3*time.Second, func() { w.endGhost(n) })
		return
	}
	w.boot(n)
	n.agent.waiting = true
	w.after(3*time.Second, func() { w.endGhost(n) })
}

// endGhost ends the old mysqld, and the new Pod gets the volume.
func (w *world) endGhost(n *node) {
	if n.ghost == nil {
		return
	}
	if w.bug(BugTwoPods) {
		n.ghost = nil
		return
	}
	if n.ghost == n.server {
		n.server = nil
	}
	n.ghost = nil
	w.tracef("%s: the old mysqld is gone", n.name)
	w.boot(n)
}
