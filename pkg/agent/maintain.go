// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	maintainInterval = time.Second
	// maintainRetry is the pause after something failed; a change that waits for an acknowledgement is not repeated
	// every second.
	maintainRetry = 10 * time.Second
	// maintainTimeout bounds one round.
	maintainTimeout = 20 * time.Second
)

// maintain applies what was configured to the running mysqld, until the instance's context ends.
func (in *instance) maintain() {
	logger := klog.FromContext(in.ctx)
	timer := time.NewTimer(maintainInterval)
	defer timer.Stop()
	for {
		select {
		case <-in.ctx.Done():
			return
		case <-timer.C:
		}
		next := maintainInterval
		if err := in.maintainOnce(); err != nil && in.ctx.Err() == nil {
			logger.Info("Applying the configuration online failed, trying again", "err", err)
			next = maintainRetry
		}
		timer.Reset(next)
	}
}

func (in *instance) maintainOnce() error {
	in.agent.mu.Lock()
	start, config, done := in.serverStartLocked(), in.config, in.noted
	ready := start != "" && in.server != nil && config != nil
	primary := ready && in.durable.OpenStart == start && in.durable.OpenPrimary && !in.agent.terminating
	in.agent.mu.Unlock()
	if !ready {
		return nil
	}
	ctx, cancel := context.WithTimeout(in.ctx, maintainTimeout)
	defer cancel()
	if hash := tlsHash(config); done.tlsStart != start || done.tlsHash != hash {
		if err := in.reloadTLS(ctx); err != nil {
			return err
		}
		in.change(func() { in.noted.tlsStart, in.noted.tlsHash = start, hash })
	}
	if primary && (done.accountsStart != start || done.accountsHash != config.Hash) {
		if err := in.applyPasswords(ctx, config); err != nil {
			return err
		}
		in.change(func() { in.noted.accountsStart, in.noted.accountsHash = start, config.Hash })
	}
	if !primary {
		return nil
	}
	if err := in.logLocks(ctx); err != nil {
		return err
	}
	return in.tendEvents(ctx)
}

func tlsHash(s *settings) string {
	sum := sha256.Sum256([]byte(s.CA + "\n" + s.Certificate + "\n" + s.Key))
	return hex.EncodeToString(sum[:])
}

// reloadTLS makes mysqld read its certificates anew; connections that are open go on.
func (in *instance) reloadTLS(ctx context.Context) error {
	session, err := in.connect(ctx)
	if err != nil {
		return err
	}
	defer in.release(session)
	if err := session.Exec(ctx, "SET SESSION sql_log_bin=0"); err != nil {
		return fmt.Errorf("reloading the certificates: %w", err)
	}
	if err := session.Exec(ctx, "ALTER INSTANCE RELOAD TLS"); err != nil {
		return fmt.Errorf("reloading the certificates: %w", err)
	}
	klog.FromContext(ctx).V(2).Info("Reloaded the certificates")
	return nil
}

// applyPasswords brings the accounts' passwords to what was configured, on the open primary, from where it replicates.
// Whether one needs to change is told by logging in with it, so that nothing has to be remembered.
func (in *instance) applyPasswords(ctx context.Context, config *settings) error {
	session, err := in.connect(ctx)
	if err != nil {
		return err
	}
	defer in.release(session)
	// One account that a tenant has locked or bound to a certificate must not keep the others from their passwords.
	var failures []error
	for _, spec := range Accounts {
		if len(spec.Hosts) > 0 {
			failures = append(failures, in.applyPassword(ctx, session, spec, config.password(spec.Name)))
		}
	}
	for _, incarnation := range in.members() {
		if in.isLockedOut(incarnation) {
			continue // it has no account until it is let in again
		}
		spec := ReplicationSpec(api.ReplicationUser(incarnation))
		failures = append(failures, in.applyPassword(ctx, session, spec, config.password(AccountReplicator)))
	}
	if app := config.Application; app != nil {
		failures = append(failures, in.applyPassword(ctx, session, AccountSpec{Name: app.Username, Hosts: []string{"%"}}, app.Password))
	}
	return errors.Join(failures...)
}

