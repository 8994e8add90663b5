// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// closeTimeout bounds the attempt to close a primary so that it can be stopped cleanly. After it comes SIGKILL.
	closeTimeout = 5 * time.Second
	// slotPatience bounds the wait for a command that is still being carried out; its own statements have deadlines.
	slotPatience = 2 * time.Second
)

// terminate ends mysqld after the Pod was told to stop. A graceful stop answers OK to sessions that wait for an
// acknowledgement, so it is ordered only where none can be waiting:
//   - when source semi-sync was never on since this mysqld started (a replica, or a cluster of one);
//   - when the instance is closed to clients and nobody is left, seen twice.
//
// Everything else is killed; its writes are in the binary log and are judged when it comes back.
func (in *instance) terminate() {
	logger := klog.FromContext(in.ctx)
	in.awaitHandOver()
	patience, cancel := context.WithTimeout(in.ctx, slotPatience)
	defer cancel()
	end := in.endServer
	if in.take(patience) == nil {
		defer func() { <-in.slot }()
	} else if in.snapshot().LedStart != "" {
		end = in.killServer // the command could open it again after it was seen to be closed
	}
	process, _ := in.sup.State()
	if !process.Running || in.isStopping() {
		return
	}
	in.endClosing()
	if err := end(process.StartID); err != nil {
		logger.Error(err, "Ending mysqld failed")
	}
}

// isStopping says whether a clean stop of the running mysqld was ordered.
func (in *instance) isStopping() bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.stopping
}

// endServer stops that mysqld cleanly if it may be, and kills it if not. It does not wait for a clean end, which is noted
// when it comes.
func (in *instance) endServer(start string) error {
	err := in.stopCleanly(start)
	if err == nil {
		in.work.Go(func() { in.noteCleanEnd(start) })
		return nil
	}
	klog.FromContext(in.ctx).Info("Killing mysqld: it must not be stopped cleanly", "reason", err)
	return in.killServer(start)
}

func (in *instance) killServer(start string) error {
	patience, cancel := context.WithTimeout(in.ctx, killPatience)
	defer cancel()
	return in.sup.Kill(patience, start)
}

// noteCleanEnd waits for the end of that mysqld and remembers that nothing of it is in doubt.
func (in *instance) noteCleanEnd(start string) {
	err := in.sup.AwaitExit(in.ctx, start)
	last, _ := in.sup.State() // the supervisor of a terminating Pod goes right after its mysqld
	if last.Running || last.Exit == nil || last.Exit.StartID != start || last.Exit.Code != 0 {
		klog.FromContext(in.ctx).Info("mysqld did not end cleanly", "err", err)
		return
	}
	if err := in.save(func(d *state.Durable) { d.CleanStart = start }); err != nil {
		klog.FromContext(in.ctx).Error(err, "Noting the clean end of mysqld failed")
	}
}

// stopCleanly orders a clean stop if that is safe, or says why it is not.
func (in *instance) stopCleanly(start string) error {
	d := in.snapshot()
	if start != d.StartedID {
		return errors.New("it is private to a task")
	}
	ctx, cancel := context.WithTimeout(in.ctx, closeTimeout)
	defer cancel()
	if d.LedStart == start {
		if err := in.closeToClients(ctx); err != nil {
			return err
		}
	}
	klog.FromContext(ctx).Info("Stopping mysqld")
	in.hangUp()
	return in.sup.Stop(ctx, start)
}

// hangUp closes the agent's own sessions: mysqld would wait for each of them for seconds.
func (in *instance) hangUp() {
	var spare *mysql.Session
	in.change(func() {
		in.stopping = true // the poller closes its own
		spare, in.spare = in.spare, nil
	})
	if spare != nil {
		in.release(spare)
	}
}

// closeToClients ends all sessions, makes the server read-only and returns nil once it has twice seen that nobody is
// left and nothing waits.
func (in *instance) closeToClients(ctx context.Context) error {
	session, err := in.borrow(ctx)
	if err != nil {
		return err
	}
	defer in.giveBack(ctx, session)
	// super_read_only waits for commits in progress, at most for the session's lock_wait_timeout.
	if err := session.SetGlobal(ctx, "offline_mode=ON", "super_read_only=ON"); err != nil {
		return fmt.Errorf("closing to clients: %w", err)
	}
	return in.untilQuiet(ctx, session, in.busySessions)
}

// busySessions counts the clients' sessions and everybody who waits for an acknowledgement, the agent's marker included.
func (in *instance) busySessions(ctx context.Context, session *mysql.Session) (int, error) {
	in.agent.mu.Lock()
	markers := in.markers
	in.agent.mu.Unlock()
	var sessions, waiting int
	err := session.Row(ctx, []any{&sessions}, "SELECT COUNT(*) FROM performance_schema.processlist WHERE ("+whereClient+
		") OR state LIKE 'Waiting for semi-sync%' OR state = 'waiting for handler commit'", AccountAdmin)
	if err != nil {
		return 0, err
	}
	err = session.Row(ctx, []any{&waiting},
		"SELECT variable_value + (NOT @@GLOBAL.super_read_only) FROM performance_schema.global_status WHERE variable_name='Rpl_semi_sync_source_wait_sessions'")
	return sessions + waiting + markers, err
}
