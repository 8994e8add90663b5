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

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// fencePatience bounds the stop of the receiver. A server that does not answer within it is killed: a dead one
	// acknowledges nothing.
	fencePatience = 500 * time.Millisecond
	// sparePatience bounds what is done to spare a closed primary, after which it is killed. It serves nobody meanwhile.
	sparePatience = 2 * time.Second
	// leavePatience is how long replicas may take to leave a primary that is spared.
	leavePatience = 400 * time.Millisecond
	// spareInterval is the pause between the two looks at a closed primary.
	spareInterval = 5 * time.Millisecond
)

// fence is the result of a fencing, with the process it was found on: it says nothing of any other.
type fence struct {
	api.Fence
	process processKey
}

// processKey tells one state of mysqld's process from the next.
type processKey struct {
	running bool
	startID string
}

// processKeyLocked is the present one; agent.mu is held.
func (in *instance) processKeyLocked() processKey {
	return processKey{running: in.process.Running, startID: in.process.StartID}
}

// fenceLocked is the fence that still holds, or nil; agent.mu is held.
func (in *instance) fenceLocked() *api.Fence {
	if in.fence == nil || in.fence.process != in.processKeyLocked() {
		return nil
	}
	return copied(&in.fence.Fence)
}

// fencedFor returns the fence of an epoch and claim, or nil.
func (in *instance) fencedFor(epoch int64, claim string) *api.Fence {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	f := in.fenceLocked()
	if f == nil || f.Epoch != epoch || f.Claim != claim {
		return nil
	}
	return f
}

