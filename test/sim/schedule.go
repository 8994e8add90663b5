// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

// profile says what a run is like.
type profile struct {
	instances, voters, coordinators int
	events                          int
	// pause is how probable it is, in percent, that something else happens between two steps of a command.
	pause int
	// faults is how many faults there are at most; volumes and hosts how many volumes may be lost and hosts go down.
	faults, volumes, hosts int
	removeAbsent           time.Duration
	switchover             *topology.Switchover
	// slow is how probable it is that an applier does nothing, in percent.
	slow int
}

func (w *world) newProfile() profile {
	p := profile{
		voters: 2 + w.rng.IntN(4), coordinators: 1 + w.rng.IntN(2), events: 150 + w.rng.IntN(250), pause: w.rng.IntN(60), faults: 1 + w.rng.IntN(6),
		slow: w.rng.IntN(90),
	}
	if w.percent(40) {
		p.voters = 3
	}
	p.instances = p.voters
	if w.percent(20) && p.voters < 5 {
		p.instances++
	}
	if w.percent(40) {
		p.removeAbsent = time.Duration(3+w.rng.IntN(10)) * time.Second
	}
	p.volumes, p.hosts = w.rng.IntN(2), w.rng.IntN(3)
	if p.voters < 3 {
		p.volumes = 0
	}
	return p
}

// event lets one thing happen, and checks everything after it.
func (w *world) event() {
	w.events++
	w.now += time.Duration(1+w.rng.IntN(160)) * time.Millisecond
	w.act()
	w.deliverPrompt()
	w.passTime()
	w.checkAll()
}

func (w *world) anyNode() *node { return w.nodes[w.rng.IntN(len(w.nodes))] }

// act picks what happens next.
func (w *world) act() {
	switch dice := w.rng.IntN(100); {
	case dice < 22:
		w.deliverAny()
	case dice < 38:
		for range 1 + w.rng.IntN(3) {
			w.receive(w.anyNode())
		}
	case dice < 46:
		if !w.percent(w.profile.slow) {
			for range 1 + w.rng.IntN(3) {
				w.apply(w.anyNode())
			}
		}
	case dice < 58:
		w.work(w.anyNode())
	case dice < 74:
		n := w.anyNode()
		w.tick(n)
		w.push(n)
	case dice < 90:
		w.turn(w.coords[w.rng.IntN(len(w.coords))])
	case dice < 96:
		w.write(w.anyNode())
		w.writeSomewhere()
	default:
		if w.profile.faults > 0 {
			w.fault()
		}
	}
}

// writeSomewhere writes to an instance that is open, if there is one.
func (w *world) writeSomewhere() {
	for _, n := range w.nodes {
		if n.server != nil && n.server.open() {
			w.write(n)
		}
	}
}

// deliverAny delivers, loses or repeats one message.
func (w *world) deliverAny() {
	if len(w.messages) == 0 {
		return
	}
	at := w.rng.IntN(len(w.messages))
	m := w.messages[at]
	if w.cut[m.from][m.to] {
		if w.percent(20) {
			w.messages = append(w.messages[:at], w.messages[at+1:]...)
		}
		return
	}
	if w.percent(3) {
		w.tracef("lost: %s %d→%d", m.kind, m.from, m.to)
		w.messages = append(w.messages[:at], w.messages[at+1:]...)
		return
	}
	w.deliver(at, m.kind == "command" && w.percent(5))
}

// passTime is what time does: heartbeats reach connected receivers.
func (w *world) passTime() {
	for _, n := range w.nodes {
		s := n.server
		if s == nil || s.receiver != receiverYes || s.peer == nil {
			continue
		}
		from := w.nodes[n.vol.channel.node]
		if (s.peer == from.server || s.peer == from.ghost) && w.linked(n, from) {
			s.heard = w.now
		}
	}
	w.plantInTime()
}

// fault breaks or mends something.
func (w *world) fault() {
	w.profile.faults--
	n := w.anyNode()
	if w.percent(50) {
		if p := w.leader(); p != nil {
			n = p
		}
	}
	switch dice := w.rng.IntN(100); {
	case dice < 22:
		w.crash(n)
	case dice < 36:
		w.restartAgent(n)
	case dice < 54:
		w.partition(n)
	case dice < 64:
		w.profile.faults += w.rng.IntN(2)
		w.heal()
	case dice < 70:
		w.hostDown(n)
	case dice < 75:
		w.loseVolume(n)
	case dice < 80:
		w.askSwitchover()
	case dice < 84:
		w.dropAcks()
	case dice < 88:
		if n.server != nil {
			n.server.hungSince = w.now
			w.tracef("%s: hangs", n.name)
		}
	case dice < 92:
		w.restart(w.coords[w.rng.IntN(len(w.coords))])
	case dice < 96:
		w.deletePod(n)
	default:
		w.replacePod(n)
	}
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
		return
	}
	w.boot(n)
	n.agent.waiting = true
}

