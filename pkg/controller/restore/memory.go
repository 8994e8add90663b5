// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/job"
)

const (
	// progressInterval is how often a Pod is asked how far it is, deafInterval how often one that did not answer: a network
	// policy may be in the way, and asking costs a worker half a second.
	progressInterval = 2 * time.Second
	deafInterval     = 20 * time.Second
)

// probes is when Pods were last asked. It is safe for concurrent use; nothing in it is needed after a restart.
type probes struct {
	mu   sync.Mutex
	next map[cache.ObjectName]time.Time
}

// due reports whether to ask now, else when.
func (p *probes) due(key cache.ObjectName, now time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.next[key].Sub(now)
	return left, left <= 0
}

func (p *probes) later(key cache.ObjectName, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = map[cache.ObjectName]time.Time{}
	}
	p.next[key] = at
}

func (p *probes) forget(key cache.ObjectName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.next, key)
}

// progress asks the Pod if that is due, and returns when to ask again.
func (c *Controller) progress(ctx context.Context, restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, ip string) time.Duration {
	key := cache.MetaObjectToName(restore)
	if left, due := c.probes.due(key, c.now()); !due {
		return left
	}
	again := progressInterval
	if ip == "" {
		return again
	}
	answer, err := c.ask(ctx, ip)
	if err != nil {
		again = deafInterval // the last answer stands; the result comes another way
	} else {
		next.Progress = job.Progress(answer)
	}
	c.probes.later(key, c.now().Add(again))
	return again
}
