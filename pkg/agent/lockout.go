// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// goneFor is how long no dump thread of a locked account must have been seen. A replica reconnects every second.
	goneFor = 3 * time.Second
	// lockOutInterval is the pause between two looks, lockOutRetry the one after a failure.
	lockOutInterval = 50 * time.Millisecond
	lockOutRetry    = 500 * time.Millisecond
	// maxLockOut bounds the members of one request.
	maxLockOut = 16
	// errAccountLocked is ER_ACCOUNT_HAS_BEEN_LOCKED: the password was not even looked at.
	errAccountLocked uint16 = 3118
)

// lockOuts are the incarnations that may not acknowledge to one start of mysqld any more. Guarded by agent.mu.
type lockOuts struct {
	start string
	// done are shown in Status; begun are being worked on, too. logged have their lock in the binary log.
	begun, done, logged []string
}

// lockOutsLocked returns those of the running mysqld; agent.mu is held.
func (in *instance) lockOutsLocked() *lockOuts {
	if start := in.serverStartLocked(); in.locked.start != start {
		in.locked = lockOuts{start: start}
	}
	return &in.locked
}

// lockOut begins to take the right to acknowledge away from incarnations. Status.LockedOut shows who is out.
func (in *instance) lockOut(_ context.Context, req *api.LockOutRequest) (api.Reply, error) {
	if err := in.admitHandOver(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.mustBePrimary(&req.Record); err != nil {
		return api.Reply{}, err
	}
	d, start := in.snapshot(), in.serverStart()
	switch {
	case start == "": // open or not: the lock is not logged, so it waits for nobody
		return api.Reply{}, refuse(api.ErrorPrecondition, "mysqld is not running")
	case len(req.Members) == 0 || len(req.Members) > maxLockOut:
		return api.Reply{}, refuse(api.ErrorInvalid, "%d members, it must be 1 to %d", len(req.Members), maxLockOut)
	case slices.Contains(req.Members, d.Incarnation) || slices.Contains(req.Members, ""):
		return api.Reply{}, refuse(api.ErrorInvalid, "the primary itself, or nobody, cannot be locked out")
	}
	for _, member := range req.Members {
		if admission.MayAcknowledge(&req.Record, member) {
			return api.Reply{}, refuse(api.ErrorPrecondition, "the record of epoch %d needs the acknowledgements of %s", req.Record.Epoch, member)
		}
	}
	var news []string
	in.change(func() {
		l := in.lockOutsLocked()
		for _, member := range req.Members {
			if !slices.Contains(l.begun, member) {
				l.begun, news = append(l.begun, member), append(news, member)
			}
		}
	})
	if len(news) == 0 {
		return in.unchanged(), nil
	}
	in.work.Go(func() { in.keepOut(start, news) })
	return in.accepted()
}

// keepOut works until every member is out, or until that mysqld has ended.
func (in *instance) keepOut(start string, members []string) {
	logger := klog.FromContext(in.ctx)
	for in.ctx.Err() == nil && in.serverStart() == start {
		members = slices.DeleteFunc(members, func(member string) bool { return !in.isLockedOut(member) })
		if len(members) == 0 {
			return // let in again meanwhile
		}
		err := in.lockAndEnd(start, members)
		if err == nil {
			in.finishLockOut(start, members)
			return
		}
		logger.Info("Locking out failed, trying again", "members", members, "err", err)
		in.rest(lockOutRetry)
	}
}

// finishLockOut publishes who is out, unless somebody was let in again meanwhile.
func (in *instance) finishLockOut(start string, members []string) {
	in.change(func() {
		l := in.lockOutsLocked()
		for _, member := range members {
			if l.start == start && slices.Contains(l.begun, member) {
				l.done = append(slices.Clone(l.done), member)
			}
		}
	})
	klog.FromContext(in.ctx).Info("Locked out", "members", members)
}

// lockAndEnd locks the accounts and ends their connections until none was seen for goneFor. The lock is not logged: it
// waits for nobody, least of all for those it locks out.
func (in *instance) lockAndEnd(start string, members []string) error {
	connectCtx, cancel := context.WithTimeout(in.ctx, in.cfg.StatementTimeout)
	defer cancel()
	session, err := in.connect(connectCtx)
	if err != nil {
		return err
	}
	defer in.release(session)
	users := make([]any, len(members))
	for i, member := range members {
		users[i] = api.ReplicationUser(member)
	}
	if err := in.briefly(func(ctx context.Context) error { return in.lock(ctx, session, users) }); err != nil {
		return err
	}
	query := "SELECT id FROM performance_schema.processlist WHERE user IN (?" + strings.Repeat(",?", len(users)-1) + ")"
	for last := time.Now(); time.Since(last) < goneFor; in.rest(lockOutInterval) {
		if in.ctx.Err() != nil || in.serverStart() != start || !slices.ContainsFunc(members, in.isLockedOut) {
			return errors.New("mysqld has ended, or they were let in again")
		}
		err := in.briefly(func(ctx context.Context) error {
			ids, err := session.Column(ctx, query, users...)
			if err != nil {
				return err
			}
			if len(ids) > 0 {
				last = time.Now()
			}
			return killAll(ctx, session, ids)
		})
		if err != nil {
			return fmt.Errorf("ending replication connections: %w", err)
		}
	}
	return nil
}

// briefly gives a few statements the time of one.
func (in *instance) briefly(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(in.ctx, in.cfg.StatementTimeout)
	defer cancel()
	return do(ctx)
}

// lock locks the accounts. A primary that is not open yet is super_read_only, which lets nobody write, not even what is not
// logged: for the moment it takes, only clients are kept out, by read_only and offline_mode.
func (in *instance) lock(ctx context.Context, session *mysql.Session, users []any) (err error) {
	if refused := in.take(ctx); refused != nil {
		return refused
	}
	defer func() { <-in.slot }()
	if !in.areLockedOut(users) {
		return errors.New("they were let in again")
	}
	report, err := session.Read(ctx, nil)
	if err != nil {
		return err
	}
	// An attempt before this one may have been cut short and have left it off.
	if d := in.snapshot(); !report.On("super_read_only") && d.OpenPrimary && d.OpenStart == in.serverStart() {
		return lockUnlogged(ctx, session, users)
	}
	if !report.On("offline_mode") {
		return errors.New("the instance is open for reads")
	}
	if err := session.SetGlobal(ctx, "super_read_only=OFF"); err != nil {
		return err
	}
	defer func() {
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), in.cfg.StatementTimeout)
		defer cancel()
		err = errors.Join(err, session.SetGlobal(again, "super_read_only=ON"))
	}()
	return lockUnlogged(ctx, session, users)
}

