// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/topology"
)

// patience is how long a sync waits for the commands it sent. What takes longer ends in the background: nothing that is
// slow or dead may keep a cluster from being looked at, least of all while a primary is being replaced. A late command does
// no harm, because it carries the epoch and the state counter it was decided on.
const (
	patience = 20 * time.Millisecond
	// accountPatience is that for accounts, without which those that follow are turned away.
	accountPatience = 300 * time.Millisecond
)

// effect is what carrying out a plan came to.
type effect struct {
	// wrote: the record was written, so what was observed is out of date.
	wrote bool
	// acted: something was sent or is under way; look again soon.
	acted bool
}

// execute carries out a plan.
func (c *Controller) execute(ctx context.Context, w *world, plan topology.Plan) (effect, error) {
	var admits []topology.Action
	rest := map[string][]topology.Action{}
	for _, action := range plan.Actions {
		if w.memory.remarks.repeats(action, c.now()) {
			continue
		}
		switch action.Kind {
		case topology.WriteRecord:
			err := c.writeRecord(ctx, w, plan.Decision, action)
			return effect{wrote: err == nil, acted: true}, err
		case topology.Admit:
			admits = append(admits, action)
		default:
			rest[action.Instance] = append(rest[action.Instance], action)
		}
	}
	did := effect{acted: len(admits)+len(rest) > 0}
	// Accounts first, all of them on the primary: an instance that follows before its account exists only fills the error log.
	var err error
	if len(admits) > 0 {
		var finished map[string]bool
		finished, err = c.inParallel(ctx, w, map[string][]topology.Action{admits[0].Instance: admits}, accountPatience)
		if !finished[admits[0].Instance] {
			for _, admit := range admits {
				delete(rest, admit.Peer) // only these wait for their account; another may be the one that acknowledges it
			}
		}
	}
	_, restErr := c.inParallel(ctx, w, rest, patience)
	return did, errors.Join(err, restErr)
}

// writeRecord claims an epoch, chooses its primary or opens it. The claim is remembered before it is written: an unknown
// outcome must be recognised as our own when it is read back.
func (c *Controller) writeRecord(ctx context.Context, w *world, decision topology.Decision, action topology.Action) error {
	w.memory.ownClaim = action.Record.Claim
	begun := c.now()
	written, err := c.claimRecord(ctx, w.cluster, w.seen.Record, action.Record)
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		w.memory.record = nil // what we believed is not what is stored
		return err
	}
	w.memory.history.wrote(&w.seen, decision, action.Record, span{begun, c.now()}) // of an unknown outcome, too: it may be there
	if err != nil {
		return err
	}
	w.memory.record = written.Status.Replication
	// The status is written next, over this version; what was judged is still the spec that was read.
	merged := w.cluster.DeepCopy()
	merged.ResourceVersion, merged.Status = written.ResourceVersion, written.Status
	w.cluster = merged
	klog.FromContext(ctx).Info("Wrote the record", "cluster", klog.KObj(w.cluster), "epoch", action.Record.Epoch, "phase", action.Record.Phase, "reason", decision.Reason)
	c.events.Event(w.cluster, corev1.EventTypeNormal, string(decision.Rule), sentence(decision.Reason))
	return nil
}

// order is one command, ready to be sent.
type order struct {
	action  topology.Action
	name    api.CommandName
	request api.Request
}

// batch is what one instance is told, in order. It holds all that is needed, so that it may outlast its sync.
type batch struct {
	cluster  cache.ObjectName
	instance string
	pod      types.UID
	client   *agent.Client
	counter  int64
	orders   []order
	remarks  *remarks
}

