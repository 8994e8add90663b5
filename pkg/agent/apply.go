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

// apply makes the candidate apply what it has received.
func (in *instance) apply(ctx context.Context, req *api.ApplyRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.mustBePrimary(&req.Record); err != nil {
		return api.Reply{}, err
	}
	if req.Record.Phase != v1beta1.RecordChosen {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the record is %s", req.Record.Phase)
	}
	session, err := in.borrow(ctx)
	if err != nil {
		return api.Reply{}, err
	}
	defer in.giveBack(ctx, session)
	report, err := session.Read(ctx, nil)
	if err != nil {
		return api.Reply{}, unavailable("reading the server's state", err)
	}
	switch channel := report.Channel; {
	case channel == nil:
		return in.accepted()
	case channel.Receiver != "No":
		return api.Reply{}, refuse(api.ErrorPrecondition, "the receiver is not stopped: %s", channel.Receiver)
	}
	// Readers go, and so do their locks, behind which the applier could wait for as long as they like.
	if err := closeGates(ctx, session, report); err != nil {
		return api.Reply{}, unavailable("closing to clients", err)
	}
	if err := killClients(ctx, session); err != nil {
		return api.Reply{}, unavailable("ending the clients' sessions", err)
	}
	if err := session.StartApplier(ctx); err != nil {
		return api.Reply{}, unavailable("applying", err)
	}
	return in.accepted()
}

// closeGates switches on what keeps clients out and writes away, where it is off.
func closeGates(ctx context.Context, session *mysql.Session, report *mysql.Report) error {
	for _, name := range []string{"offline_mode", "super_read_only"} {
		if report.On(name) {
			continue
		}
		if err := session.SetGlobal(ctx, name+"=ON"); err != nil {
			return err
		}
	}
	return nil
}

// whereClient selects the sessions of clients: neither the server's own, nor the agent's, nor those of replication. One
// that has not logged in yet is turned away when it does.
const whereClient = "user NOT IN ('system user', 'event_scheduler', 'unauthenticated user', ?) AND command NOT LIKE 'Binlog Dump%'"

// killClients ends every client's session. offline_mode does that, too, but not for sessions that are busy in certain
// statements, and not for accounts that may stay.
func killClients(ctx context.Context, session *mysql.Session) error {
	ids, err := session.Column(ctx, "SELECT id FROM performance_schema.processlist WHERE "+whereClient, AccountAdmin)
	if err != nil {
		return err
	}
	return killAll(ctx, session, ids)
}

// killAll kills sessions; one that is gone already is none the worse.
func killAll(ctx context.Context, session *mysql.Session, ids []string) error {
	for _, id := range ids {
		if err := session.Exec(ctx, "KILL "+id); err != nil && mysql.Number(err) != mysql.ErrUnknownThread {
			return fmt.Errorf("killing a session: %w", err)
		}
	}
	return nil
}
