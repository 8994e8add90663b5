// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/topology"
)

const (
	// maxGone bounds how many nodes go for good in one run; firstZombie is where what is left on them is on the network.
	maxGone     = 3
	firstZombie = 12
)

// everybody are the instances and the zombies.
func (w *world) everybody() []*node { return append(slices.Clone(w.nodes), w.zombies...) }

// nodeGone is the end of a node as Kubernetes sees it: its object is deleted, and whatever was on it is to be replaced. What
// runs there may be dead, or cut off from the coordinators alone, and go on to acknowledge; or it comes back later.
func (w *world) nodeGone(n *node) {
	r := w.store.record
	leads := r.Primary != nil && r.Primary.Incarnation == n.agentIncarnation() || r.LastOpened.Primary.Incarnation == n.agentIncarnation()
	if leads || w.gone != nil || len(w.zombies) == maxGone || len(r.LastOpened.Voters) < 3 || !n.up || n.stopping || n.ghost != nil || n.agent == nil || n.agent.waiting {
		return
	}
	w.gone = n
	w.tracef("%s: its node is gone for good", n.name)
	switch dice := w.rng.IntN(100); {
	case dice < 25:
		w.crash(n)
		n.agent, n.up = nil, false
		w.watch.forget(n)
	case dice < 75:
		for other := len(w.nodes); other <= w.storeAddress(); other++ {
			w.cut[n.n][other], w.cut[other][n.n] = true, true
		}
	case dice < 90:
		w.flap(n)
	default: // it is as well as ever: a person asked
	}
}

// replacements is what is asked of every decision. Who leads is not replaced.
func (w *world) replacements() []topology.Replacement {
	if w.gone == nil {
		return nil
	}
	if r := w.store.record; r.Primary != nil && r.Primary.Incarnation == w.gone.agentIncarnation() {
		w.tracef("%s: leads, and is not replaced", w.gone.name)
		w.gone = nil
		return nil
	}
	return []topology.Replacement{{Instance: w.gone.name, Why: "its node is gone"}}
}

// replaceGone gives up the instance whose node is gone once the record as it is stored says that nobody counts on it.
func (w *world) replaceGone(c *coordinator) {
	here, there := w.address(c), w.storeAddress()
	if w.gone == nil || w.cut[here][there] || w.cut[there][here] {
		return
	}
	seen := c.seen
	seen.Record = w.store.record
	if free, _ := topology.Removable(seen, w.gone.name); !free {
		return
	}
	old := w.gone
	w.gone = nil
	next := w.successor(old)
	w.nodes[old.n] = next
	w.tracef("%s: its Pod and its volume are given up, another begins with an empty one", old.name)
	w.becomeZombie(old)
	for _, c := range w.coords {
		if w.address(c) == here { // the others believe in the old one until they hear of the new one
			c.reports[next.n] = report{heard: w.now, sequence: w.serial}
			delete(c.running, next.name)
			delete(c.later, next.name)
		}
	}
	w.boot(next)
}

// successor is another Pod of the name on another node, with an empty volume.
func (w *world) successor(old *node) *node {
	w.cut = w.uncut(old.n)
	n := &node{n: old.n, name: old.name, ip: fmt.Sprintf("10.0.%d.%d", len(w.zombies)+1, old.n+1), boots: old.boots + 1, up: true}
	n.vol = &volume{durable: kept{Durable: state.Durable{Incarnation: "inc-" + w.uuid(), Counter: 1}}, serverUUID: w.uuid(), serverID: w.serial, log: &binlog{}}
	return n
}

// becomeZombie moves what is left on the lost node to a place of its own on the network. It reaches the other instances, at
// once or after a while; that its host starts again changes nothing.
func (w *world) becomeZombie(n *node) {
	n.n, n.zombie = firstZombie+len(w.zombies), true
	w.zombies = append(w.zombies, n)
	if w.percent(30) {
		for other := range w.cut {
			w.cut[n.n][other], w.cut[other][n.n] = true, true
		}
		w.after(2*time.Second, func() { w.cut = w.uncut(n.n) })
	}
	w.after(time.Second, func() {
		if !n.up {
			w.hostUp(n)
		}
	})
}

// uncut is the network with all ways to a place open.
func (w *world) uncut(place int) [16][16]bool {
	ways := w.cut
	ways[place] = [16]bool{}
	for other := range ways {
		ways[other][place] = false
	}
	return ways
}

// haunt lets the zombies go on: they receive, acknowledge, apply, and serve whoever is still connected to them.
func (w *world) haunt() {
	for _, z := range w.zombies {
		for range 1 + w.rng.IntN(3) {
			w.receive(z)
			w.apply(z)
		}
		w.tick(z)
		w.work(z)
		if z.server == nil && z.up && z.agent != nil && z.vol.filled && w.percent(10) {
			// A voter may go on by itself in the epoch it knows: it starts, closed, connects, and asks to acknowledge.
			w.startOwn(z)
			if z.vol.channel != nil && z.agent.Record != nil && admission.MayAcknowledge(z.agent.Record, z.agentIncarnation()) {
				z.server.replica, z.server.applier, z.server.receiver = true, true, receiverConnecting
			}
		}
		if z.server != nil && z.server.open() && !w.profile.quiet {
			w.write(z)
		}
	}
}

// sourceOf is the instance whose address the channel of a replica leads to: perhaps one that is a zombie now.
func (w *world) sourceOf(n *node) *node {
	for _, other := range w.everybody() {
		if other.ip == n.vol.channel.host {
			return other
		}
	}
	return w.nodes[n.vol.channel.node]
}