// inParallel tells different instances what they are to do at the same time, each its own commands in order. It returns
// the instances that did everything within wait; an instance that is still busy is told nothing.
func (c *Controller) inParallel(ctx context.Context, w *world, actions map[string][]topology.Action, wait time.Duration) (finished map[string]bool, err error) {
	type result struct {
		instance string
		err      error
	}
	var failures []error
	results, left := make(chan result), make(chan struct{})
	defer close(left)
	running := 0
	for _, instance := range slices.Sorted(maps.Keys(actions)) {
		b, err := c.prepare(ctx, w, instance, actions[instance])
		if err != nil {
			failures = append(failures, err)
		}
		if b == nil || !b.remarks.begin(b.pod) {
			continue
		}
		running++
		c.commands.Go(func() {
			err := c.commandAll(ctx, b)
			b.remarks.end(b.pod)
			select {
			case results <- result{instance, err}:
			case <-left:
				c.late(ctx, b, err)
			}
		})
	}
	finished = map[string]bool{}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for range running {
		select {
		case r := <-results:
			finished[r.instance] = r.err == nil
			failures = append(failures, r.err)
		case <-timer.C:
			return finished, errors.Join(failures...)
		}
	}
	return finished, errors.Join(failures...)
}

// late brings the cluster back after a command that outlasted its sync: another may have been left out for it.
func (c *Controller) late(ctx context.Context, b *batch, err error) {
	if err != nil {
		klog.FromContext(ctx).Info("A command failed after a while", "cluster", b.cluster, "instance", b.instance, "err", err)
		c.queue.AddAfter(b.cluster, soon)
		return
	}
	c.queue.Add(b.cluster)
}

// prepare makes what is to be sent to an instance, or nil when it cannot be told anything now.
func (c *Controller) prepare(ctx context.Context, w *world, instance string, actions []topology.Action) (*batch, error) {
	logger := klog.FromContext(ctx)
	pod := w.podOf(instance)
	if pod == nil {
		logger.V(4).Info("Not commanding an instance without a Pod", "cluster", klog.KObj(w.cluster), "instance", instance)
		return nil, nil
	}
	status, cause := c.fleet.report(pod.UID)
	client := c.fleet.client(pod.UID)
	if status == nil || client == nil {
		logger.V(4).Info("Not commanding an instance that is silent", "cluster", klog.KObj(w.cluster), "instance", instance, "cause", cause)
		return nil, nil
	}
	b := &batch{
		cluster: cache.MetaObjectToName(w.cluster), instance: instance, pod: pod.UID, client: client, counter: w.counterOf(instance), remarks: &w.memory.remarks,
	}
	for _, action := range actions {
		name, request, err := c.command(w, action)
		if err != nil {
			return b, fmt.Errorf("preparing %s for %s: %w", action.Kind, instance, err) // those before it are sent
		}
		*request.Header() = envelope(action, status.Incarnation)
		b.orders = append(b.orders, order{action, name, request})
	}
	return b, nil
}

// commandAll sends the commands for one instance, in order, until one fails.
func (c *Controller) commandAll(ctx context.Context, b *batch) error {
	logger := klog.FromContext(ctx)
	counter := b.counter
	for _, o := range b.orders {
		o.request.Header().StateCounter = counter
		reply, err := b.client.Command(ctx, o.name, o.request)
		if overtaken(err) {
			logger.V(4).Info("An instance moved on before it was commanded", "cluster", b.cluster, "instance", b.instance, "command", o.name)
			return nil
		}
		b.remarks.remark(b.instance, o.action, err, c.now())
		if err != nil {
			return fmt.Errorf("telling %s to %s: %w", b.instance, o.name, err)
		}
		logger.V(2).Info("Commanded an instance", "cluster", b.cluster, "instance", b.instance, "command", o.name, "epoch", o.request.Header().Epoch)
		counter = reply.StateCounter
	}
	return nil
}

// overtaken reports whether an agent refused because it knows more than the decision did; its news is on the way.
func overtaken(err error) bool {
	var refused *api.Error
	return errors.As(err, &refused) && refused.Reason == api.ErrorStaleState
}

// counterOf returns the state counter the decision was made on.
func (w *world) counterOf(instance string) int64 {
	for n := range w.seen.Instances {
		if i := &w.seen.Instances[n]; i.Name == instance && i.Agent != nil {
			return i.Agent.StateCounter
		}
	}
	return 0
}
