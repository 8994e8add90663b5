// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"strings"
	"testing"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/mysqld"
)

// TestNothingBelowThePromiseIsCarriedOut sends each kind of stale command, before and after a restart of the agent.
func TestNothingBelowThePromiseIsCarriedOut(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "a")
	i.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(i)
	older := c.Record
	c.Next(0, i)
	c.Do(i, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
	uptime := mysqldStart(t, i)

	stale := map[string]struct {
		alter func(*api.Envelope, *v1beta1.ReplicationRecord)
		want  api.ErrorReason
	}{
		"an epoch below the promise": {
			alter: func(e *api.Envelope, r *v1beta1.ReplicationRecord) {
				*r = older
				e.Epoch, e.Claim = older.Epoch, older.Claim
			},
			want: api.ErrorStaleEpoch,
		},
		"another claim of the promised epoch": {
			alter: func(e *api.Envelope, r *v1beta1.ReplicationRecord) { e.Claim, r.Claim = "another", "another" }, want: api.ErrorStaleEpoch,
		},
		"a state counter that moved on": {
			alter: func(e *api.Envelope, _ *v1beta1.ReplicationRecord) { e.StateCounter-- }, want: api.ErrorStaleState,
		},
		"no state counter": {
			alter: func(e *api.Envelope, _ *v1beta1.ReplicationRecord) { e.StateCounter = 0 }, want: api.ErrorStaleState,
		},
		"another incarnation": {
			alter: func(e *api.Envelope, _ *v1beta1.ReplicationRecord) { e.Incarnation = "another" }, want: api.ErrorWrongIncarnation,
		},
		"no incarnation": {
			alter: func(e *api.Envelope, _ *v1beta1.ReplicationRecord) { e.Incarnation = "" }, want: api.ErrorWrongIncarnation,
		},
		"a record of another epoch": {
			alter: func(_ *api.Envelope, r *v1beta1.ReplicationRecord) { r.Epoch++ }, want: api.ErrorInvalid,
		},
		"a record of a newer format": {
			alter: func(_ *api.Envelope, r *v1beta1.ReplicationRecord) { r.Version++ }, want: api.ErrorInvalid,
		},
		"a record that chose somebody else": {
			alter: func(_ *api.Envelope, r *v1beta1.ReplicationRecord) {
				r.Primary = &v1beta1.Member{Incarnation: "another"}
			},
			want: api.ErrorPrecondition,
		},
	}
	check := func(t *testing.T) {
		for name, test := range stale {
			t.Run(name, func(t *testing.T) {
				status := i.Status()
				record := *c.Record.DeepCopy()
				envelope := api.Envelope{
					Epoch: record.Epoch, Claim: record.Claim, Incarnation: status.Incarnation, StateCounter: status.StateCounter, DeadlineMillis: 5000,
				}
				test.alter(&envelope, &record)
				_, err := i.Client.Command(context.Background(), api.CommandLead, &api.LeadRequest{Envelope: envelope, Record: record})
				if got := mysqld.Reason(err); got != test.want {
					t.Errorf("got %v, want %s", err, test.want)
				}
				if after := i.Status(); after.StateCounter != status.StateCounter || after.PromisedEpoch != c.Record.Epoch {
					t.Errorf("the refused command changed the state: %s", mysqld.Describe(after))
				}
			})
		}
	}
	t.Run("before a restart of the agent", check)
	i.StopAgent()
	i.StartAgent()
	i.Await("mysqld answers again", func(s *api.Status) bool { return s.Server != nil })
	t.Run("after a restart of the agent", check)
	if now := mysqldStart(t, i); now != uptime {
		t.Errorf("mysqld was restarted: started at %s, before %s", now, uptime)
	}
	t.Run("and the present command is carried out", func(*testing.T) { c.Lead(i, 0) })
}

// mysqldStart tells one mysqld process from the next.
func mysqldStart(t *testing.T, i *mysqld.Instance) string {
	t.Helper()
	return i.Await("mysqld runs", func(s *api.Status) bool { return s.Mysqld == api.MysqldRunning }).MysqldSince.String()
}

// TestAPromiseLeavesNoStatementOfAnEarlierCommandBehind has one that cannot be ended: mysqld is restarted for it.
func TestAPromiseLeavesNoStatementOfAnEarlierCommandBehind(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "a")
	i.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(i)
	password := c.Passwords["moco-admin"]
	start := mysqldStart(t, i)

	idle := i.Session(adminEndpoint(i, password))
	execAll(t, idle, "SELECT 1")
	c.Next(0, i)
	c.Do(i, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
	if err := idle.Exec(context.Background(), "SELECT 1"); err == nil {
		t.Error("the session of an earlier command still works after the promise")
	}
	if now := mysqldStart(t, i); now != start {
		t.Error("mysqld was restarted for a session that can be killed")
	}

	// A session that waits for an acknowledgement does not end by KILL. This one even keeps everybody from logging in.
	c.Lead(i, 1)
	watcher := i.Session(i.Endpoint("root", c.Passwords["root"]))
	commit(i.Session(adminEndpoint(i, password)), "CREATE USER waits@localhost")
	awaitSQL(t, watcher, "1", waits)
	c.Next(1, i)
	c.Do(i, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
	status := i.Await("mysqld answers again", func(s *api.Status) bool { return s.Server != nil && s.MysqldSince.String() != start })
	if !status.Server.SuperReadOnly || !status.Server.OfflineMode {
		t.Errorf("the restarted mysqld is not closed: %s", mysqld.Describe(status))
	}
}

// TestASemiSyncThatEndsByItselfIsFailStop switches it off behind the agent's back, as an error of the plugin does.
func TestASemiSyncThatEndsByItselfIsFailStop(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	execAll(t, p.primary.Session(adminEndpoint(p.primary, p.Passwords["moco-admin"])), "SET GLOBAL rpl_semi_sync_source_enabled=OFF")
	status := p.primary.Await("mysqld is down", func(s *api.Status) bool { return s.Mysqld == api.MysqldDown })
	if !status.RequiresOwnLog || !strings.Contains(status.ExitMessage, "signal 9") {
		t.Errorf("status %s", mysqld.Describe(status))
	}
	t.Run("a forced setting that is changed is, too", func(t *testing.T) {
		p.StartServer(p.primary)
		p.Lead(p.primary, 1)
		p.Open(p.primary)
		execAll(t, p.primary.Session(adminEndpoint(p.primary, p.Passwords["moco-admin"])), "SET GLOBAL sync_binlog=0")
		p.primary.Await("mysqld is down", func(s *api.Status) bool { return s.Mysqld == api.MysqldDown })
	})
}
