// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

const (
	// silence is how long an agent may say nothing before it counts as unknown.
	silence = 3 * time.Second
	// patience is how long a coordinator waits for the answer to a command.
	patience = 2 * time.Second
)

// coordinator is one controller process, which may be one too many. What it knows may be old.
type coordinator struct {
	n        int
	down     bool
	ownClaim string
	// record is the newest it has seen or written.
	record  *topology.Record
	reports []report
	// done is when a command was last carried out, by instance and kind.
	done map[string]time.Duration
	// running are the commands of the present plan that are not answered, by instance; later are those after the admits.
	running map[string][]topology.Action
	later   map[string][]topology.Action
	seen    topology.Observed
	waits   map[string]time.Duration
	writing time.Duration
	// plans counts what was begun, so that late answers are known.
	plans int
}

// report is what a coordinator knows of an instance.
type report struct {
	status   *api.Status
	sequence int
	heard    time.Duration
	away     time.Duration // since when the voter has not been connected; 0 while it is
}

func (w *world) newCoordinator(n int) *coordinator {
	c := &coordinator{n: n}
	w.restart(c)
	for range w.nodes {
		c.reports = append(c.reports, report{heard: w.now})
	}
	c.record = w.store.record
	return c
}

// restart is another process in the same place: it has claimed nothing and remembers nothing.
func (w *world) restart(c *coordinator) {
	c.plans++
	c.ownClaim, c.done, c.running, c.later, c.waits, c.writing = "", map[string]time.Duration{}, nil, nil, nil, 0
	for i := range c.reports {
		c.reports[i] = report{heard: w.now, sequence: c.reports[i].sequence}
	}
	c.record = w.store.record
	w.tracef("coordinator %d starts", c.n)
}

// address is where a coordinator is on the network.
func (w *world) address(c *coordinator) int { return len(w.nodes) + c.n }

// push sends an instance's status to every coordinator.
func (w *world) push(n *node) {
	if n.agent == nil || !n.up || n.zombie {
		return
	}
	status := w.status(n)
	w.serial++
	sequence := w.serial
	for _, c := range w.coords {
		w.send(n.n, w.address(c), "status", func() {
			if n.zombie {
				return // its Pod object is gone: nobody listens to it
			}
			r := &c.reports[n.n]
			if sequence > r.sequence && !c.down {
				r.status, r.sequence, r.heard = status, sequence, w.now
				w.noteFloor(status)
			}
		})
	}
}

// noteFloor keeps the highest gtid_executed an open primary has reported.
func (w *world) noteFloor(s *api.Status) {
	r := w.store.record
	if s.Server == nil || s.Server.SuperReadOnly || s.Server.OfflineMode || r.LastOpened == nil || r.LastOpened.Primary.Incarnation != s.Incarnation {
		return
	}
	if r.Phase != v1beta1.RecordOpened || s.PromisedEpoch != r.Epoch {
		return
	}
	if w.store.floorEpoch != r.Epoch {
		w.store.floor, w.store.floorEpoch = set{}, r.Epoch
	}
	w.store.floor = w.store.floor.union(w.history.parse(s.Server.GTIDExecuted))
}

// recordNews tells every coordinator what the store holds.
func (w *world) recordNews() {
	r := w.store.record
	for _, c := range w.coords {
		if c.n > 0 && w.percent(w.profile.stale) {
			continue
		}
		w.send(w.storeAddress(), w.address(c), "record", func() {
			if c.record == nil || newer(r, c.record) {
				c.record = r
			}
		})
	}
}

func (w *world) storeAddress() int { return len(w.nodes) + len(w.coords) }

var rank = map[v1beta1.RecordPhase]int{v1beta1.RecordClaimed: 1, v1beta1.RecordChosen: 2, v1beta1.RecordOpened: 3}

func newer(a, b *topology.Record) bool {
	return a.Epoch > b.Epoch || a.Epoch == b.Epoch && rank[a.Phase] > rank[b.Phase]
}

