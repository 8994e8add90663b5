// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// minClosed and maxClosed bound how long a primary may be asked to stay closed.
	minClosed = time.Second
	maxClosed = time.Minute
	// quietInterval is the time between two looks at who is left on a primary that closes: every one of them is a pause of
	// all writes.
	quietInterval = 5 * time.Millisecond
	// failureShown is how long a closing that failed is shown; then it may be tried again.
	failureShown = 30 * time.Second
	// reopenInterval is the pause before another attempt to open again.
	reopenInterval = 100 * time.Millisecond
)

// closing is one CloseRequest that is being carried out or in effect.
type closing struct {
	start   string // of mysqld
	epoch   int64  // promised when it was closed, with its claim
	claim   string
	giveUp  time.Time // when it must be closed
	until   time.Time // when it opens again by itself
	cancel  context.CancelFunc
	stopped chan struct{} // closed when nothing is done for it any more
	result  api.Closed    // guarded by agent.mu
}

// closedLocked is what Status shows; agent.mu is held.
func (in *instance) closedLocked() *api.Closed {
	if in.closing == nil || in.closing.start != in.serverStartLocked() {
		return nil
	}
	return copied(&in.closing.result)
}

// closedAt returns gtid_executed at the end of a closing that is complete and in effect on that start of mysqld.
func (in *instance) closedAt(start string) (string, bool) {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	c := in.closing
	if c == nil || c.start != start || c.result.Error != "" || c.result.GTIDExecuted == "" {
		return "", false
	}
	return c.result.GTIDExecuted, true
}

// closePrimary begins to close the open primary. It returns at once; Status shows how it goes on.
func (in *instance) closePrimary(ctx context.Context, req *api.CloseRequest) (api.Reply, error) {
	if err := in.admitHandOver(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.mustBePrimary(&req.Record); err != nil {
		return api.Reply{}, err
	}
	duration := time.Duration(req.DurationMillis) * time.Millisecond
	if duration < minClosed || duration > maxClosed {
		return api.Reply{}, refuse(api.ErrorInvalid, "durationMillis %d is not in 1000 to 60000", req.DurationMillis)
	}
	d, start := in.snapshot(), in.serverStart()
	if start == "" || d.OpenStart != start || !d.OpenPrimary || req.Record.Phase != v1beta1.RecordOpened {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the instance is not an open primary")
	}
	in.endClosing()
	session, err := in.borrow(ctx)
	if err != nil {
		return api.Reply{}, err
	}
	now := time.Now()
	c := &closing{
		start: start, epoch: d.PromisedEpoch, claim: d.PromisedClaim, giveUp: now.Add(duration / 2), until: now.Add(duration), stopped: make(chan struct{}),
	}
	var work context.Context
	work, c.cancel = context.WithCancel(in.ctx)
	in.change(func() { in.closing = c })
	in.work.Go(func() { in.keepClosed(work, c, session) })
	return in.accepted()
}

// endClosing ends the work for a closing, and forgets it. The caller holds the slot.
func (in *instance) endClosing() {
	in.agent.mu.Lock()
	c := in.closing
	in.agent.mu.Unlock()
	if c == nil {
		return
	}
	c.cancel()
	<-c.stopped
	in.change(func() { in.closing = nil })
}

// keepClosed closes the primary, publishes the result, and opens it again when its time has passed or when it could not
// be closed.
func (in *instance) keepClosed(ctx context.Context, c *closing, session *mysql.Session) {
	defer close(c.stopped)
	logger := klog.FromContext(in.ctx)
	begun := time.Now()
	executed, err := in.closeNow(ctx, c, session)
	in.giveBack(ctx, session)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		logger.Info("Closed the primary", "gtid", executed, "elapsed", time.Since(begun))
		in.finishClosing(c, api.Closed{GTIDExecuted: executed})
		in.awaitReopening(ctx, c)
		err = errNobodyTookOver
	default:
		logger.Info("The primary could not be closed, opening it again", "reason", err, "elapsed", time.Since(begun))
	}
	if !in.openAgain(ctx, c) {
		return
	}
	in.finishClosing(c, api.Closed{Error: err.Error()})
	c.until = time.Now().Add(failureShown)
	in.awaitReopening(ctx, c)
	if ctx.Err() != nil {
		return
	}
	in.change(func() { in.closing = nil })
	if err := in.save(func(d *state.Durable) { d.Counter++ }); err != nil {
		logger.Error(err, "Counting the end of a closing failed")
	}
}

// finishClosing publishes a result, which counts as a change of state.
func (in *instance) finishClosing(c *closing, result api.Closed) {
	if err := in.save(func(d *state.Durable) { d.Counter++ }); err != nil {
		klog.FromContext(in.ctx).Error(err, "Counting the end of a closing failed")
	}
	in.change(func() { c.result = result })
}

