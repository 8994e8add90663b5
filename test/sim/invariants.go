// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

// watch remembers what the invariants need, apart from everything the product's code can see.
type watch struct {
	// promised is the highest epoch that the data of an incarnation took part in.
	promised map[string]int64
	// held is what a vouched voter has held, by incarnation.
	held map[string]set
	// holders counts, by transaction, who has ever held it.
	holders map[int]map[string]bool
	// leaders is the one primary of each epoch.
	leaders map[int64]string
	// voters of each epoch that was opened or begun.
	voters map[int64][]string
	// openEpoch is the newest opened epoch, and openBy its primary.
	openEpoch int64
	openBy    string
	// opened are the records of the epochs that were opened.
	opened map[int64]*topology.Record
	// pretended are the markers that a planted bug makes up.
	pretended []string
}

func (x *watch) begin(w *world) {
	x.promised, x.held, x.holders = map[string]int64{}, map[string]set{}, map[int]map[string]bool{}
	x.leaders, x.voters, x.opened = map[int64]string{}, map[int64][]string{}, map[int64]*topology.Record{}
	x.recorded(w, w.store.record)
}

// recorded takes note of a record that was written.
func (x *watch) recorded(w *world, r *topology.Record) {
	if r.Primary != nil {
		x.leaders[r.Epoch] = r.Primary.Incarnation
	}
	for _, c := range everyConfiguration(r) {
		for _, v := range c.Voters {
			x.voters[r.Epoch] = append(x.voters[r.Epoch], v.Incarnation)
		}
	}
	if r.Phase == v1beta1.RecordOpened {
		x.opened[r.Epoch] = r
		x.openEpoch, x.openBy = r.Epoch, r.Primary.Incarnation
	}
}

func everyConfiguration(r *topology.Record) []topology.Configuration {
	all := slices.Clone(r.Earlier)
	if r.LastOpened != nil {
		all = append(all, r.LastOpened.Configuration)
	}
	if r.Pending != nil {
		all = append(all, *r.Pending)
	}
	return all
}

// forget says that what an instance held may have shrunk, for a reason that its agent can see.
func (x *watch) forget(n *node) { delete(x.held, n.agentIncarnation()) }

// holder returns the instance with the data of an incarnation, or nil.
func (w *world) holder(incarnation string) *node {
	for _, n := range w.nodes {
		if n.vol.durable.Incarnation == incarnation {
			return n
		}
	}
	return nil
}

// checkRecord checks a change of the record (I1, I2, I3).
func (w *world) checkRecord(old, next *topology.Record) {
	if next.Epoch < old.Epoch || next.Epoch == old.Epoch && (rank[next.Phase] <= rank[old.Phase] || next.Claim != old.Claim) {
		w.fail("I3: the record goes from epoch %d %s %s to %d %s %s", old.Epoch, old.Phase, old.Claim, next.Epoch, next.Phase, next.Claim)
	}
	if leader := w.watch.leaders[next.Epoch]; leader != "" && (next.Primary == nil || next.Primary.Incarnation != leader) {
		w.fail("I3: epoch %d has two primaries", next.Epoch)
	}
	if next.Primary == nil {
		return
	}
	p := w.holder(next.Primary.Incarnation)
	if p == nil {
		return // its volume was lost a moment ago: nobody is served from it
	}
	if missing := w.acked.minus(p.vol.present()); !missing.empty() {
		w.fail("I1: %s is chosen and lacks the acknowledged %s", p.name, w.history.text(missing))
	}
	if next.Phase != v1beta1.RecordOpened {
		return
	}
	w.checkHistory(p, "the record opens it")
	w.checkOthers(p, next)
}

// checkHistory checks that an instance holds everything that was acknowledged (I1).
func (w *world) checkHistory(p *node, when string) {
	if missing := w.acked.minus(p.vol.log.set()); !missing.empty() {
		w.fail("I1: %s lacks the acknowledged %s when %s", p.name, w.history.text(missing), when)
	}
}

