// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	corev1 "k8s.io/api/core/v1"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/topology"
)

const (
	// commandDeadline bounds a command's own work on the agent.
	commandDeadline = 5 * time.Second
	// startDeadline bounds the start of mysqld as far as the command waits for it.
	startDeadline = 10 * time.Second
)

// execute carries out a plan. It reports whether anything was done, so that the caller looks again soon.
func (c *Controller) execute(ctx context.Context, w *world, plan topology.Plan) (acted bool, err error) {
	var admits []topology.Action
	rest := map[string][]topology.Action{}
	for _, action := range plan.Actions {
		if w.memory.repeats(action, c.now()) {
			continue
		}
		switch action.Kind {
		case topology.WriteRecord:
			return true, c.writeRecord(ctx, w, plan.Decision, action)
		case topology.Admit:
			admits = append(admits, action)
		default:
			rest[action.Instance] = append(rest[action.Instance], action)
		}
	}
	// Accounts first, all of them on the primary: an instance that follows before its account exists only fills the error log.
	acted = len(admits)+len(rest) > 0
	if len(admits) > 0 {
		if err = c.commandAll(ctx, w, admits[0].Instance, admits); err != nil {
			for _, admit := range admits {
				delete(rest, admit.Peer) // only these wait for their account; another may be the one that acknowledges it
			}
		}
	}
	return acted, errors.Join(err, c.inParallel(ctx, w, rest))
}

