// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

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
		if round == settleRounds-1 {
			w.stuck(why)
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
	w.haunt()
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
	p := w.sourceOf(n)
	if p.server == nil || s.peer != p.server || p.agentIncarnation() != w.store.record.Primary.Incarnation {
		return " follows another"
	}
	if len(n.vol.relay) > 0 || s.cursor != len(p.server.log.list) {
		return fmt.Sprintf(" is behind: %d not applied, %d of %d received", len(n.vol.relay), s.cursor, len(p.server.log.list))
	}
	return ""
}

// stuck ends a run that did not settle. After the loss of a volume that may be right: too few that can be believed may be
// left, and a person has to say what shall be lost. So it is counted then, and a violation (I9) otherwise.
func (w *world) stuck(why string) {
	for _, n := range w.nodes {
		w.tracef("%s", w.describe(n))
	}
	text := fmt.Sprintf("I9: long after everything was mended, %s; %s; %s", why, w.lastDecision, describeRecord(w.store.record))
	if w.lost == 0 && len(w.history.all) < maxTransactions-80 {
		w.fail("%s", text)
	}
	w.held = text
}
