// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/test/mysqld"
)

// pair is a primary and a replica whose acknowledgement every write needs.
type pair struct {
	*mysqld.Cluster
	primary, replica *mysqld.Instance
}

func newPair(t *testing.T) pair {
	t.Helper()
	p := pair{Cluster: mysqld.NewCluster(t, &lab), primary: mysqld.NewInstance(t, &lab, "a"), replica: mysqld.NewInstance(t, &lab, "b")}
	p.BootstrapPair(p.primary, p.replica)
	return p
}

// root opens a session of the tenant on an instance.
func (p pair) root(i *mysqld.Instance) *mysql.Session {
	return i.Session(i.Endpoint(agent.AccountRoot, p.Passwords[agent.AccountRoot]))
}

func execAll(t *testing.T, session *mysql.Session, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	for _, statement := range statements {
		if err := session.Exec(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// awaitSQL waits until a query answers what is wanted.
func awaitSQL(t *testing.T, session *mysql.Session, want, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for got := ""; ; {
		column, err := session.Column(ctx, query, args...)
		if err == nil {
			if got = strings.Join(column, ","); got == want {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: last answer %q, want %q (%v)", query, got, want, err)
		case <-tick.C:
		}
	}
}

// loseReplica stops the replica's receiver, so that the next commit on the primary waits.
func (p pair) loseReplica(t *testing.T) {
	t.Helper()
	admin := p.replica.Session(adminEndpoint(p.replica, p.Passwords[agent.AccountAdmin]))
	execAll(t, admin, "STOP REPLICA IO_THREAD")
}

func adminEndpoint(i *mysqld.Instance, password string) mysql.Endpoint {
	return mysql.Endpoint{Network: "unix", Address: i.Conf.ServerSocket(), User: agent.AccountAdmin, Passwords: []string{password}}
}

// commit begins an insert on the session and returns where its outcome comes.
func commit(session *mysql.Session, statement string) <-chan error {
	outcome := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
		defer cancel()
		outcome <- session.Exec(ctx, statement)
	}()
	return outcome
}

// waits says how many sessions wait for an acknowledgement.
const waits = "SELECT COUNT(*) FROM performance_schema.processlist WHERE state LIKE 'Waiting for semi-sync ACK%'"

func TestAPair(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	root := p.root(p.primary)
	execAll(t, root, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	reader := p.root(p.replica)
	awaitSQL(t, reader, "1", "SELECT i FROM d.t")

	t.Run("events run on the primary alone", func(t *testing.T) {
		awaitSQL(t, root, "ON", "SELECT @@GLOBAL.event_scheduler")
		awaitSQL(t, reader, "OFF", "SELECT @@GLOBAL.event_scheduler")
	})
	t.Run("the password of replication is in no table", func(t *testing.T) {
		awaitSQL(t, reader, "1", "SELECT COUNT(*) FROM mysql.slave_master_info WHERE user_name LIKE 'moco-repl-%' AND user_password=''")
	})
	t.Run("the replica refuses writes", func(t *testing.T) {
		if err := reader.Exec(context.Background(), "INSERT INTO d.t VALUES (99)"); mysql.Number(err) != 1290 {
			t.Errorf("a write on the replica: %v, want error 1290", err)
		}
	})
	t.Run("a marker waits without an acker and is committed with one", func(t *testing.T) { markerWaits(t, p) })
	t.Run("a commit that waits is seen by nobody and killed by SIGTERM without an OK", func(t *testing.T) { termKeepsQuiet(t, p) })
}

func markerWaits(t *testing.T, p pair) {
	p.loseReplica(t)
	p.Next(1, p.primary, p.replica)
	p.Lead(p.primary, 1)
	gtid := p.Mark(p.primary, 1)
	admin := p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))
	awaitSQL(t, admin, "1", waits)
	if status := p.primary.Status(); status.Marker.State != api.MarkerWaiting || strings.Contains(status.Server.GTIDExecuted, "moco_e3") {
		t.Fatalf("a marker without an acker: %s", mysqld.Describe(status))
	}
	p.Follow(p.replica, p.primary, api.AckOn)
	p.AwaitMarker(p.primary, gtid)
	p.replica.Await("the replica has the marker", func(s *api.Status) bool {
		return s.Server != nil && strings.Contains(s.Server.Received, ":moco_e3:1")
	})
	p.Opened(1, 1, p.primary, p.replica)
	p.Open(p.primary)
	if reason := p.Refused(p.primary, api.CommandMarker, &api.MarkerRequest{Record: p.Record, Attempt: 1}); reason != "" {
		t.Errorf("the same marker again: refused as %q, want it to be OK as already in effect", reason)
	}
}

func termKeepsQuiet(t *testing.T, p pair) {
	p.loseReplica(t)
	admin := p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))
	outcome := commit(p.root(p.primary), "INSERT INTO d.t VALUES (2)")
	awaitSQL(t, admin, "1", waits)
	awaitSQL(t, admin, "1", "SELECT COUNT(*) FROM d.t")
	p.primary.Signal(syscall.SIGTERM)
	if err := <-outcome; err == nil {
		t.Error("the client got an OK for a write that no replica has")
	}
	p.primary.AwaitSupervisor(30 * time.Second)
}
