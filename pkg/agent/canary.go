// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// canaryInterval is the time from the beginning of one canary to that of the next.
	canaryInterval = time.Second
	// canaryRetry is the pause after a canary that nobody answered.
	canaryRetry = 250 * time.Millisecond
	// stallStep and stallFloor: how long a canary is outstanding is shown in such steps, and not at all below the floor.
	stallStep  = 250 * time.Millisecond
	stallFloor = time.Second
)

// The canary's table is local: no logged statement ever touches it, so replicas neither need it nor trip over it. It is
// InnoDB, because a disk or an engine that stands still must hold the canary up, too. Every row is one server's, and every
// canary changes it: a statement that changes nothing is not written anywhere.
const (
	canarySchema = "CREATE DATABASE IF NOT EXISTS " + InternalSchema
	canaryTable  = "CREATE TABLE IF NOT EXISTS " + InternalSchema + `.canary (
 server_uuid CHAR(36) CHARACTER SET ascii PRIMARY KEY, beat BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB`
	canaryBeat = "INSERT INTO " + InternalSchema + `.canary (server_uuid, beat) VALUES (@@GLOBAL.server_uuid, 1)
 ON DUPLICATE KEY UPDATE beat = beat + 1`
)

// sickErrors are the answers that count like none: the disk is full, or the engine cannot write.
var sickErrors = []uint16{
	mysql.ErrDiskFull, mysql.ErrWrite, mysql.ErrEngine, mysql.ErrTableFull, mysql.ErrCommit, mysql.ErrDiskFullNow,
}

// canary is the one that sings on one start of mysqld.
type canary struct {
	start  string
	cancel context.CancelFunc
	// since is when the canary that is outstanding began, or the first of several that failed; zero while none is.
	// Guarded by agent.mu.
	since time.Time
}

// stalled is what is shown of a canary that is outstanding.
func (c *canary) stalled(now time.Time) time.Duration {
	if c == nil || c.since.IsZero() {
		return 0
	}
	if out := now.Sub(c.since); out >= stallFloor {
		return out.Truncate(stallStep)
	}
	return 0
}

// untilStep is how long it takes until stalled may return something new.
func (c *canary) untilStep(now time.Time) time.Duration {
	if c.since.IsZero() {
		return stallFloor
	}
	next := max(stallFloor, c.stalled(now)+stallStep)
	return next - now.Sub(c.since)
}

// answered says whether mysqld, working or not, has answered: a refusal shows that it is there. What hangs does not
// answer at all.
func answered(err error) bool {
	number := mysql.Number(err)
	return err == nil || number != 0 && !slices.Contains(sickErrors, number)
}

