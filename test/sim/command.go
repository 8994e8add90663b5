// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"errors"
	"slices"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/topology"
)

// command is one request to an agent.
type command struct {
	topology.Action
	env api.Envelope
	// peer is the node that Action.Peer names, and member its incarnation as the coordinator knew it.
	peer   int
	member string
	reply  func(counter int64, err *api.Error)
}

// step is a part of a command between which anything can happen. It is repeated until it is done.
type step func() (done bool, err *api.Error)

// do makes a step of something that takes no time.
func do(f func()) step {
	return func() (bool, *api.Error) { f(); return true, nil }
}

// must makes a step of a check.
func must(f func() *api.Error) step {
	return func() (bool, *api.Error) { err := f(); return true, err }
}

func refuse(reason api.ErrorReason, message string) *api.Error {
	return &api.Error{Reason: reason, Message: message}
}

// enqueue hands a command to an agent.
func (w *world) enqueue(n *node, c *command) {
	if n.agent == nil || !n.up || len(n.agent.queue) > 4 {
		return
	}
	n.agent.queue = append(n.agent.queue, c)
	w.work(n)
}

// work lets an agent go on with its commands.
func (w *world) work(n *node) {
	a := n.agent
	if a == nil || !n.up {
		return
	}
	w.lookAtProcess(n)
	for range 16 {
		if a.present == nil {
			if len(a.queue) == 0 {
				return
			}
			w.begin(n, a.queue[0])
			continue
		}
		if len(a.steps) == 0 {
			w.end(n, nil)
			continue
		}
		if a.boundTo != "" && a.boundTo != n.serverStart() {
			w.end(n, refuse(api.ErrorUnavailable, "mysqld is gone"))
			continue
		}
		done, err := a.steps[0]()
		if n.agent != a {
			return
		}
		w.lookAtProcess(n)
		if err != nil {
			w.end(n, err)
			continue
		}
		if done {
			a.steps = a.steps[1:]
		}
		if !done && !w.calm || w.percent(w.profile.pause) {
			return
		}
	}
}

// begin admits a command with the product's own code, and makes what it promises durable before anything is done.
func (w *world) begin(n *node, c *command) {
	a := n.agent
	a.present, a.queue, a.steps, a.boundTo = c, a.queue[1:], nil, ""
	if a.waiting {
		a.steps = []step{must(func() *api.Error { return refuse(api.ErrorUnavailable, "another Pod holds the volume") })}
		return
	}
	if err := w.check(n, c); err != nil {
		a.steps = []step{must(func() *api.Error { return err })}
		return
	}
	if n.stopping && c.Kind != topology.Stop && c.Kind != topology.Promise {
		a.steps = []step{must(func() *api.Error { return refuse(api.ErrorPrecondition, "the Pod is terminating") })}
		return
	}
	w.checkAdmitted(n, c)
	before := a.Durable
	next, changed := admission.Promise(a.Durable, &c.env, shown(c))
	if c.Kind == topology.Promise {
		next.Counter++ // in the same write as the promise
		changed = true
	}
	if changed {
		a.Durable = next
		w.save(n)
	}
	w.tracef("%s: %s epoch %d/%s", n.name, c.Kind, c.env.Epoch, c.env.Claim)
	if c.Kind != topology.Promise && c.Kind != topology.Start && c.Kind != topology.Stop && c.Kind != topology.Discard {
		a.boundTo = n.serverStart()
	}
	a.steps = w.stepsOf(n, c, admission.Fences(before, c.Record) && !fencedFor(a, c))
}

// fencedFor reports whether the agent is fenced for that epoch and claim already.
func fencedFor(a *agent, c *command) bool {
	return a.fence != nil && a.fence.Epoch == c.env.Epoch && a.fence.Claim == c.env.Claim
}

// shown is the record that a command carries: Start, Stop and Admit name only its epoch.
func shown(c *command) *topology.Record {
	if slices.Contains([]topology.ActionKind{topology.Start, topology.Stop, topology.Admit, topology.Clone}, c.Kind) {
		return nil
	}
	return c.Record
}

func (w *world) check(n *node, c *command) *api.Error {
	d := n.agent.Durable
	if w.bug(BugPromiseNotChecked) && n.agent.restarted {
		d.PromisedEpoch, d.PromisedClaim, d.Counter = 0, "", c.env.StateCounter // the counter alone would refuse most of it
	}
	err := admission.Check(d, &c.env, shown(c))
	var refused *api.Error
	if errors.As(err, &refused) {
		return refused
	}
	return nil
}

// end answers a command.
func (w *world) end(n *node, err *api.Error) {
	a := n.agent
	c := a.present
	a.present, a.steps = nil, nil
	switch {
	case err == nil && c.Kind == topology.Promise:
	case err == nil:
		a.Counter++
		w.save(n)
	default:
		w.tracef("%s: refuses %s of epoch %d: %v", n.name, c.Kind, c.env.Epoch, err)
	}
	if c.reply != nil {
		c.reply(a.Counter, err)
	}
	w.push(n)
}

// stepsOf says how a command is carried out.
func (w *world) stepsOf(n *node, c *command, fences bool) []step {
	switch c.Kind {
	case topology.Promise:
		if fences {
			return w.fenceSteps(n, c)
		}
		return nil
	case topology.Start:
		return w.startSteps(n)
	case topology.Lead:
		return w.leadSteps(n, c)
	case topology.Apply:
		return w.applySteps(n, c)
	case topology.Mark:
		return w.markSteps(n, c)
	case topology.Open:
		return w.openSteps(n, c)
	case topology.Follow:
		return w.followSteps(n, c)
	case topology.Close:
		return w.closeSteps(n, c)
	case topology.Stop:
		return w.stopSteps(n)
	case topology.LockOut:
		return w.lockOutSteps(n, c)
	case topology.Admit:
		return w.admitSteps(n, c)
	case topology.Return:
		return w.returnSteps(n, c)
	case topology.Await:
		return w.awaitSteps(n, c)
	case topology.Discard:
		return w.discardSteps(n, c)
	case topology.Clone:
		return w.cloneSteps(n, c)
	default:
		return []step{must(func() *api.Error { return refuse(api.ErrorInvalid, string(c.Kind)) })}
	}
}