func lockUnlogged(ctx context.Context, session *mysql.Session, users []any) error {
	if err := session.Exec(ctx, "SET SESSION sql_log_bin=0"); err != nil {
		return fmt.Errorf("locking replication accounts: %w", err)
	}
	for _, user := range users {
		if err := session.Exec(ctx, "ALTER USER IF EXISTS ?@'%' ACCOUNT LOCK", user); err != nil {
			return fmt.Errorf("locking a replication account: %w", err)
		}
	}
	return nil
}

// lockedOutLocked is what Status shows; agent.mu is held.
func (in *instance) lockedOutLocked() []string { return slices.Clone(in.lockOutsLocked().done) }

// isLockedOut says whether an incarnation is locked out or about to be.
func (in *instance) isLockedOut(incarnation string) bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return slices.Contains(in.lockOutsLocked().begun, incarnation)
}

// areLockedOut says whether everybody with these accounts is locked out or about to be.
func (in *instance) areLockedOut(users []any) bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	begun := in.lockOutsLocked().begun
	return !slices.ContainsFunc(users, func(user any) bool {
		return !slices.ContainsFunc(begun, func(member string) bool { return api.ReplicationUser(member) == user })
	})
}

// letIn forgets a lock-out: the account was unlocked.
func (in *instance) letIn(incarnation string) {
	is := func(member string) bool { return member == incarnation }
	in.change(func() {
		l := in.lockOutsLocked()
		for _, list := range []*[]string{&l.begun, &l.done, &l.logged} {
			*list = slices.DeleteFunc(slices.Clone(*list), is)
		}
	})
}

// forgetLockOuts ends every lock-out of an instance that does not lead any more: another primary may let them in again,
// and its unlocking of the account is replicated without a word.
func (in *instance) forgetLockOuts() {
	in.change(func() { in.locked = lockOuts{} })
}

// logLocks writes the locks of those that left for good to the binary log, so that a later primary has them, too.
func (in *instance) logLocks(ctx context.Context) error {
	in.agent.mu.Lock()
	record, l := in.durable.Record, in.lockOutsLocked()
	start := l.start
	var members []string
	for _, member := range l.done {
		if record != nil && record.Phase == v1beta1.RecordOpened && !admission.Votes(record, member) && !slices.Contains(l.logged, member) {
			members = append(members, member)
		}
	}
	in.agent.mu.Unlock()
	if len(members) == 0 {
		return nil
	}
	session, err := in.connect(ctx)
	if err != nil {
		return err
	}
	defer in.release(session)
	for _, member := range members {
		if err := in.canAcknowledge(ctx, session); err != nil {
			return err
		}
		if err := session.Exec(ctx, "ALTER USER IF EXISTS ?@'%' ACCOUNT LOCK", api.ReplicationUser(member)); err != nil {
			return fmt.Errorf("logging the lock of a replication account: %w", err)
		}
		in.change(func() {
			if l := in.lockOutsLocked(); l.start == start && slices.Contains(l.done, member) {
				l.logged = append(l.logged, member)
			}
		})
	}
	return nil
}
