// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"time"

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
	if p.voters == 5 {
		p.volumes += w.rng.IntN(2)
	}
	if w.percent(8) {
		// A second coordinator that hears of nothing meets agents that forget what they can.
		p.coordinators, p.stale, p.favourite, p.faults = 2, 90, restartOfAgent, 14
	}
	if w.percent(1) && p.voters > 2 {
		p.rollback, p.faults, p.volumes, p.instances, p.removeAbsent = p.events-100, 0, 1, p.voters, 0
	}
	return p
}

// restartOfAgent is the number of that fault.
const restartOfAgent = 20

// event lets one thing happen, and checks everything after it.
func (w *world) event() {
	w.events++
	w.now += time.Duration(1+w.rng.IntN(70)) * time.Millisecond
	w.runTimers()
	w.rollBack()
	w.act()
	w.haunt()
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
	if m.kind == "command" && w.percent(5) {
		m.deliver() // and another copy is still on its way
		return
	}
	w.deliver(at)
}

// passTime is what time does: heartbeats reach connected receivers.
func (w *world) passTime() {
	for _, n := range w.everybody() {
		s := n.server
		if s == nil || s.receiver != receiverYes || s.peer == nil {
			continue
		}
		from := w.sourceOf(n)
		if (s.peer == from.server || s.peer == from.ghost) && w.linked(n, from) {
			s.heard = w.now
		}
	}
	w.plantInTime()
}