// observe puts what a coordinator knows into the words of pkg/topology.
func (w *world) observe(c *coordinator) topology.Observed {
	w.serial++
	seen := topology.Observed{
		Record: c.record, Initialized: true, OwnClaim: c.ownClaim, FreshClaim: fmt.Sprintf("claim-%d-%d", c.n, w.serial), FreshUUID: clusterUUID,
	}
	if r := c.record; r.LastOpened != nil && w.store.floorEpoch == r.LastOpened.Epoch {
		seen.Floor = w.history.text(w.store.floor)
	}
	for _, n := range w.nodes {
		seen.Instances = append(seen.Instances, w.observeInstance(c, n))
	}
	for i := range seen.Instances {
		if a := seen.Instances[i].Agent; a != nil && a.RequiresOwnLog && c.record.LastOpened != nil && a.Incarnation == c.record.LastOpened.Primary.Incarnation {
			seen.OwnLog = true
		}
	}
	return w.plantInObservation(seen)
}

func (w *world) observeInstance(c *coordinator, n *node) topology.Instance {
	r := &c.reports[n.n]
	i := topology.Instance{Name: n.name, Ordinal: int32(n.n), IP: n.ip, HasVolume: true, Configured: true, Stopping: n.stopping}
	quiet := w.now - r.heard
	if r.status == nil || quiet > silence {
		i.Silent, i.Cause = quiet, "its agent is silent"
	} else {
		i.Agent = r.status
	}
	connected := i.Agent != nil && i.Agent.Server != nil && (i.Agent.Server.Channel == nil || i.Agent.Server.Channel.Receiver == receiverYes)
	switch {
	case connected:
		r.away = 0
	case r.away == 0:
		r.away = w.now
	default:
		i.Away = w.now - r.away
	}
	return i
}

// turn is one pass of a coordinator: give up what is not answered, or decide and begin to carry out.
func (w *world) turn(c *coordinator) {
	if c.down {
		return
	}
	if c.writing > 0 && w.now-c.writing < patience {
		return
	}
	c.writing = 0
	if len(c.running) > 0 {
		w.giveUp(c)
		return
	}
	if len(c.later) > 0 {
		c.plans++
		c.running, c.later = c.later, nil
		w.issueAll(c)
		return
	}
	c.seen = w.observe(c)
	want := topology.Desired{
		Replicas: int32(len(w.nodes)), Detection: 2 * time.Second, RemoveAbsent: w.profile.removeAbsent, Switchover: w.profile.switchover,
		Replace: w.replacements(),
	}
	plan := topology.Decide(want, c.seen)
	c.plans++
	if c.plans%4 == 0 && !reflect.DeepEqual(plan, topology.Decide(want, c.seen)) {
		w.fail("I10: the same observation led to two plans: %+v", plan)
	}
	w.rules[string(plan.Decision.Rule)]++
	w.lastDecision = fmt.Sprintf("%s: %s; waits for %s", plan.Decision.Rule, plan.Decision.Reason, plan.Decision.WaitingFor)
	if plan.Refused != "" {
		w.profile.switchover = nil
	}
	if w.Trace {
		w.tracef("coordinator %d: %s%s", c.n, w.lastDecision, actionNames(plan.Actions))
	}
	w.execute(c, plan)
	w.route(c)
	w.replaceGone(c)
}

func actionNames(actions []topology.Action) string {
	var text strings.Builder
	for _, a := range actions {
		fmt.Fprintf(&text, " [%s %s]", a.Kind, a.Instance)
	}
	return text.String()
}

// pauses say how long the same command is not repeated.
var pauses = map[topology.ActionKind]time.Duration{topology.Follow: time.Second, topology.Open: time.Second}

// execute begins to carry out a plan as the controller does: accounts first, then different instances at the same time.
func (w *world) execute(c *coordinator, plan topology.Plan) {
	admits, rest := map[string][]topology.Action{}, map[string][]topology.Action{}
	for _, a := range plan.Actions {
		if pause, limited := pauses[a.Kind]; limited {
			if at, ok := c.done[pauseKey(a)]; ok && w.now-at < pause {
				continue
			}
		}
		switch a.Kind {
		case topology.WriteRecord:
			w.requestWrite(c, a.Record)
			return
		case topology.Admit:
			admits[a.Instance] = append(admits[a.Instance], a)
		default:
			rest[a.Instance] = append(rest[a.Instance], a)
		}
	}
	c.running, c.later = rest, nil
	if len(admits) > 0 {
		c.running, c.later = admits, rest
	}
	w.issueAll(c)
}