// members are the incarnations that replicate or may soon: the voters of the record this agent was shown. It is one of
// them: when another leads, it follows.
func (in *instance) members() []string { return admission.Voters(in.snapshot().Record) }

func (in *instance) applyPassword(ctx context.Context, session *mysql.Session, spec AccountSpec, password string) error {
	for _, host := range spec.Hosts {
		accepted, err := in.loginEndpoint(spec.Name, host, password).Accepts(ctx)
		if err != nil {
			return err
		}
		if accepted {
			continue
		}
		if err := in.canAcknowledge(ctx, session); err != nil {
			return err
		}
		if err := setPassword(ctx, session, spec, password); err != nil {
			return err
		}
		klog.FromContext(ctx).Info("Changed the password of an account", "account", spec.Name)
		return nil
	}
	return nil
}

// canAcknowledge refuses a statement about accounts while fewer than k replicas are connected: it would wait for them while
// it keeps everybody from logging in, the replicas included whose acknowledgement it waits for.
func (in *instance) canAcknowledge(ctx context.Context, session *mysql.Session) error {
	report, err := session.Read(ctx, nil)
	if err != nil {
		return unavailable("reading the server's state", err)
	}
	if k := in.snapshot().AckCount; report.Int("Rpl_semi_sync_source_clients") < int64(k) {
		return refuse(api.ErrorPrecondition, "fewer than %d replicas can acknowledge a change", k)
	}
	return nil
}

// loginEndpoint is how an account with that host part logs in from inside the Pod.
func (in *instance) loginEndpoint(user, host, password string) mysql.Endpoint {
	e := mysql.Endpoint{Network: "tcp", User: user, Passwords: []string{password}, Encrypt: mysql.Loopback()}
	switch host {
	case "localhost":
		e.Network, e.Address, e.Encrypt = "unix", in.cfg.ServerSocket(), nil
	case "127.0.0.1":
		e.Address = fmt.Sprintf("127.0.0.1:%d", in.cfg.AdminPort)
	default:
		e.Address = fmt.Sprintf("127.0.0.1:%d", in.cfg.Port)
	}
	return e
}

// ensureMember makes the replication account of one incarnation. Only the open primary can: the account is a transaction
// like any other, as long as somebody can acknowledge it.
func (in *instance) ensureMember(ctx context.Context, req *api.EnsureAccountRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, nil); err != nil {
		return api.Reply{}, err
	}
	if req.Member == "" || req.Password == "" {
		return api.Reply{}, refuse(api.ErrorInvalid, "member and password are required")
	}
	d := in.snapshot()
	if start := in.serverStart(); start == "" || d.OpenStart != start || !d.OpenPrimary {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the instance is not an open primary")
	}
	spec := ReplicationSpec(api.ReplicationUser(req.Member))
	accepted, err := in.loginEndpoint(spec.Name, spec.Hosts[0], req.Password).Accepts(ctx)
	if err != nil && mysql.Number(err) != errAccountLocked {
		return api.Reply{}, unavailable("trying the account", err)
	}
	if accepted && !in.isLockedOut(req.Member) {
		return in.unchanged(), nil
	}
	session, err := in.connect(ctx)
	if err != nil {
		return api.Reply{}, err
	}
	defer in.release(session)
	if in.canAcknowledge(ctx, session) != nil {
		// Nobody could acknowledge it, and whoever could one day needs it to connect: so it is made here alone. Every statement
		// of it may be repeated, logged, when another leads.
		if err := session.Exec(ctx, "SET SESSION sql_log_bin=0"); err != nil {
			return api.Reply{}, unavailable("making the account", err)
		}
	}
	if err := ensureAccount(ctx, session, spec, req.Password); err != nil {
		return api.Reply{}, unavailable("making the account", err)
	}
	if err := session.Exec(ctx, "ALTER USER ?@? ACCOUNT UNLOCK", spec.Name, spec.Hosts[0]); err != nil {
		return api.Reply{}, unavailable("unlocking the account", err)
	}
	in.letIn(req.Member)
	return in.accepted()
}
