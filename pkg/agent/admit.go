// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// killPatience bounds the wait for a killed mysqld to be reaped. One in uninterruptible sleep is silent, not dead.
	killPatience = 10 * time.Second
	// sweepPatience is how long sessions of earlier commands may take to go before mysqld is killed for them. There are
	// none but after an agent's restart or a statement that was given up, so a takeover rarely waits for it.
	sweepPatience = time.Second
	sweepInterval = 20 * time.Millisecond
)

// take waits for the right to carry out a command. The caller gives it back with a receive.
func (in *instance) take(ctx context.Context) *api.Error {
	select {
	case in.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return refuse(api.ErrorUnavailable, "another command is being carried out")
	}
}

// admit decides by the envelope whether a command may be carried out, and raises the promise to its epoch first. record
// is what the command carries, or nil.
func (in *instance) admit(env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	d := in.snapshot()
	if in.file == nil {
		return refuse(api.ErrorPrecondition, "the agent's state on the volume is unreadable")
	}
	if err := checkEnvelope(d, env); err != nil {
		return err
	}
	if record != nil {
		if err := checkRecord(env, record); err != nil {
			return err
		}
	}
	if in.agent.Terminating() {
		return refuse(api.ErrorPrecondition, "the Pod is terminating")
	}
	return in.promise(d, env, record)
}

// checkEnvelope compares an envelope with the promise, the identity and the state counter.
func checkEnvelope(d state.Durable, env *api.Envelope) error {
	switch {
	case env.Epoch < d.PromisedEpoch:
		return refuse(api.ErrorStaleEpoch, "epoch %d is below the promised %d", env.Epoch, d.PromisedEpoch)
	case env.Epoch == d.PromisedEpoch && env.Claim != d.PromisedClaim:
		return refuse(api.ErrorStaleEpoch, "epoch %d is promised to claim %q, not %q", env.Epoch, d.PromisedClaim, env.Claim)
	case env.Incarnation != d.Incarnation:
		return refuse(api.ErrorWrongIncarnation, "the command is for incarnation %q, this is %q", env.Incarnation, d.Incarnation)
	case env.StateCounter != d.Counter:
		return refuse(api.ErrorStaleState, "the command was decided at state %d, this is %d", env.StateCounter, d.Counter)
	}
	return nil
}

// checkRecord makes sure that the record is the one under which the command was decided.
func checkRecord(env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	switch {
	case record.Version > v1beta1.RecordVersion:
		return refuse(api.ErrorInvalid, "the record has version %d, the newest known is %d", record.Version, v1beta1.RecordVersion)
	case record.Epoch != env.Epoch || record.Claim != env.Claim:
		return refuse(api.ErrorInvalid, "the record is of epoch %d and claim %q, the command of %d and %q", record.Epoch, record.Claim, env.Epoch, env.Claim)
	}
	return nil
}

// promise puts epoch and record on disk if they are news. A record of the promised epoch replaces the one kept only if it
// is not behind it.
func (in *instance) promise(d state.Durable, env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	if env.Epoch == d.PromisedEpoch && (record == nil || !advances(d.Record, record)) {
		return nil
	}
	return in.save(func(d *state.Durable) {
		d.PromisedEpoch, d.PromisedClaim = env.Epoch, env.Claim
		if record != nil {
			d.Record = record.DeepCopy()
		}
	})
}

// phaseOrder tells how far a phase is.
var phaseOrder = map[v1beta1.RecordPhase]int{v1beta1.RecordClaimed: 1, v1beta1.RecordChosen: 2, v1beta1.RecordOpened: 3}

// advances says whether a record of the promised epoch is news: further than the kept one, or as far but different.
func advances(kept, record *v1beta1.ReplicationRecord) bool {
	if kept == nil || record.Epoch > kept.Epoch {
		return true
	}
	further := phaseOrder[record.Phase] - phaseOrder[kept.Phase]
	return further > 0 || further == 0 && !reflect.DeepEqual(kept, record)
}

// accepted counts a command that was carried out and makes its reply.
func (in *instance) accepted() (api.Reply, error) {
	if err := in.save(func(d *state.Durable) { d.Counter++ }); err != nil {
		return api.Reply{}, err
	}
	in.change(in.hurry)
	return in.unchanged(), nil
}

// unchanged is the reply to a command that was in effect already.
func (in *instance) unchanged() api.Reply { return api.Reply{StateCounter: in.snapshot().Counter} }

// promiseCommand carries out promise. Before it answers, no statement of an earlier command is left in mysqld: a START
// REPLICA that queued for a lock would otherwise run after a later epoch has read what this instance received.
func (in *instance) promiseCommand(ctx context.Context, req *api.PromiseRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.sweep(ctx); err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// sweep ends the agent's sessions of earlier commands and agents, and if they do not go kills mysqld and starts it again.
func (in *instance) sweep(ctx context.Context) error {
	start := in.serverStart()
	if start == "" || !in.reachable() {
		return nil // a mysqld that takes no connections yet has no sessions
	}
	session, err := in.borrow(ctx)
	if err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	err = in.sweepWith(patience, session)
	in.giveBack(patience, session)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || !errors.Is(err, errStubborn):
		return unavailable("looking for left-over sessions", err) // nothing is known to be left; the next promise looks again
	}
	return in.restart(ctx, start, err.Error())
}

// errStubborn: sessions of earlier commands were seen and do not end.
var errStubborn = errors.New("left-over sessions do not end")

// sweepWith kills until nothing is left. KILL itself may block: it looks the other session's account up, which somebody
// who waits for an acknowledgement may have locked.
func (in *instance) sweepWith(ctx context.Context, session *mysql.Session) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	seen := false
	for {
		strays, err := in.strays(ctx, session)
		switch {
		case err != nil && seen:
			return fmt.Errorf("%w: %w", errStubborn, err)
		case err != nil:
			return err
		}
		seen = seen || len(strays) > 0
		if len(strays) == 0 {
			return nil
		}
		for _, id := range strays {
			if err := session.Exec(ctx, "KILL "+id); ctx.Err() != nil {
				return fmt.Errorf("%w: %w", errStubborn, err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d", errStubborn, len(strays))
		}
	}
}

// reachable says whether the running mysqld has ever answered this agent.
func (in *instance) reachable() bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.server != nil || len(in.sessions) > 0
}

// strays lists sessions of the agent's account that are not its own.
func (in *instance) strays(ctx context.Context, session *mysql.Session) ([]string, error) {
	ids, err := session.Column(ctx, "SELECT id FROM performance_schema.processlist WHERE user=?", AccountAdmin)
	if err != nil {
		return nil, err
	}
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	var strays []string
	for _, id := range ids {
		known := false
		for own := range in.sessions {
			known = known || fmt.Sprint(own) == id
		}
		if !known {
			strays = append(strays, id)
		}
	}
	return strays, nil
}

// restart kills that mysqld and starts it again, closed.
func (in *instance) restart(ctx context.Context, start, reason string) error {
	klog.FromContext(ctx).Info("Killing mysqld and starting it again", "reason", reason)
	if err := in.sup.Kill(ctx, start); err != nil {
		return refuse(api.ErrorUnavailable, "mysqld could not be killed: %v", err)
	}
	return in.startServer(ctx)
}
