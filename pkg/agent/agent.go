// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/supervise"
)

// reconnectInterval is how often an agent looks for its supervisor.
const reconnectInterval = 100 * time.Millisecond

// Agent is the agent of one Pod.
type Agent struct {
	cfg Config

	mu       sync.Mutex
	instance *instance // nil while no supervisor that holds the volume is connected
	holder   string    // UID of the Pod that holds the volume, while this one waits
	// terminating is set once the supervisor was told to stop; it never goes back.
	terminating bool
	changed     chan struct{} // closed and replaced on every change of anything in Status
	// readers counts who reads the status stream, and alone is since when there is none; it starts with the agent.
	readers int
	alone   time.Time
}

// New makes an agent. Nothing happens before Run.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("checking the agent's configuration: %w", err)
	}
	return &Agent{cfg: cfg, changed: make(chan struct{}), alone: time.Now()}, nil
}

// Run serves the supervisor until ctx ends. mysqld goes on without it.
func (a *Agent) Run(ctx context.Context) error {
	retry := time.NewTicker(reconnectInterval)
	defer retry.Stop()
	for {
		client, err := supervise.Dial(ctx, a.cfg.SupervisorSocket())
		if err == nil {
			err = a.attend(ctx, client)
		}
		if ctx.Err() != nil {
			return nil
		}
		klog.FromContext(ctx).V(4).Info("Supervisor is not connected", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
		}
	}
}

// attend stays with one supervisor until its connection is lost or ctx ends.
func (a *Agent) attend(ctx context.Context, client *supervise.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	if client.Locked() {
		err = a.own(ctx, client)
	} else {
		a.waitForVolume(ctx, client)
	}
	cancel()
	if closeErr := client.Close(); err == nil {
		err = closeErr
	}
	return err
}

// own runs the instance for as long as the volume is held.
func (a *Agent) own(ctx context.Context, client *supervise.Client) error {
	in, err := openInstance(ctx, a, client)
	if err != nil {
		return fmt.Errorf("opening the volume: %w", err)
	}
	a.change(func() { a.instance, a.holder = in, "" })
	err = in.run()
	a.change(func() { a.instance = nil })
	in.close()
	return err
}

// waitForVolume publishes who holds the volume until the supervisor closes the connection, having got it.
func (a *Agent) waitForVolume(ctx context.Context, client *supervise.Client) {
	for {
		state, changed := client.State()
		a.change(func() {
			a.holder = ""
			if state.Holder != nil {
				a.holder = state.Holder.PodUID
			}
			a.terminating = a.terminating || state.Terminating
		})
		select {
		case <-ctx.Done():
			return
		case <-client.Done():
			return
		case <-changed:
		}
	}
}

// change alters what Status shows, under the agent's lock, and wakes everybody who watches it.
func (a *Agent) change(alter func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	alter()
	close(a.changed)
	a.changed = make(chan struct{})
}

// Terminating says whether the Pod was told to stop.
func (a *Agent) Terminating() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.terminating
}

// Connected says whether a supervisor that holds the volume is connected.
func (a *Agent) Connected() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.instance != nil
}

// Status returns the present state and a channel that is closed when it changes.
func (a *Agent) Status() (api.Status, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := api.Status{
		Pod: a.cfg.Pod, PodUID: a.cfg.PodUID, BootID: a.cfg.BootID, AgentVersion: a.cfg.Version,
		Volume: api.VolumeWaiting, VolumeHolder: a.holder, Mysqld: api.MysqldDown, Terminating: a.terminating,
	}
	if a.instance != nil {
		a.instance.describe(&s)
	}
	return s, a.changed
}

// enter returns the instance, or the reason why there is none. The caller calls in.work.Done when it is through: the
// volume is not given back before.
func (a *Agent) enter() (*instance, *api.Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.instance == nil {
		return nil, refuse(api.ErrorUnavailable, "no supervisor that holds the volume is connected")
	}
	a.instance.work.Add(1)
	return a.instance, nil
}

// refuse makes the answer of a command that is not carried out.
func refuse(reason api.ErrorReason, format string, args ...any) *api.Error {
	return &api.Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