// closeNow lets the clients go and returns gtid_executed once nobody is left and nothing waits, seen twice.
func (in *instance) closeNow(ctx context.Context, c *closing, session *mysql.Session) (string, error) {
	ctx, cancel := context.WithDeadline(ctx, c.giveUp)
	defer cancel()
	if err := session.SetGlobal(ctx, "offline_mode=ON", "event_scheduler=OFF"); err != nil {
		return "", fmt.Errorf("closing to clients: %w", err)
	}
	if err := in.untilQuiet(ctx, session, in.clientsLeft); err != nil {
		return "", err
	}
	if err := in.stopWrites(ctx, session); err != nil {
		return "", err
	}
	if err := in.untilQuiet(ctx, session, in.busySessions); err != nil {
		return "", err
	}
	var executed string
	if err := session.Row(ctx, []any{&executed}, "SELECT @@GLOBAL.gtid_executed"); err != nil {
		return "", fmt.Errorf("reading what was executed: %w", err)
	}
	return strings.ReplaceAll(executed, "\n", ""), nil
}

// stopWrites switches super_read_only on. It waits for commits and DDL in progress for a second and then fails, which is
// repeated as long as there is time.
func (in *instance) stopWrites(ctx context.Context, session *mysql.Session) error {
	for {
		err := session.SetGlobal(ctx, "super_read_only=ON")
		if err == nil || mysql.Number(err) != mysql.ErrLockWaitTimeout || ctx.Err() != nil {
			return err
		}
	}
}

// clientsLeft kills the clients' sessions and counts them.
func (in *instance) clientsLeft(ctx context.Context, session *mysql.Session) (int, error) {
	ids, err := session.Column(ctx, "SELECT id FROM performance_schema.processlist WHERE "+whereClient, AccountAdmin)
	if err != nil {
		return 0, err
	}
	return len(ids), killAll(ctx, session, ids)
}

// untilQuiet returns nil once count has been 0 twice in a row.
func (in *instance) untilQuiet(ctx context.Context, session *mysql.Session, count func(context.Context, *mysql.Session) (int, error)) error {
	tick := time.NewTicker(quietInterval)
	defer tick.Stop()
	left := 0
	for quiet := 0; ; {
		now, err := count(ctx, session)
		switch {
		case err != nil && ctx.Err() != nil && left > 0:
			return fmt.Errorf("%d sessions are left: %w", left, ctx.Err())
		case err != nil:
			return fmt.Errorf("looking for sessions: %w", err)
		}
		left = now
		quiet++
		if left > 0 {
			quiet = 0
		}
		if quiet == 2 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d sessions are left: %w", left, ctx.Err())
		}
	}
}

// awaitReopening waits until the primary is to open again by itself.
func (in *instance) awaitReopening(ctx context.Context, c *closing) {
	timer := time.NewTimer(time.Until(c.until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// openAgain opens the primary again as it was, unless a promise, another command or the end of mysqld came first. It says
// whether it is open again.
func (in *instance) openAgain(ctx context.Context, c *closing) bool {
	for ctx.Err() == nil && in.mayReopen(c) {
		err := in.openAgainOnce(ctx, c)
		if err == nil {
			return true
		}
		if errors.Is(err, errNotOurs) {
			return false
		}
		klog.FromContext(in.ctx).Info("Opening again failed", "err", err)
		in.rest(reopenInterval)
	}
	return false
}

// errNobodyTookOver: the time of a closing has passed, and nothing higher was promised.
var errNobodyTookOver = errors.New("nobody took over in time")

// errNotOurs: the primary is not the agent's to open any more.
var errNotOurs = errors.New("another command came first")

// mayReopen says whether nothing has changed since the primary was closed.
func (in *instance) mayReopen(c *closing) bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	d := in.durable
	return in.closing == c && in.serverStartLocked() == c.start && d.OpenStart == c.start && d.OpenPrimary &&
		d.PromisedEpoch == c.epoch && d.PromisedClaim == c.claim && !in.stopping
}

// openAgainOnce holds the slot, so that no promise comes between the look and the act.
func (in *instance) openAgainOnce(ctx context.Context, c *closing) error {
	if refused := in.take(ctx); refused != nil {
		return refused
	}
	defer func() { <-in.slot }()
	if !in.mayReopen(c) {
		return errNotOurs
	}
	ctx, cancel := context.WithTimeout(ctx, in.cfg.StatementTimeout)
	defer cancel()
	session, err := in.borrow(ctx)
	if err != nil {
		return err
	}
	defer in.giveBack(ctx, session)
	if err := session.SetGlobal(ctx, "read_only=OFF", "offline_mode=OFF", "event_scheduler=ON"); err != nil {
		return err
	}
	klog.FromContext(in.ctx).Info("Opened the primary again", "epoch", c.epoch)
	return nil
}