// inParallel runs the actions of different instances at the same time, those of one in order.
func (c *Controller) inParallel(ctx context.Context, w *world, actions map[string][]topology.Action) error {
	var mu sync.Mutex
	var failures []error
	var wg sync.WaitGroup
	for instance, list := range actions {
		wg.Go(func() {
			if err := c.commandAll(ctx, w, instance, list); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failures = append(failures, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(failures...)
}

// writeRecord claims an epoch or opens one. The claim is remembered before it is written: an unknown outcome must be
// recognised as our own when it is read back.
func (c *Controller) writeRecord(ctx context.Context, w *world, decision topology.Decision, action topology.Action) error {
	w.memory.ownClaim = action.Record.Claim
	written, err := c.claimRecord(ctx, w.cluster, w.seen.Record, action.Record)
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		w.memory.record = nil // what we believed is not what is stored
	}
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

// commandAll sends the commands for one instance, in order, until one fails.
func (c *Controller) commandAll(ctx context.Context, w *world, instance string, actions []topology.Action) error {
	pod := w.podOf(instance)
	if pod == nil {
		return fmt.Errorf("commanding %s: its Pod is gone", instance)
	}
	status, _ := c.fleet.report(pod.UID)
	client := c.fleet.client(pod.UID)
	if status == nil || client == nil {
		return fmt.Errorf("commanding %s: its agent is gone", instance)
	}
	counter := w.counterOf(instance)
	for _, action := range actions {
		name, request, err := c.command(w, action)
		if err != nil {
			return fmt.Errorf("preparing %s for %s: %w", action.Kind, instance, err)
		}
		*request.Header() = envelope(action, status.Incarnation, counter)
		reply, err := client.Command(ctx, name, request)
		if overtaken(err) {
			klog.FromContext(ctx).V(4).Info("An instance moved on before it was commanded", "cluster", klog.KObj(w.cluster), "instance", instance, "command", name)
			return nil
		}
		c.remark(w, instance, action, err)
		if err != nil {
			return fmt.Errorf("telling %s to %s: %w", instance, name, err)
		}
		klog.FromContext(ctx).V(2).Info("Commanded an instance", "cluster", klog.KObj(w.cluster), "instance", instance, "command", name, "epoch", request.Header().Epoch)
		counter = reply.StateCounter
	}
	return nil
}

// remark remembers how a command ended: what an instance refuses is shown to people.
func (c *Controller) remark(w *world, instance string, action topology.Action, err error) {
	c.remarksMu.Lock()
	defer c.remarksMu.Unlock()
	if err == nil {
		delete(w.memory.troubles, instance)
		if _, limited := pauses[action.Kind]; limited {
			key, what := describe(action)
			w.memory.done[key] = done{what, c.now()}
		}
		return
	}
	w.memory.troubles[instance] = fmt.Sprintf("%s failed: %v", action.Kind, err)
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

// envelope makes the envelope of a command.
func envelope(action topology.Action, incarnation string, counter int64) api.Envelope {
	e := api.Envelope{Incarnation: incarnation, StateCounter: counter, DeadlineMillis: commandDeadline.Milliseconds()}
	if action.Kind == topology.Start {
		e.DeadlineMillis = startDeadline.Milliseconds()
	}
	if action.Record != nil {
		e.Epoch, e.Claim = action.Record.Epoch, action.Record.Claim
	}
	return e
}

// command makes the request of an action.
func (c *Controller) command(w *world, a topology.Action) (api.CommandName, api.Request, error) {
	switch a.Kind {
	case topology.Promise:
		return api.CommandPromise, &api.PromiseRequest{Record: *a.Record}, nil
	case topology.Initialise:
		return api.CommandInitialise, initialiseRequest(w, a), nil
	case topology.Start:
		return api.CommandStart, &api.StartRequest{}, nil
	case topology.Lead:
		return api.CommandLead, &api.LeadRequest{Record: *a.Record, AckCount: a.AckCount}, nil
	case topology.Mark:
		return api.CommandMarker, &api.MarkerRequest{Record: *a.Record, Attempt: a.Attempt}, nil
	case topology.Open:
		return api.CommandOpen, &api.OpenRequest{Record: *a.Record}, nil
	case topology.Clone, topology.Follow, topology.Admit:
		return c.peerCommand(w, a)
	case topology.WriteRecord:
	}
	return "", nil, fmt.Errorf("%s is no command", a.Kind)
}

// peerCommand makes the request of an action that names another instance.
func (c *Controller) peerCommand(w *world, a topology.Action) (api.CommandName, api.Request, error) {
	pod := w.podOf(a.Peer)
	if pod == nil {
		return "", nil, fmt.Errorf("the Pod of %s is gone", a.Peer)
	}
	peer, cause := c.fleet.report(pod.UID)
	if peer == nil || peer.Server == nil {
		return "", nil, fmt.Errorf("%s: %s", a.Peer, cause)
	}
	source := api.Source{Name: a.Peer, Host: pod.Status.PodIP, Port: render.MySQLPort, ServerUUID: peer.Server.ServerUUID}
	switch a.Kind {
	case topology.Clone:
		source.User, source.Password = w.memory.credentials.login(render.AccountDataProtection)
		return api.CommandClone, &api.CloneRequest{Donor: source}, nil
	case topology.Admit:
		_, password := w.memory.credentials.login(render.AccountReplicator)
		return api.CommandEnsureAccount, &api.EnsureAccountRequest{Member: peer.Incarnation, Password: password}, nil
	default:
		own := w.podOf(a.Instance)
		status, cause := c.fleet.report(own.UID)
		if status == nil {
			return "", nil, fmt.Errorf("%s: %s", a.Instance, cause)
		}
		_, source.Password = w.memory.credentials.login(render.AccountReplicator)
		source.User = api.ReplicationUser(status.Incarnation)
		return api.CommandFollow, &api.FollowRequest{Record: *a.Record, Source: source, Ack: a.Ack}, nil
	}
}

// initialiseRequest carries spec.bootstrap.
func initialiseRequest(w *world, a topology.Action) *api.InitialiseRequest {
	request := &api.InitialiseRequest{Record: *a.Record}
	if b := w.cluster.Spec.Bootstrap; b != nil {
		request.Database, request.User, request.InitSQL = b.Database, b.User, b.InitSQL
	}
	return request
}