// keepCanary has a canary sing for as long as the instance is an open primary, and publishes how long it is silent.
func (in *instance) keepCanary() {
	var c *canary
	defer func() { c.end() }()
	for {
		start, changed := in.canaryStart()
		if c != nil && c.start != start {
			c.end()
			c = nil
		}
		if c == nil && start != "" {
			c = in.newCanary(start)
		}
		wait := in.showStall(c)
		timer := time.NewTimer(wait)
		select {
		case <-in.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
}

// canaryStart is the start of mysqld on which a canary has to sing, "" for none, and what announces a change. It must not
// under super_read_only, where it would fail, nor where mysqld was told to stop.
func (in *instance) canaryStart() (string, <-chan struct{}) {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	start := in.serverStartLocked()
	open := start != "" && in.durable.OpenStart == start && in.durable.OpenPrimary
	closed := in.server != nil && in.server.SuperReadOnly || in.closesLocked()
	if !open || closed || in.stopping || in.agent.terminating {
		return "", in.agent.changed
	}
	return start, in.agent.changed
}

// closesLocked says whether an order to close the primary is being carried out or in effect; agent.mu is held.
func (in *instance) closesLocked() bool {
	return in.closing != nil && in.closing.start == in.serverStartLocked() && in.closing.result.Error == ""
}

func (in *instance) newCanary(start string) *canary {
	ctx, cancel := context.WithCancel(in.ctx)
	c := &canary{start: start, cancel: cancel}
	in.work.Go(func() { in.sing(ctx, c) })
	return c
}

func (c *canary) end() {
	if c != nil {
		c.cancel()
	}
}

// showStall publishes how long the canary is silent and returns when to do so again.
func (in *instance) showStall(c *canary) time.Duration {
	now := time.Now()
	in.agent.mu.Lock()
	stalled, wait := c.stalled(now), canaryInterval
	if c != nil {
		wait = c.untilStep(now)
	}
	same := in.stalled == stalled
	in.agent.mu.Unlock()
	if !same {
		in.change(func() { in.stalled = c.stalled(now) })
	}
	return wait
}

// sing lets the canary sing once a second. It has no deadline: one that hangs is the finding, it could not be called off,
// and another one beside it would hang as well. So there is one session, however long nothing moves.
func (in *instance) sing(ctx context.Context, c *canary) {
	var session *mysql.Session
	defer func() { in.drop(session) }()
	last := uint16(0)
	for {
		begun := time.Now()
		in.outstanding(c, begun)
		var err error
		session, err = in.beat(ctx, session)
		if ctx.Err() != nil {
			return
		}
		if number := mysql.Number(err); err != nil && number != last {
			klog.FromContext(ctx).Info("The canary failed", "err", err)
			last = number
		}
		wait := canaryRetry
		if answered(err) {
			in.settled(c)
			wait = canaryInterval - time.Since(begun)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// outstanding notes that a canary has begun, unless one before it was not answered.
func (in *instance) outstanding(c *canary, now time.Time) {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	if c.since.IsZero() {
		c.since = now
	}
}

// settled notes that the canary was answered and takes back what was shown of it.
func (in *instance) settled(c *canary) {
	in.agent.mu.Lock()
	c.since = time.Time{}
	shown := in.stalled != 0
	in.agent.mu.Unlock()
	if shown {
		in.change(func() { in.stalled = 0 })
	}
}

// beat changes the canary's row and returns the session to go on with, or nil when it is of no more use.
func (in *instance) beat(ctx context.Context, session *mysql.Session) (*mysql.Session, error) {
	if session == nil {
		var err error
		if session, err = in.canarySession(ctx); err != nil {
			return nil, err
		}
	}
	err := session.Exec(ctx, canaryBeat)
	if number := mysql.Number(err); number == mysql.ErrNoTable || number == mysql.ErrNoSchema {
		err = makeCanary(ctx, session)
	}
	if err != nil && mysql.Number(err) == 0 {
		in.drop(session)
		return nil, err
	}
	return session, err
}

// makeCanary makes the table on a primary that never had it. Other instances make theirs when they are opened.
func makeCanary(ctx context.Context, session *mysql.Session) error {
	for _, statement := range []string{canarySchema, canaryTable, canaryBeat} {
		if err := session.Exec(ctx, statement); err != nil {
			return fmt.Errorf("making the canary's table: %w", err)
		}
	}
	return nil
}

// canarySession opens a session whose statements are not logged. Where the administrative interface refuses to connect
// the socket may still do; only a mysqld that answers on neither is silent.
func (in *instance) canarySession(ctx context.Context) (*mysql.Session, error) {
	endpoint := in.endpoint()
	session, err := endpoint.Connect(ctx)
	if err != nil && mysql.Number(err) == 0 && ctx.Err() == nil {
		endpoint.Network, endpoint.Address, endpoint.Encrypt = "unix", in.cfg.ServerSocket(), nil
		session, err = endpoint.Connect(ctx)
	}
	if err != nil {
		return nil, err
	}
	in.agent.mu.Lock()
	in.sessions[session.ID()] = struct{}{}
	in.agent.mu.Unlock()
	if err := session.Exec(ctx, "SET SESSION sql_log_bin=0"); err != nil {
		in.drop(session)
		return nil, fmt.Errorf("preparing the canary: %w", err)
	}
	return session, nil
}

// drop releases a session if there is one.
func (in *instance) drop(session *mysql.Session) {
	if session != nil {
		in.release(session)
	}
}