// checkOthers checks that no other primary can still get an acknowledgement for a write outside the history that is now
// opened (I2).
func (w *world) checkOthers(p *node, next *topology.Record) {
	history := p.vol.log.set()
	for _, n := range w.everybody() {
		for _, s := range []*server{n.server, n.ghost} {
			if s == nil || n == p && s == p.server || !s.source {
				continue
			}
			for _, waiting := range s.waiters {
				if !history.has(waiting.x) && w.ackers(s, waiting.position) >= s.k {
					w.fail("I2: %s can still get %s acknowledged while epoch %d of %s opens", n.name, w.history.all[waiting.x], next.Epoch, p.name)
				}
			}
			if s.open() && w.ackers(s, len(s.log.list)+1) >= s.k {
				w.fail("I2: %s can still acknowledge writes while epoch %d of %s opens", n.name, next.Epoch, p.name)
			}
		}
	}
}

// checkAcknowledged checks a write that a client was just told of: every newer open primary has it (I1, I2).
func (w *world) checkAcknowledged(n *node, x int) {
	if w.watch.openBy == n.agentIncarnation() {
		return
	}
	if p := w.holder(w.watch.openBy); p != nil && !p.vol.log.set().has(x) {
		w.fail("I2: %s acknowledged %s, which %s, the primary of epoch %d, does not have", n.name, w.history.all[x], p.name, w.watch.openEpoch)
	}
}

// checkAcker checks an acknowledgement that counts (I7): it is of a voter of a configuration that counts for a quorum, by the
// record as it is stored or as the primary knows it.
func (w *world) checkAcker(from *node, s *server, incarnation string) {
	if len(s.waiters) == 0 || from.agent == nil || from.agent.Record == nil {
		return
	}
	known := from.agent.Record
	for _, c := range append(everyConfiguration(known), everyConfiguration(w.store.record)...) {
		if slices.ContainsFunc(c.Voters, func(v topology.Member) bool { return v.Incarnation == incarnation }) {
			return
		}
	}
	if !slices.Contains(w.watch.voters[known.Epoch], incarnation) {
		w.fail("I7: %s counts the acknowledgement of %s, which does not vote", from.name, incarnation)
	}
}

// checkAdmitted checks a command that is about to be carried out (I4).
func (w *world) checkAdmitted(n *node, c *command) {
	incarnation := n.agentIncarnation()
	if c.env.Epoch < w.watch.promised[incarnation] {
		w.fail("I4: %s carries out %s of epoch %d, and had promised %d", n.name, c.Kind, c.env.Epoch, w.watch.promised[incarnation])
	}
	w.watch.promised[incarnation] = c.env.Epoch
}

// checkVouched checks an instance that has its vote back: nothing acknowledged before the marker it awaited is missing.
func (w *world) checkVouched(n *node) {
	p := w.holder(w.watch.openBy)
	if p == nil || p == n {
		return
	}
	mine := n.vol.present()
	for _, x := range p.vol.log.list {
		if w.isMarker(x) && mine.has(x) && n.agent != nil {
			continue
		}
		if !mine.has(x) && w.acked.has(x) && w.before(p, x, n) {
			w.fail("I5: %s votes again and lacks %s", n.name, w.history.all[x])
		}
	}
}

// before reports whether x comes before some marker of the primary's log that n has executed.
func (w *world) before(p *node, x int, n *node) bool {
	at := slices.Index(p.vol.log.list, x)
	return slices.ContainsFunc(p.vol.log.list[at:], func(y int) bool { return w.isMarker(y) && n.server != nil && n.server.executed.has(y) })
}

// checkCut checks what a rewind cuts off.
func (w *world) checkCut(n *node, cut []int) {
	for _, x := range cut {
		if w.acked.has(x) {
			w.fail("I1: %s cuts off the acknowledged %s", n.name, w.history.all[x])
		}
	}
}

