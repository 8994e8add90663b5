// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// node is a Pod with its host and its volume.
type node struct {
	n        int
	name, ip string
	boots    int
	// up: host and Pod run.
	up     bool
	vol    *volume
	server *server
	agent  *agent
	// ghost is the mysqld of an older Pod that nobody commands any more.
	ghost *server
	// snapshot is an old copy of the binary log.
	snapshot []int
	// zombie: Pod object and volume were given up, and the containers may go on. No coordinator knows it any more.
	zombie bool
	// stopping: the Pod is being deleted.
	stopping bool
}

// kept is what an agent never forgets: the durable state of the product, and what it must remember besides.
type kept struct {
	state.Durable
	// Unvouched says why the instance has no vote. Discarded: the doubtful relay log is gone.
	Unvouched string
	Discarded bool
	Diverged  *api.Divergence
	// LockedOut are the incarnations whose accounts are locked here.
	LockedOut []string
}

// agent is one agent process.
type agent struct {
	kept
	// waiting: another Pod holds the volume.
	waiting bool
	// restarted: this process took over from an earlier one.
	restarted bool
	// start is mysqld's process as last seen.
	start    string
	fence    *api.Fence
	fencedAt time.Duration
	closed   *api.Closed
	closeEnd time.Duration
	marker   *api.Marker
	markerX  int
	markerTx int64
	awaiting string
	// awaitingEpoch is the epoch in which the awaited marker counts.
	awaitingEpoch int64
	task          *api.Task
	semiLater     bool
	// queue holds commands that wait for their turn; steps is what is left of the present one.
	queue   []*command
	present *command
	steps   []step
	// boundTo is the start of mysqld without which the present command cannot go on; "" for any.
	boundTo string
}

func (w *world) newNode(n int) *node {
	incarnation := "inc-" + w.uuid()
	return &node{
		n: n, name: fmt.Sprintf("db-mysql-%d", n), ip: fmt.Sprintf("10.0.0.%d", n+1), boots: 1, up: true,
		vol: &volume{durable: kept{Durable: state.Durable{Incarnation: incarnation, Counter: 1}}, serverUUID: w.uuid(), serverID: w.serial, log: &binlog{}},
	}
}

func (n *node) bootID() string { return fmt.Sprintf("boot-%d-%d", n.n, n.boots) }

// agentIncarnation names the data, as the agent reads it from the volume.
func (n *node) agentIncarnation() string { return n.vol.durable.Incarnation }

func (n *node) replicationUser() string { return api.ReplicationUser(n.agentIncarnation()) }

// boot starts an agent process: it knows what the volume knows.
func (w *world) boot(n *node) {
	a := &agent{kept: n.vol.durable, restarted: n.agent != nil || w.events > 0}
	n.agent = a
	if a.BootID != n.bootID() && a.BootID != "" {
		if n.vol.filled && !n.vol.clean {
			a.unvouch("the host went down")
		}
	}
	w.save(n)
	a.start = n.serverStart()
	w.tracef("%s: agent starts, promise %d", n.name, a.PromisedEpoch)
}

// unvouch takes the vote away; what the relay log says is doubtful from now on.
func (a *agent) unvouch(why string) {
	a.Unvouched, a.Discarded, a.awaiting = why, false, ""
}

// save makes the agent's memory durable.
func (w *world) save(n *node) {
	n.agent.BootID = n.bootID()
	before := n.vol.durable
	n.vol.durable = n.agent.kept
	if w.bug(BugPromiseNotPersisted) && before.PromisedEpoch > 0 {
		n.vol.durable.PromisedEpoch, n.vol.durable.PromisedClaim, n.vol.durable.Record = before.PromisedEpoch, before.PromisedClaim, before.Record
	}
}

func (n *node) serverStart() string {
	if n.server == nil {
		return ""
	}
	return n.server.start
}

// led reports whether the running mysqld was a source under semi-sync.
func (n *node) led() bool {
	return n.server != nil && n.agent.LedStart != "" && n.agent.LedStart == n.server.start
}

