// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
)

const (
	// unheard is how long a terminating primary without any reader of its status waits for one: nobody coordinates then. A
	// controller that was drained from the same node is replaced within the 5 s of its lease.
	unheard = 8 * time.Second
	// stopReserve of the budget is kept for ending mysqld.
	stopReserve = 10 * time.Second
	// handOverInterval is how often a terminating primary looks whether it may go.
	handOverInterval = 20 * time.Millisecond
)

// stop ends mysqld as the end of the Pod would.
func (in *instance) stop(_ context.Context, req *api.StopRequest) (api.Reply, error) {
	if err := in.admitHandOver(&req.Envelope, nil); err != nil {
		return api.Reply{}, err
	}
	start := in.serverStart()
	if start == "" || in.isStopping() {
		return in.unchanged(), nil
	}
	in.endClosing()
	if err := in.endServer(start); err != nil {
		return api.Reply{}, unavailable("ending mysqld", err)
	}
	return in.accepted()
}

// awaitHandOver lets a terminating primary go on serving until another has taken its place, a stop is ordered, nobody
// coordinates, or its time is up. Everybody else has nothing to hand over.
func (in *instance) awaitHandOver() {
	tick := time.NewTicker(handOverInterval)
	defer tick.Stop()
	deadline := time.Now().Add(in.cfg.StopBudget - stopReserve)
	logged := false
	for in.ctx.Err() == nil && in.mayHandOver() && time.Now().Before(deadline) {
		if !logged {
			klog.FromContext(in.ctx).Info("Serving until another primary takes over", "until", deadline)
			logged = true
		}
		select {
		case <-in.ctx.Done():
		case <-tick.C:
		}
	}
}

// mayHandOver says whether the instance is an open primary whose place another could take, and somebody is there to
// arrange it.
func (in *instance) mayHandOver() bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	d, start := in.durable, in.serverStartLocked()
	leads := start != "" && d.LedStart == start && d.OpenStart == start && d.OpenPrimary && !in.stopping
	return leads && len(admission.Voters(d.Record)) > 1 && in.agent.aloneFor(time.Now()) < unheard
}
