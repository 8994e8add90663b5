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
	// stale is how probable it is, in percent, that the second coordinator does not hear of a new record.
	stale int
	// writes is how many writes come at a time.
	writes int
	// rollback: the volumes of all replicas are set back at this event, and that of the primary is lost; 0 never.
	rollback int
	quiet    bool
	// favourite is the fault that comes more often than others.
	favourite int
	// finale is how many switchovers there are after everything has settled.
	finale int
}

func (w *world) newProfile() profile {
	p := profile{
		voters: 2 + w.rng.IntN(4), coordinators: 1 + w.rng.IntN(2), events: 300 + w.rng.IntN(500), pause: w.rng.IntN(85), faults: 2 + w.rng.IntN(12),
		slow: w.rng.IntN(90), stale: 80 * w.rng.IntN(2), writes: 1 + w.rng.IntN(3), finale: w.rng.IntN(5), favourite: w.rng.IntN(100),
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
	p.volumes, p.hosts = w.rng.IntN(2), w.rng.IntN(4)
	if p.voters < 3 {
		p.volumes = 0
	}
	if w.percent(1) && p.voters > 2 {
		p.rollback, p.faults, p.volumes, p.instances, p.removeAbsent = p.events-100, 0, 1, p.voters, 0
	}
	return p
}

// event lets one thing happen, and checks everything after it.
func (w *world) event() {
	w.events++
	w.now += time.Duration(1+w.rng.IntN(70)) * time.Millisecond
	w.runTimers()
	w.rollBack()
	w.act()
	w.deliverPrompt()
	w.passTime()
	w.checkAll()
}

// rollBack is a restore of old snapshots behind everybody's back: no rule but the floor can notice it. Nothing is written
// for a while before, so that the floor is complete.
func (w *world) rollBack() {
	switch at := w.profile.rollback; {
	case at == 0 || w.events < at-120:
	case w.events == at-120:
		w.profile.quiet = true
		for _, n := range w.nodes[1:] {
			n.snapshot = append([]int(nil), n.vol.log.list[:1+len(n.vol.log.list)/2]...)
		}
	case w.events == at && w.acked.minus(w.store.floor).empty():
		for _, n := range w.nodes[1:] {
			w.crash(n)
			n.vol.log.list = n.snapshot
			n.vol.dropRelay()
			w.watch.forget(n)
		}
		w.loseVolume(w.nodes[0])
	}
}

// timer is something that happens at a time.
type timer struct {
	at  time.Duration
	run func()
}

// after makes something happen between d and three times d from now.
func (w *world) after(d time.Duration, run func()) {
	w.timers = append(w.timers, timer{w.now + d + time.Duration(w.rng.Int64N(int64(2*d))), run})
}

func (w *world) runTimers() {
	due := w.timers
	w.timers = nil
	for _, t := range due {
		if t.at > w.now {
			w.timers = append(w.timers, t)
			continue
		}
		t.run()
	}
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
		if !w.profile.quiet {
			for range w.profile.writes {
				w.writeSomewhere()
			}
		}
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
		if n.ghost != nil && n.ghost != n.server && n.ghost.open() {
			now, vol := n.server, n.vol
			n.server, n.vol = n.ghost, n.ghost.vol
			w.write(n)
			n.server, n.vol = now, vol
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
	default:
		w.replacePod(n)
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

// settleRounds bounds the time in which a healed cluster must be as wanted.
const settleRounds = 200

// settle mends everything and waits until the cluster is as wanted.
func (w *world) settle() {
	w.calm = true
	w.heal()
	w.messages, w.timers = nil, nil
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
			if w.profile.finale == 0 || round > settleRounds/2 {
				return
			}
			w.profile.finale--
			w.profile.switchover = &topology.Switchover{Target: w.anyNode().name}
		}
		if round == settleRounds-1 && !w.mayHold() {
			for _, n := range w.nodes {
				w.tracef("%s", w.describe(n))
			}
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

// describe says how an instance is, for people.
func (w *world) describe(n *node) string {
	a := n.agent
	text := fmt.Sprintf("%s %.12s: promise %d, unvouched %q, discarded %t, diverged %t, locks out %d", n.name, a.Incarnation, a.PromisedEpoch, a.Unvouched, a.Discarded, a.Diverged != nil, len(n.vol.locked))
	if a.fence != nil {
		text += fmt.Sprintf(", fence %+v", *a.fence)
	}
	if s := n.server; s != nil {
		text += fmt.Sprintf(", open %t, source %t k=%d, waiters %d, receiver %s error %d, applier %t, relay %d, executed %s, received %s", s.open(), s.source, s.k, len(s.waiters),
			s.receiver, s.errno, s.applier, len(n.vol.relay), w.history.text(s.executed), w.history.text(s.received()))
	}
	return text
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
	return !holder && able < k+1 || w.profile.rollback > 0 || len(w.history.all) > maxTransactions-80
}
