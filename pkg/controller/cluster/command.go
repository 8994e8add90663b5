// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/topology"
)

// commandDeadline bounds a command's own work on the agent where deadlines says nothing else.
const commandDeadline = 5 * time.Second

// deadlines bound the commands that may take longer, or must not take as long.
var deadlines = map[topology.ActionKind]time.Duration{
	topology.Start:   10 * time.Second, // as far as the command waits for it
	topology.Promise: 3 * time.Second,  // stops a receiver within 500 ms, or kills mysqld
	topology.LockOut: 10 * time.Second, // dump threads are seen gone for three seconds
	topology.Return:  20 * time.Second, // reads and cuts a binary log
	topology.Discard: 20 * time.Second, // moves binary logs away first
	topology.Purge:   20 * time.Second, // deletes files
	topology.Restore: 10 * time.Second, // looks at the source first
}

// envelope makes the envelope of a command; the state counter is the sender's.
func envelope(action topology.Action, incarnation string) api.Envelope {
	deadline, special := deadlines[action.Kind]
	if !special {
		deadline = commandDeadline
	}
	e := api.Envelope{Incarnation: incarnation, DeadlineMillis: deadline.Milliseconds()}
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
	case topology.Restore:
		request, err := restoreRequest(w, a)
		return api.CommandRestore, request, err
	case topology.Start:
		return api.CommandStart, &api.StartRequest{}, nil
	case topology.Lead:
		return api.CommandLead, &api.LeadRequest{Record: *a.Record, AckCount: a.AckCount}, nil
	case topology.Mark:
		return api.CommandMarker, &api.MarkerRequest{Record: *a.Record, Attempt: a.Attempt}, nil
	case topology.Open:
		return api.CommandOpen, &api.OpenRequest{Record: *a.Record}, nil
	case topology.Apply:
		return api.CommandApply, &api.ApplyRequest{Record: *a.Record}, nil
	case topology.Close:
		return api.CommandClose, &api.CloseRequest{Record: *a.Record, DurationMillis: a.Duration.Milliseconds()}, nil
	case topology.Stop:
		return api.CommandStop, &api.StopRequest{}, nil
	case topology.LockOut:
		return api.CommandLockOut, &api.LockOutRequest{Record: *a.Record, Members: a.Members}, nil
	case topology.Return:
		return api.CommandReturn, &api.ReturnRequest{Record: *a.Record, Executed: a.Executed}, nil
	case topology.Await:
		return api.CommandAwait, &api.AwaitRequest{Record: *a.Record, GTID: agent.MarkerGTID(a.Record, a.Attempt)}, nil
	case topology.Discard:
		return api.CommandDiscard, &api.DiscardRequest{Record: *a.Record, Executed: a.Executed}, nil
	case topology.Purge:
		return api.CommandPurge, &api.PurgeRequest{GTIDs: a.Purgeable}, nil
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