// promiseCommand carries out promise: epoch and record are on disk first, and then, if the record takes the lead from the
// primary this agent knew, the instance is fenced. Before it answers, no statement of an earlier command is left in
// mysqld: a START REPLICA that queued for a lock would otherwise run after a later epoch has read what this instance
// received.
func (in *instance) promiseCommand(ctx context.Context, req *api.PromiseRequest) (api.Reply, error) {
	before := in.snapshot()
	if err := in.check(before, &req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	next, _ := admission.Promise(before, &req.Envelope, &req.Record)
	err := in.save(func(d *state.Durable) {
		if ledAlone(before) && admission.Fences(before, &req.Record) { // a growth does not take the lead
			d.AloneStart = before.StartedID
		}
		d.PromisedEpoch, d.PromisedClaim, d.Record = next.PromisedEpoch, next.PromisedClaim, next.Record
		d.Counter++ // in the same write: a takeover waits for it
	})
	if err != nil {
		return api.Reply{}, err
	}
	in.change(in.hurry)
	if admission.Fences(before, &req.Record) && in.fencedFor(req.Epoch, req.Claim) == nil {
		err = in.fenceFor(ctx, &req.Envelope)
	} else {
		err = in.sweep(ctx)
	}
	if err != nil {
		return api.Reply{}, err
	}
	return in.unchanged(), nil
}

// ledAlone says whether the last mysqld was the open primary of an epoch without acknowledgements.
func ledAlone(d state.Durable) bool {
	alone := d.Record != nil && d.Record.LastOpened != nil && d.Record.LastOpened.AckCount == 0 &&
		d.Record.LastOpened.Primary.Incarnation == d.Incarnation
	return alone && d.OpenPrimary && d.OpenStart == d.StartedID
}

// fenceFor makes the instance unable to acknowledge, or to serve, anything of an earlier epoch, and publishes what it
// holds. Without a running mysqld there is nothing to fence, and nothing to publish but that a leader is dead.
func (in *instance) fenceFor(ctx context.Context, env *api.Envelope) error {
	start, d := in.serverStart(), in.snapshot()
	led := d.LedStart != "" && d.LedStart == d.StartedID
	switch {
	case start == "" && led:
		in.fenceDeadLeader(env, d)
		return nil
	case start == "" || in.isStopping():
		return nil // one that stops cleanly serves nobody, and is no server to rely on either
	case d.OpenPrimary && d.OpenStart == start: // semi-sync on or not: one that is alone acknowledges without it
		return in.fenceLeader(ctx, env, start)
	case led:
		if err := in.demoteCandidate(ctx); err != nil {
			return err
		}
	}
	return in.fenceReplica(ctx, env, start)
}

// demoteCandidate makes a replica-to-be of an instance that was to lead and was never opened: what may wait there is a
// marker of an epoch that is over, and no client's write.
func (in *instance) demoteCandidate(ctx context.Context) error {
	session, err := in.borrow(ctx)
	if err != nil {
		return err
	}
	defer in.giveBack(ctx, session)
	if err := session.SetGlobal(ctx, "rpl_semi_sync_source_enabled=OFF"); err != nil {
		return unavailable("giving up the lead", err)
	}
	return in.save(func(d *state.Durable) { d.LedStart = "" })
}

// setFence publishes a fence at once.
func (in *instance) setFence(env *api.Envelope, f api.Fence) {
	f.Epoch, f.Claim = env.Epoch, env.Claim
	in.change(func() { in.fence = &fence{Fence: f, process: in.processKeyLocked()} })
	klog.FromContext(in.ctx).Info("Fenced", "epoch", f.Epoch, "killed", f.Killed, "spared", f.Spared, "gtid", f.Received)
}

// fenceDeadLeader publishes the death of a leader if this Pod's own supervisor has reaped it and nothing was started
// since: then its volume holds all that it ever committed.
func (in *instance) fenceDeadLeader(env *api.Envelope, d state.Durable) {
	in.agent.mu.Lock()
	exit, running := in.process.Exit, in.process.Running
	in.agent.mu.Unlock()
	if running || exit == nil || exit.StartID != d.StartedID || !admission.NeedsReturn(d, "") {
		return
	}
	in.setFence(env, api.Fence{Killed: true})
}

// fenceReplica stops the receiver and reads what was received. If it does not stop in time mysqld is killed and started
// again, closed; there is no fence then, and a later promise gets one.
func (in *instance) fenceReplica(ctx context.Context, env *api.Envelope, start string) error {
	if !in.reachable() {
		return nil // it takes no connections yet, and replication does not start by itself
	}
	if err := in.sweep(ctx); err != nil || in.serverStart() != start {
		return err
	}
	report, err := in.cutOff(start)
	switch {
	case errors.Is(err, errNotCutOff):
		return in.restart(ctx, start, err.Error())
	case err != nil:
		return unavailable("reading what was received", err)
	}
	in.publish(start, report, nil)
	in.setFence(env, api.Fence{Received: report.Received})
	return nil
}

// errNotCutOff: the receiver may still be running.
var errNotCutOff = errors.New("the receiver does not stop")

// cutOff stops the receiver within fencePatience, whatever becomes of the statement, and reads a report after.
func (in *instance) cutOff(start string) (*mysql.Report, error) {
	type outcome struct {
		session *mysql.Session
		err     error
	}
	stopped := make(chan outcome, 1)
	in.work.Go(func() {
		ctx, cancel := context.WithTimeout(in.ctx, fencePatience)
		defer cancel()
		session, err := in.borrow(ctx)
		if err == nil {
			err = ignoreNoChannel(session.StopReceiver(ctx))
		}
		stopped <- outcome{session, err}
	})
	patience := time.NewTimer(fencePatience)
	defer patience.Stop()
	var stop outcome
	select {
	case stop = <-stopped:
	case <-patience.C:
		// The statement ends with the mysqld that is killed now; its session is closed when it has.
		in.work.Go(func() {
			if late := <-stopped; late.session != nil {
				in.release(late.session)
			}
		})
		return nil, errNotCutOff
	}
	if stop.session == nil {
		return nil, fmt.Errorf("%w: %w", errNotCutOff, stop.err)
	}
	ctx, cancel := context.WithTimeout(in.ctx, in.cfg.StatementTimeout)
	defer cancel()
	defer in.giveBack(ctx, stop.session)
	if stop.err != nil {
		return nil, fmt.Errorf("%w: %w", errNotCutOff, stop.err)
	}
	report, err := stop.session.Read(ctx, nil)
	if err != nil {
		return nil, err
	}
	if report.Channel != nil && report.Channel.Receiver != "No" {
		return nil, fmt.Errorf("%w: it is %s", errNotCutOff, report.Channel.Receiver)
	}
	if in.serverStart() != start {
		return nil, errors.New("mysqld was restarted meanwhile")
	}
	return report, nil
}

// errNoChannel is ER_REPLICA_CHANNEL_DOES_NOT_EXIST, errNotReplica ER_BAD_REPLICA: there is no receiver.
const (
	errNoChannel  uint16 = 3074
	errNotReplica uint16 = 1200
)

// ignoreNoChannel drops the error of a server that is no replica.
func ignoreNoChannel(err error) error {
	if number := mysql.Number(err); number == errNoChannel || number == errNotReplica {
		return nil
	}
	return err
}

// fenceLeader spares a leader that was closed and still is, and kills every other. The kill does not end with the
// command: the promise is on disk, and nothing may be served below it.
func (in *instance) fenceLeader(ctx context.Context, env *api.Envelope, start string) error {
	logger := klog.FromContext(ctx)
	if executed, ok := in.closedAt(start); ok {
		err := in.spareLeader(ctx, start, executed, func() { in.setFence(env, api.Fence{Spared: true, Received: executed}) })
		if err == nil {
			return nil
		}
		logger.Info("The closed primary cannot be spared", "reason", err)
	}
	logger.Info("Killing mysqld: it led, and another epoch begins", "epoch", env.Epoch)
	patience, cancel := context.WithTimeout(in.ctx, killPatience)
	defer cancel()
	if err := in.sup.Kill(patience, start); err != nil {
		return refuse(api.ErrorUnavailable, "mysqld could not be killed: %v", err)
	}
	latest, _ := in.sup.State()
	if err := in.observe(latest); err != nil {
		return err
	}
	in.setFence(env, api.Fence{Killed: true})
	return nil
}

// spareLeader makes a replica-to-be of a closed primary, if nothing has happened on it since executed was read: seen
// twice, nobody is connected, nothing waits, and nothing was committed. Only then does switching source semi-sync off
// acknowledge nothing. spared is called before that: it takes up to a second while replicas are connected, and nothing
// can be committed any more.
func (in *instance) spareLeader(ctx context.Context, start, executed string, spared func()) error {
	ctx, cancel := context.WithTimeout(ctx, sparePatience)
	defer cancel()
	session, err := in.borrow(ctx)
	if err != nil {
		return err
	}
	defer in.giveBack(ctx, session)
	if err := in.sweepWith(ctx, session); err != nil {
		return err
	}
	for look := range 2 {
		if look > 0 {
			in.rest(spareInterval)
		}
		if err := in.stillClosed(ctx, session, executed); err != nil {
			return err
		}
	}
	// It is no open primary any more before it loses what the guard of one demands.
	if err := in.save(func(d *state.Durable) { d.OpenStart, d.OpenPrimary = "", false }); err != nil {
		return err
	}
	spared()
	report, err := switchOff(ctx, session)
	if err != nil {
		return err
	}
	if report.On("rpl_semi_sync_source_enabled") || report.GTIDExecuted != executed {
		return errors.New("it committed something, or semi-sync stayed on")
	}
	in.publish(start, report, nil)
	return in.save(func(d *state.Durable) { d.LedStart = "" })
}

// switchOff switches source semi-sync off. While a replica is connected that takes up to a second and lets its receiver
// hang, so they get the time to leave, being fenced at this moment, too; those that stay are cut off.
func switchOff(ctx context.Context, session *mysql.Session) (*mysql.Report, error) {
	leaving, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	tick := time.NewTicker(spareInterval)
	defer tick.Stop()
	for {
		ids, err := session.Column(ctx, "SELECT id FROM performance_schema.processlist WHERE command LIKE 'Binlog Dump%'")
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			break
		}
		if leaving.Err() != nil {
			if err := killAll(ctx, session, ids); err != nil {
				return nil, err
			}
			break
		}
		select {
		case <-tick.C:
		case <-leaving.Done():
		}
	}
	if err := session.SetGlobal(ctx, "rpl_semi_sync_source_enabled=OFF"); err != nil {
		return nil, err
	}
	return session.Read(ctx, nil)
}

// stillClosed looks once.
func (in *instance) stillClosed(ctx context.Context, session *mysql.Session, executed string) error {
	busy, err := in.busySessions(ctx, session)
	if err != nil {
		return err
	}
	var closed bool
	var now string
	if err := session.Row(ctx, []any{&closed, &now}, "SELECT @@GLOBAL.super_read_only AND @@GLOBAL.offline_mode, @@GLOBAL.gtid_executed"); err != nil {
		return err
	}
	switch {
	case busy > 0:
		return fmt.Errorf("%d sessions are busy", busy)
	case !closed:
		return errors.New("it is not closed")
	case strings.ReplaceAll(now, "\n", "") != executed:
		return errors.New("it committed something since it was closed")
	}
	return nil
}
