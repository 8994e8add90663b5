// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// initialise begins to make the first data directory of a cluster.
func (in *instance) initialise(_ context.Context, req *api.InitialiseRequest) (api.Reply, error) {
	if in.taskRuns(api.TaskInitialise) && req.StateCounter == in.snapshot().Counter {
		return in.unchanged(), nil
	}
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.admitFirst(&req.Record, req.User); err != nil {
		return api.Reply{}, err
	}
	err := in.begin(api.Task{Kind: api.TaskInitialise}, func(ctx context.Context) error { return in.fillNew(ctx, req) })
	if err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// admitFirst refuses to make the first data of a cluster anywhere but on the primary of one that was never opened.
func (in *instance) admitFirst(record *v1beta1.ReplicationRecord, user string) error {
	switch {
	case record.Primary == nil || record.Primary.Incarnation != in.snapshot().Incarnation:
		return refuse(api.ErrorPrecondition, "the record does not name this incarnation as primary")
	case record.LastOpened != nil:
		return refuse(api.ErrorPrecondition, "the cluster was opened before, at epoch %d", record.LastOpened.Epoch)
	case user != "" && in.application() == nil:
		return refuse(api.ErrorPrecondition, "the application's password is not configured")
	}
	return nil
}

func (in *instance) taskRuns(kind api.TaskKind) bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.task != nil && in.task.Kind == kind && in.task.State == api.TaskRunning
}

func (in *instance) application() *api.Account {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	if in.config == nil {
		return nil
	}
	return in.config.Application
}

// fillNew makes a complete data directory: accounts, time zones, the application's schema. None of it is a transaction
// of the cluster's history, which begins with the marker of the first epoch: the binary log is emptied at the end.
func (in *instance) fillNew(ctx context.Context, req *api.InitialiseRequest) error {
	in.stage("initialising the data directory")
	if err := in.removeScratch(); err != nil {
		return err
	}
	if err := in.makeDataDirectory(ctx, in.cfg.partialDir()); err != nil {
		return err
	}
	session, id, err := in.startPrivate(ctx, in.cfg.partialDir())
	if err != nil {
		return err
	}
	err = in.furnish(ctx, session, req)
	session.Close() // mysqld would wait for it
	if err != nil {
		return err
	}
	in.stage("stopping cleanly")
	return in.stopPrivate(ctx, id, privateStopTimeout)
}

// furnish fills a fresh mysqld. The root account that initialisation made goes last: it is the one that works here.
func (in *instance) furnish(ctx context.Context, session *mysql.Session, req *api.InitialiseRequest) error {
	if err := session.Exec(ctx, "SET SESSION sql_log_bin=0"); err != nil {
		return fmt.Errorf("switching the binary log off: %w", err)
	}
	in.stage("making accounts")
	if err := in.makeAccounts(ctx, session); err != nil {
		return err
	}
	in.stage("loading time zones")
	if err := in.loadTimeZones(ctx, session); err != nil {
		return err
	}
	in.stage("making the application's schema")
	if err := in.makeApplication(ctx, session, req); err != nil {
		return err
	}
	if err := session.Exec(ctx, "DROP USER IF EXISTS 'root'@'localhost'"); err != nil {
		return fmt.Errorf("dropping the initial account: %w", err)
	}
	if err := in.runInitSQL(ctx, req); err != nil {
		return err
	}
	if err := session.Exec(ctx, "RESET BINARY LOGS AND GTIDS"); err != nil {
		return fmt.Errorf("beginning an empty history: %w", err)
	}
	return nil
}

func (in *instance) makeAccounts(ctx context.Context, session *mysql.Session) error {
	in.agent.mu.Lock()
	config := in.config
	in.agent.mu.Unlock()
	for _, spec := range Accounts {
		if err := ensureAccount(ctx, session, spec, config.password(spec.Name)); err != nil {
			return err
		}
	}
	// Its own, too: once another leads it must be able to follow at once, and what it then has to acknowledge first is the
	// very marker without which no account can be made.
	own := ReplicationSpec(api.ReplicationUser(in.snapshot().Incarnation))
	return ensureAccount(ctx, session, own, config.password(AccountReplicator))
}

// loadTimeZones fills the time zone tables, which a fresh data directory has empty.
func (in *instance) loadTimeZones(ctx context.Context, session *mysql.Session) error {
	if in.cfg.TimeZones == nil {
		return nil
	}
	for statement, err := range in.cfg.TimeZones() {
		if err == nil {
			err = session.Exec(ctx, statement)
		}
		if err != nil {
			return fmt.Errorf("loading time zones: %w", err)
		}
	}
	return nil
}

// makeApplication makes database and user of the bootstrap.
func (in *instance) makeApplication(ctx context.Context, session *mysql.Session, req *api.InitialiseRequest) error {
	if req.Database != "" {
		if err := session.Exec(ctx, "CREATE DATABASE IF NOT EXISTS "+mysql.Identifier(req.Database)); err != nil {
			return fmt.Errorf("making the database: %w", err)
		}
	}
	if req.User == "" {
		return nil
	}
	if _, internal := accountSpec(req.User); internal {
		return fmt.Errorf("making the user: the name %q is taken", req.User)
	}
	spec := AccountSpec{Name: req.User, Hosts: []string{"%"}}
	if req.Database != "" {
		spec.Grants = []Grant{{On: mysql.Identifier(req.Database) + ".*", Privileges: []string{ApplicationPrivileges}}}
	}
	return ensureAccount(ctx, session, spec, in.application().Password)
}

// initSQLFailure tells why the user's script failed. What the server says of text it cannot parse is left out: it quotes
// the text, which may hold a password, and this goes into a status.
func initSQLFailure(err error) error {
	if mysql.Number(err) == mysql.ErrParse {
		return fmt.Errorf("running initSQL: mysqld cannot parse a statement (error %d); try the script in the mysql client", mysql.ErrParse)
	}
	return fmt.Errorf("running initSQL: %w", err)
}

// runInitSQL runs the user's script with exactly the rights root has later.
func (in *instance) runInitSQL(ctx context.Context, req *api.InitialiseRequest) error {
	if req.InitSQL == "" {
		return nil
	}
	in.stage("running initSQL")
	in.agent.mu.Lock()
	password := in.config.password(AccountRoot)
	in.agent.mu.Unlock()
	session, err := in.privateEndpoint(AccountRoot, password).Connect(ctx)
	if err != nil {
		return fmt.Errorf("logging in as root: %w", err)
	}
	defer session.Close()
	if req.Database != "" {
		if err := session.Exec(ctx, "USE "+mysql.Identifier(req.Database)); err != nil {
			return fmt.Errorf("choosing the database: %w", err)
		}
	}
	if err := session.Script(ctx, req.InitSQL); err != nil {
		return initSQLFailure(err)
	}
	return nil
}