// lookAtProcess takes over what mysqld's process did. A fence, a marker and a closing prove something of one process.
func (w *world) lookAtProcess(n *node) {
	a := n.agent
	if a.start == n.serverStart() {
		return
	}
	a.start = n.serverStart()
	a.fence, a.closed, a.marker, a.awaiting = nil, nil, nil, ""
	a.Counter++
	w.save(n)
}

// tick is what an agent does by itself.
func (w *world) tick(n *node) {
	a := n.agent
	if a == nil || a.waiting || !n.up {
		return
	}
	w.lookAtProcess(n)
	s := n.server
	if a.marker != nil && s != nil && a.marker.State == api.MarkerWaiting && s.executed.has(a.markerX) {
		done := *a.marker
		done.State = api.MarkerCommitted
		if s.noTx != a.markerTx && a.AckCount > 0 {
			done.State, done.Error = api.MarkerFailed, "transactions were committed without acknowledgement"
		}
		a.marker = &done
	}
	w.vouchAgain(n)
	w.openAgain(n)
	w.guard(n)
	w.plantInTick(n)
}

// vouchAgain gives the vote back when the awaited marker has been executed.
func (w *world) vouchAgain(n *node) {
	a, s := n.agent, n.server
	if a.awaiting == "" || s == nil || a.awaitingEpoch != a.PromisedEpoch || w.history.parse(a.awaiting).minus(w.history.names(s.executed)) != (set{}) || w.history.parse(a.awaiting).empty() {
		return
	}
	a.Unvouched, a.Discarded, a.awaiting = "", false, ""
	a.Counter++
	w.save(n)
	w.tracef("%s: votes again", n.name)
	w.checkVouched(n)
}

// openAgain ends a closing that led to nothing.
func (w *world) openAgain(n *node) {
	a := n.agent
	if a.closed == nil || a.closed.Error != "" || w.now < a.closeEnd || n.server == nil || a.present != nil {
		return
	}
	r := a.Record
	if r == nil || r.Epoch != a.PromisedEpoch || r.Phase != v1beta1.RecordOpened || r.Primary.Incarnation != a.Incarnation || !n.server.source {
		return
	}
	n.server.superReadOnly, n.server.offline, a.closed = false, false, nil
	w.tracef("%s: opens again, nobody took over", n.name)
	w.opened(n)
	a.Counter++
	w.save(n)
}

// guard kills an open primary whose writes are not safe.
func (w *world) guard(n *node) {
	a, s := n.agent, n.server
	if s == nil || s.superReadOnly || a.AckCount == 0 || a.present != nil || s.source && s.noTx <= a.OpenNoTx {
		return
	}
	a.RequiresOwnLog = true
	w.save(n)
	w.crash(n)
}

// status is what the agent pushes.
func (w *world) status(n *node) *api.Status {
	a := n.agent
	s := &api.Status{
		Pod: n.name, PodUID: fmt.Sprintf("%s-%d", n.name, n.boots), BootID: n.bootID(), StateCounter: a.Counter, Mysqld: api.MysqldDown,
		Terminating: n.stopping,
	}
	if a.waiting {
		s.Volume, s.VolumeHolder = api.VolumeWaiting, "an older Pod"
		return s
	}
	s.Volume, s.Incarnation, s.PromisedEpoch, s.PromisedClaim, s.Record = api.VolumeEmpty, a.Incarnation, a.PromisedEpoch, a.PromisedClaim, a.Record
	if n.vol.filled {
		s.Volume = api.VolumeReady
	}
	s.RequiresOwnLog, s.Unvouched, s.Awaiting, s.Diverged, s.Marker = a.RequiresOwnLog, a.Unvouched, "", a.Diverged, a.marker
	if a.awaitingEpoch == a.PromisedEpoch {
		s.Awaiting = a.awaiting
	}
	s.Fence, s.Closed, s.LockedOut, s.Task = a.fence, a.closed, a.LockedOut, a.task
	s.NeedsReturn = n.vol.filled && admission.NeedsReturn(a.Durable, a.start)
	if n.server == nil || a.start != n.server.start {
		return s
	}
	s.Mysqld = api.MysqldRunning
	s.Server = w.report(n)
	if hung := n.server.hungSince; hung != 0 {
		s.StalledMillis = (w.now - hung).Milliseconds() / 250 * 250
	}
	return s
}