// endGhost ends the old mysqld, and the new Pod gets the volume.
func (w *world) endGhost(n *node) {
	if n.ghost == nil {
		return
	}
	if n.ghost == n.server {
		n.server = nil
	}
	n.ghost = nil
	w.tracef("%s: the old mysqld is gone", n.name)
	w.boot(n)
}

// settleRounds bounds the time in which a healed cluster must be as wanted.
const settleRounds = 150

// settle mends everything and waits until the cluster is as wanted.
func (w *world) settle() {
	w.calm = true
	w.heal()
	w.messages = nil
	w.profile.switchover = nil
	w.prompt = 100
	for round := range settleRounds {
		for _, n := range w.nodes {
			w.mend(n)
		}
		w.now += 300 * time.Millisecond
		w.round()
		w.events++
		why := w.unsettled()
		if why == "" {
			w.checkEnd()
			return
		}
		if round == settleRounds-1 && !w.mayHold() {
			w.fail("I9: long after everything was mended, %s; %s; %s", why, w.lastDecision, describeRecord(w.store.record))
		}
	}
}

// mend brings back what is down.
func (w *world) mend(n *node) {
	if !n.up {
		w.hostUp(n)
	}
	if n.ghost != nil {
		w.endGhost(n)
	}
	if n.stopping {
		w.finishPod(n)
	}
	if n.server != nil && n.server.hungSince != 0 && w.rounds() > 40 {
		w.crash(n) // a person looks at it
	}
}

func (w *world) rounds() int { return w.events - w.profile.events }

// round lets everybody do everything once.
func (w *world) round() {
	w.writeSomewhere()
	for _, n := range w.nodes {
		for range 24 {
			w.receive(n)
			w.apply(n)
		}
	}
	w.deliverPrompt()
	for _, n := range w.nodes {
		w.work(n)
		w.tick(n)
		w.push(n)
	}
	for range 4 {
		w.deliverPrompt()
	}
	w.recordNews()
	w.deliverPrompt()
	w.turn(w.coords[0])
	for range 4 {
		w.deliverPrompt()
	}
	w.passTime()
	w.checkAll()
}

// unsettled says what is not as it should be: a primary is open, and every instance votes and follows it; "" when all is.
func (w *world) unsettled() string {
	r := w.store.record
	if r.Phase != v1beta1.RecordOpened || len(r.LastOpened.Voters) != len(w.nodes) {
		return "the record is not opened for all"
	}
	for _, n := range w.nodes {
		s := n.server
		switch {
		case s == nil:
			return n.name + " is down"
		case r.Primary.Incarnation == n.agent.Incarnation:
			if !s.open() || len(s.waiters) > 0 {
				return n.name + " is not open, or writes wait"
			}
		case n.agent.Unvouched != "" || n.agent.Diverged != nil:
			return n.name + " has no vote: " + n.agent.Unvouched
		default:
			if why := w.behind(n, s); why != "" {
				return n.name + why
			}
		}
	}
	return ""
}

// behind says why a replica does not follow the primary of the record.
func (w *world) behind(n *node, s *server) string {
	if s.receiver != receiverYes || !s.semi || n.agent.Record.Phase != v1beta1.RecordOpened {
		return fmt.Sprintf(" does not follow: %s, acknowledges %t, error %d", s.receiver, s.semi, s.errno)
	}
	p := w.nodes[n.vol.channel.node]
	if p.server == nil || s.peer != p.server || p.agentIncarnation() != w.store.record.Primary.Incarnation {
		return " follows another"
	}
	if len(n.vol.relay) > 0 || s.cursor != len(p.server.log.list) {
		return fmt.Sprintf(" is behind: %d not applied, %d of %d received", len(n.vol.relay), s.cursor, len(p.server.log.list))
	}
	return ""
}

// mayHold reports whether a person is needed: not enough voters that can be believed are left.
func (w *world) mayHold() bool {
	r := w.store.record
	able, k := 0, int(r.LastOpened.AckCount)
	for _, v := range r.LastOpened.Voters {
		for _, n := range w.nodes {
			if n.agentIncarnation() == v.Incarnation && n.agent != nil && n.agent.Unvouched == "" && n.agent.Diverged == nil {
				able++
			}
		}
	}
	holder := false
	for _, n := range w.nodes {
		holder = holder || n.agentIncarnation() == r.LastOpened.Primary.Incarnation
	}
	return !holder && able < k+1 || len(w.history.all) > maxTransactions-80
}