// opened checks a primary that has just begun to serve (I1): everything it shows is held by k others, too.
func (w *world) opened(n *node) {
	r := n.agent.Record
	if r.Epoch >= w.watch.openEpoch {
		w.checkHistory(n, "it begins to serve")
	}
	k := int(r.LastOpened.AckCount)
	for _, x := range n.server.executed.list() {
		others := len(w.watch.holders[x])
		if w.watch.holders[x][n.agentIncarnation()] {
			others--
		}
		if others < k {
			w.fail("I1: %s serves %s, which only %d others ever held", n.name, w.history.all[x], others)
		}
	}
}

// holds takes note that an instance holds a transaction.
func (x *watch) holds(n *node, transaction int) {
	if x.holders[transaction] == nil {
		x.holders[transaction] = map[string]bool{}
	}
	x.holders[transaction][n.agentIncarnation()] = true
}

// checkAll is what is checked after every event (I5, I6).
func (w *world) checkAll() {
	for _, n := range w.nodes {
		w.checkOpen(n, n.server)
		w.checkShrink(n)
		w.checkFence(n)
	}
}

// checkOpen checks that an open primary waits for as many acknowledgements as its configuration demands (I6).
func (w *world) checkOpen(n *node, s *server) {
	if s == nil || !s.open() || n.agent == nil || n.agent.Record == nil || n.agent.waiting {
		return
	}
	r := n.agent.Record
	if r.LastOpened == nil || r.LastOpened.AckCount == 0 {
		return
	}
	k := int(r.LastOpened.AckCount)
	if r.Pending != nil {
		k = min(k, int(r.Pending.AckCount))
	}
	if !s.source || s.k < k {
		w.fail("I6: %s is open with semi-sync %t and k=%d, its configuration demands %d", n.name, s.source, s.k, k)
	}
	if r.Pending == nil || s.k >= int(r.LastOpened.AckCount) {
		return
	}
	for _, v := range r.LastOpened.Voters {
		left := !slices.ContainsFunc(r.Pending.Voters, func(m topology.Member) bool { return m.Incarnation == v.Incarnation })
		if left && !slices.Contains(n.vol.locked, v.Incarnation) {
			w.fail("I6: %s waits for %d acknowledgements although %s may still give one", n.name, s.k, v.Name)
		}
	}
}

// checkShrink checks that what a voter holds, of which it says that it counts, never shrinks (I5).
func (w *world) checkShrink(n *node) {
	incarnation := n.agentIncarnation()
	if n.agent == nil || n.agent.waiting || n.agent.Unvouched != "" || !topology.IsVoter(w.store.record, incarnation) {
		delete(w.watch.held, incarnation)
		return
	}
	present := n.vol.present()
	if before, known := w.watch.held[incarnation]; known {
		if lost := before.minus(present); !lost.empty() {
			w.fail("I5: %s votes and has lost %s", n.name, w.history.text(lost))
		}
	}
	w.watch.held[incarnation] = present
}

// checkFence checks that a fenced replica receives nothing until its epoch has a primary (I2): what it said it held is what
// the choice is made on.
func (w *world) checkFence(n *node) {
	a := n.agent
	if a == nil || a.fence == nil || a.fence.Killed || a.fence.Epoch != a.PromisedEpoch || a.Record == nil || a.Record.Phase != v1beta1.RecordClaimed {
		return
	}
	if more := w.history.names(n.vol.present()).minus(w.history.parse(a.fence.Received)); !more.empty() {
		w.fail("I2: %s is fenced for epoch %d and has received %s since", n.name, a.fence.Epoch, w.history.text(more))
	}
}

// checkEnd checks a cluster that has settled: everybody holds the same, and everything that was acknowledged.
func (w *world) checkEnd() {
	p := w.holder(w.store.record.Primary.Incarnation)
	w.checkHistory(p, "everything has settled")
	for _, n := range w.nodes {
		if lacks := w.acked.minus(n.vol.log.set()); !lacks.empty() {
			w.fail("I1: in the end %s lacks the acknowledged %s", n.name, w.history.text(lacks))
		}
		for _, x := range n.vol.log.set().minus(p.vol.log.set()).list() {
			if !w.isMarker(x) {
				w.fail("I9: in the end %s has %s, which the primary lacks", n.name, w.history.all[x])
			}
		}
	}
}
