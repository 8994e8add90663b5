// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/backup/restore"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// restoreStart bounds the start of mysqld on a backup, which may include an upgrade of the data, and restoreStop its clean
	// end, at which it writes back what it has in memory.
	restoreStart = 30 * time.Minute
	restoreStop  = 30 * time.Minute
	// refusedFor is how long the same restore is not tried again after it was refused. What the store holds may change.
	refusedFor = 30 * time.Second
	// maxRestorePause bounds the pause after a failure; each costs as much as was fetched until then.
	maxRestorePause = 5 * time.Minute
	// restoreReport is the least time between two reports of the same stage.
	restoreReport = 250 * time.Millisecond
)

// failedRestore is how a restore ended that did not succeed.
type failedRestore struct {
	// hash of all that it depends on but the store, and until when it is not tried again.
	hash    string
	until   time.Time
	message string
	// failures in a row that may pass; 0 when it was refused.
	failures int
}

// restore begins to make the first data directory of a cluster from a backup.
func (in *instance) restore(_ context.Context, req *api.RestoreRequest) (api.Reply, error) {
	if in.taskRuns(api.TaskRestore) && req.StateCounter == in.snapshot().Counter {
		return in.unchanged(), nil
	}
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.admitFirst(&req.Record, req.User); err != nil {
		return api.Reply{}, err
	}
	if err := in.admitRestore(req); err != nil {
		return api.Reply{}, err
	}
	err := in.begin(api.Task{Kind: api.TaskRestore}, func(ctx context.Context) error { return in.fillFromBackup(ctx, req) })
	if err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// admitRestore refuses what needs no look into the store.
func (in *instance) admitRestore(req *api.RestoreRequest) error {
	in.agent.mu.Lock()
	version, before := in.imageVersion, in.failed
	in.agent.mu.Unlock()
	switch {
	case version == "":
		return refuse(api.ErrorUnavailable, "the version of MySQL in the image is not known yet")
	case before.hash != in.restoreHash(req) || time.Now().After(before.until):
		return nil
	case before.failures > 0:
		return refuse(api.ErrorUnavailable, "the restore failed and is not tried again before %s: %s", before.until.UTC().Format(time.RFC3339), before.message)
	}
	return refuse(api.ErrorPrecondition, "the same restore was refused just now: %s", before.message)
}

// noteFailed remembers a restore that failed, so that it is not tried again at once. The pause grows with every failure.
func (in *instance) noteFailed(hash string, err error) {
	in.agent.mu.Lock()
	before := in.failed
	in.agent.mu.Unlock()
	next := failedRestore{hash: hash, message: err.Error(), failures: 1}
	if before.hash == hash {
		next.failures = before.failures + 1
	}
	pause := min(in.cfg.TaskRetry<<min(next.failures-1, 10), maxRestorePause)
	var refused *restore.Refusal
	if errors.As(err, &refused) {
		next.failures, next.message, pause = 0, refused.Message, refusedFor
		in.progress(func(t *api.Task) { t.Refused = true })
	}
	next.until = time.Now().Add(pause)
	in.change(func() { in.failed = next })
}

// restoreHash tells one restore from another, credentials included: a refused one is tried again when they are changed.
func (in *instance) restoreHash(req *api.RestoreRequest) string {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	text, err := json.Marshal([]any{req.Source, in.imageVersion, in.config})
	if err != nil {
		return "" // never: all of it came as JSON
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// fillFromBackup makes a complete data directory from a backup: nothing of this server's doings is a transaction of the
// restored history, and the binary log begins empty.
func (in *instance) fillFromBackup(ctx context.Context, req *api.RestoreRequest) error {
	hash := in.restoreHash(req)
	if err := in.removeScratch(); err != nil {
		return err
	}
	if err := in.restoreData(ctx, req); err != nil {
		in.noteFailed(hash, err)
		return err
	}
	// Before the directory is complete: data that were restored are never shown as others. Until then it is not shown.
	return in.save(func(d *state.Durable) { d.RestoredFrom = req.Source.Fingerprint() })
}

func (in *instance) restoreData(ctx context.Context, req *api.RestoreRequest) (err error) {
	in.agent.mu.Lock()
	version, myCnf := in.imageVersion, in.config.MyCnf
	in.agent.mu.Unlock()
	work, err := restore.Open(ctx, restore.Config{
		Source: req.Source, Version: version, MyCnf: myCnf,
		Dir: in.cfg.partialDir(), Scratch: in.cfg.restoreScratch(), Report: in.restoreProgress(),
	})
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	if err := work.Fetch(ctx); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	server := &restoreServer{in: in}
	session, _, err := work.Replay(ctx, server)
	if err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	in.stage("making accounts")
	if err := in.adopt(ctx, session, req); err != nil {
		session.Close()
		return err
	}
	return work.Finish(ctx, server, session)
}

// restoreProgress shows how far a restore is, not more often than somebody could read it.
func (in *instance) restoreProgress() func(restore.Progress) {
	var shown restore.Progress
	var at time.Time
	return func(p restore.Progress) {
		if p.Stage == shown.Stage && time.Since(at) < restoreReport && p.BytesDone < p.BytesTotal {
			return
		}
		shown, at = p, time.Now()
		in.progress(func(t *api.Task) { t.Stage, t.BytesDone, t.BytesTotal = p.Stage, p.BytesDone, p.BytesTotal })
	}
}

// adopt makes the accounts of the former cluster this cluster's. Those of the operator are made anew, so that they may do
// what this version gives them and nothing else.
func (in *instance) adopt(ctx context.Context, session *mysql.Session, req *api.RestoreRequest) error {
	former, err := session.Column(ctx, "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user WHERE user LIKE ? OR FIND_IN_SET(user, ?)",
		api.ReplicationUser("%"), strings.Join(internalAccounts(), ","))
	if err != nil {
		return fmt.Errorf("listing the accounts of the former cluster: %w", err)
	}
	for _, account := range former {
		if err := session.Exec(ctx, "DROP USER "+account); err != nil {
			return fmt.Errorf("dropping the account %s of the former cluster: %w", account, err)
		}
	}
	if err := in.makeAccounts(ctx, session); err != nil {
		return err
	}
	if err := in.makeApplication(ctx, session, &api.InitialiseRequest{Database: req.Database, User: req.User}); err != nil {
		return err
	}
	// A new password leaves the second one of a dual password valid.
	for _, account := range slices.DeleteFunc([]string{AccountRoot, req.User}, func(name string) bool { return name == "" }) {
		for _, change := range []string{" DISCARD OLD PASSWORD", " ACCOUNT UNLOCK"} {
			if err := session.Exec(ctx, "ALTER USER ?@'%'"+change, account); err != nil {
				return fmt.Errorf("taking the account %s over: %w", account, err)
			}
		}
	}
	return nil
}

// internalAccounts are the names of the fixed accounts but that of the tenant's administrator, who keeps his roles.
func internalAccounts() []string {
	var names []string
	for _, spec := range Accounts {
		if spec.Name != AccountRoot {
			names = append(names, spec.Name)
		}
	}
	return names
}

// restoreServer runs the private mysqld of a restore through the supervisor.
type restoreServer struct {
	in *instance
	id string
}

// Start implements restore.Server.
func (s *restoreServer) Start(ctx context.Context, dir string, as restore.Login, arguments []string) (*mysql.Session, error) {
	if err := s.in.prepareStart(); err != nil {
		return nil, err
	}
	s.id = newID()
	if err := s.in.sup.Start(ctx, s.id, append(s.in.cfg.privateArguments(dir), arguments...)); err != nil {
		return nil, fmt.Errorf("starting a private mysqld: %w", err)
	}
	return s.in.awaitPrivate(ctx, s.id, s.in.privateEndpoint(as.User, as.Password), restoreStart)
}

// Stop implements restore.Server.
func (s *restoreServer) Stop(ctx context.Context) error {
	return s.in.stopPrivate(ctx, s.id, restoreStop)
}