func pauseKey(a topology.Action) string {
	return fmt.Sprint(a.Instance, a.Kind, a.Peer, a.Address, a.Record.Epoch, a.Record.Phase, a.Ack)
}

// requestWrite asks the store for a compare-and-set. The claim is remembered first: an unknown outcome must be known as
// one's own when it is read back.
func (w *world) requestWrite(c *coordinator, next *topology.Record) {
	seen := c.seen.Record
	if w.bug(BugQuorumOfAttempt) {
		seen = c.record
	}
	c.ownClaim, c.writing = next.Claim, w.now
	w.send(w.address(c), w.storeAddress(), "write", func() {
		written := w.writeRecord(seen, next)
		if written {
			w.recordNews()
		}
		w.send(w.storeAddress(), w.address(c), "written", func() {
			if c.ownClaim != next.Claim {
				return
			}
			c.writing = 0
			if written && newer(next, c.record) {
				c.record = next
			}
			if !written {
				w.recordNews() // what is stored is read again
			}
		})
	})
}

// issueAll sends the first command for every instance. The order is that of the ordinals.
func (w *world) issueAll(c *coordinator) {
	c.waits = map[string]time.Duration{}
	for _, n := range w.nodes {
		if len(c.running[n.name]) > 0 {
			w.issue(c, n, w.counterSeen(c, n))
		} else {
			delete(c.running, n.name)
		}
	}
}

func (w *world) counterSeen(c *coordinator, n *node) int64 {
	if a := c.seen.Instances[n.n].Agent; a != nil {
		return a.StateCounter
	}
	return 0
}

// issue sends the first of the commands that are left for an instance.
func (w *world) issue(c *coordinator, n *node, counter int64) {
	action := c.running[n.name][0]
	sent := &command{Action: action, peer: -1}
	if a := c.seen.Instances[n.n].Agent; a != nil {
		sent.env.Incarnation = a.Incarnation
	}
	if action.Record != nil {
		sent.env.Epoch, sent.env.Claim = action.Record.Epoch, action.Record.Claim
	}
	sent.env.StateCounter = counter
	for _, other := range w.nodes {
		if other.name == action.Peer {
			sent.peer = other.n
			if a := c.seen.Instances[other.n].Agent; a != nil {
				sent.member = a.Incarnation
			}
		}
	}
	c.waits[n.name] = w.now
	running := c.running
	plans := c.plans
	sent.reply = func(counter int64, err *api.Error) {
		w.send(n.n, w.address(c), "reply", func() {
			if !c.down && c.plans == plans && len(running[n.name]) > 0 && running[n.name][0].Kind == action.Kind {
				w.answered(c, n, counter, err)
			}
		})
	}
	w.send(w.address(c), n.n, "command", func() {
		again := *sent
		w.enqueue(n, &again)
	})
}

// answered goes on with the next command for an instance.
func (w *world) answered(c *coordinator, n *node, counter int64, err *api.Error) {
	action := c.running[n.name][0]
	if n.zombie || err != nil {
		delete(c.running, n.name)
		if action.Kind == topology.Admit {
			delete(c.later, action.Peer)
		}
		return
	}
	c.done[pauseKey(action)] = w.now
	c.running[n.name] = c.running[n.name][1:]
	if len(c.running[n.name]) == 0 {
		delete(c.running, n.name)
		return
	}
	w.issue(c, n, counter)
}

// giveUp forgets the commands that were not answered in time; they may still be carried out.
func (w *world) giveUp(c *coordinator) {
	for _, n := range w.nodes {
		if _, waiting := c.running[n.name]; waiting && w.now-c.waits[n.name] > patience {
			delete(c.running, n.name)
		}
	}
}

// route points the Service to the primary of an opened record. The slice carries its epoch, and never goes back.
func (w *world) route(c *coordinator) {
	r := c.record
	if r.Phase != v1beta1.RecordOpened || w.cut[w.address(c)][w.storeAddress()] {
		return
	}
	if r.Epoch <= w.store.routedEpoch && !w.bug(BugStaleLabel) {
		return
	}
	if r.Epoch < w.store.routedEpoch {
		w.fail("I8: coordinator %d routed clients back from epoch %d to %d", c.n, w.store.routedEpoch, r.Epoch)
	}
	w.store.routedEpoch, w.store.routed = r.Epoch, r.Primary.Name
}
