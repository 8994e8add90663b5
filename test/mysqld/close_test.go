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
	"github.com/moco-mysql/moco/test/mysqld"
)

// closePrimary closes the primary and returns the status with the result.
func (p pair) closePrimary(t *testing.T, duration time.Duration) *api.Status {
	t.Helper()
	p.Do(p.primary, api.CommandClose, &api.CloseRequest{Record: p.Record, DurationMillis: duration.Milliseconds()})
	return p.primary.Await("the closing has ended", func(s *api.Status) bool {
		return s.Closed != nil && (s.Closed.GTIDExecuted != "" || s.Closed.Error != "")
	})
}

// awaitOpen waits until the primary serves again.
func (p pair) awaitOpen() {
	p.primary.Await("it serves again", func(s *api.Status) bool {
		return s.Server != nil && !s.Server.OfflineMode && !s.Server.SuperReadOnly
	})
}

// TestASwitchover closes a primary in every way it can end.
func TestASwitchover(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	execAll(t, p.root(p.primary), "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)")

	t.Run("one that nobody uses opens again by itself", func(t *testing.T) {
		if status := p.closePrimary(t, time.Second); status.Closed.GTIDExecuted == "" {
			t.Fatalf("closed %s", mysqld.Describe(status.Closed))
		}
		p.primary.Await("the closing is over", func(s *api.Status) bool { return s.Closed == nil || s.Closed.Error != "" })
		p.awaitOpen()
		execAll(t, p.root(p.primary), "INSERT INTO d.t VALUES (1)")
		awaitSQL(t, p.root(p.primary), "ON", "SELECT @@GLOBAL.event_scheduler")
	})
	t.Run("one that waits for an acknowledgement serves again", func(t *testing.T) {
		p.loseReplica(t)
		outcome := commit(p.root(p.primary), "INSERT INTO d.t VALUES (2)")
		admin := p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))
		awaitSQL(t, admin, "1", waits)
		begun := time.Now()
		status := p.closePrimary(t, 2*time.Second)
		if elapsed := time.Since(begun); status.Closed.Error == "" || elapsed > 2*time.Second {
			t.Errorf("after %v: closed %s", elapsed, mysqld.Describe(status.Closed))
		}
		if err := <-outcome; err == nil {
			t.Error("the client got an OK for a write that no replica has")
		}
		p.awaitOpen()
		p.Follow(p.replica, p.primary, api.AckOn)
		execAll(t, p.root(p.primary), "INSERT INTO d.t VALUES (3)")
		awaitSQL(t, p.root(p.primary), "1,2,3", "SELECT i FROM d.t ORDER BY i")
		p.Open(p.primary) // forgets the closing
		if status := p.primary.Status(); status.Closed != nil {
			t.Errorf("still shown as closed: %s", mysqld.Describe(status.Closed))
		}
	})
	t.Run("one whose statement cannot be ended at once is not closed over it", func(t *testing.T) {
		execAll(t, p.root(p.primary), "CREATE TABLE d.big (i INT PRIMARY KEY AUTO_INCREMENT, v CHAR(200))", "INSERT INTO d.big (v) VALUES ('x')")
		outcome := commit(p.root(p.primary), "INSERT INTO d.t SELECT 100 + SLEEP(30)")
		watcher := p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))
		awaitSQL(t, watcher, "1", "SELECT COUNT(*) FROM performance_schema.processlist WHERE state='User sleep'")
		if status := p.closePrimary(t, 2*time.Second); status.Closed.GTIDExecuted == "" {
			t.Errorf("a statement that can be killed prevents it: %s", mysqld.Describe(status.Closed))
		}
		if err := <-outcome; err == nil {
			t.Error("the statement went through")
		}
		p.primary.Await("the closing is over", func(s *api.Status) bool { return s.Closed == nil || s.Closed.Error != "" })
		p.awaitOpen()
	})
	t.Run("one that the epoch is taken from while it is closed is spared and follows", func(t *testing.T) { switchOver(t, p) })
}

func switchOver(t *testing.T, p pair) {
	sleeping := p.idle(p.primary, 5)
	begun := time.Now()
	closed := p.closePrimary(t, 30*time.Second).Closed
	t.Logf("closed in %v", time.Since(begun))
	if closed.GTIDExecuted == "" {
		t.Fatalf("closed %s", mysqld.Describe(closed))
	}
	for _, session := range sleeping {
		if err := session.Exec(context.Background(), "SELECT 1"); err == nil {
			t.Error("a client of a closed primary is still served")
		}
	}
	start := mysqldStart(t, p.primary)
	claim(p.Cluster)
	begun = time.Now()
	status := promise(p.Cluster, p.primary)
	t.Logf("spared in %v", time.Since(begun))
	if f := wantFence(t, p.Cluster, status); !f.Spared || f.Killed || f.Received != closed.GTIDExecuted || status.NeedsReturn {
		t.Fatalf("status %s", mysqld.Describe(status))
	}
	// What mysqld said is read after the fence is known.
	p.primary.Await("it no longer waits for acknowledgements", func(s *api.Status) bool { return s.Server != nil && !s.Server.SourceSemiSync })
	if f := wantFence(t, p.Cluster, promise(p.Cluster, p.replica)); f.Received != closed.GTIDExecuted {
		t.Errorf("the candidate holds %s, the primary %s", f.Received, closed.GTIDExecuted)
	}
	p.lead(t, p.replica, p.primary)
	execAll(t, p.root(p.replica), "INSERT INTO d.t VALUES (9)")
	awaitSQL(t, p.root(p.primary), "9", "SELECT MAX(i) FROM d.t")
	if now := mysqldStart(t, p.primary); now != start {
		t.Error("the old primary's mysqld was restarted")
	}

	t.Run("the new primary is told to stop and serves until a stop is ordered", func(t *testing.T) {
		go func() { _ = p.replica.Client.Stream(t.Context(), func(*api.Status) error { return nil }) }()
		p.replica.Await("it is known to be read", func(s *api.Status) bool { return s.Server != nil })
		p.replica.Signal(syscall.SIGTERM)
		told := time.Now()
		p.replica.Await("longer than a primary waits that nobody reads", func(s *api.Status) bool {
			return s.Terminating && time.Since(told) > 4*time.Second
		})
		execAll(t, p.root(p.replica), "INSERT INTO d.t VALUES (10)")
		if reason := p.Refused(p.replica, api.CommandFollow, p.FollowRequest(p.replica, p.primary, api.AckOff)); reason != api.ErrorPrecondition {
			t.Errorf("following while it is told to stop: refused as %q, want Precondition", reason)
		}
		p.Do(p.replica, api.CommandStop, &api.StopRequest{})
		p.replica.AwaitSupervisor(20 * time.Second)
		p.replica.WantCleanEnd()
	})
	t.Run("after its clean end it may start under another primary", func(t *testing.T) {
		p.replica.StopAgent()
		p.replica.Start()
		claim(p.Cluster)
		if status := promise(p.Cluster, p.replica); status.NeedsReturn || status.Fence != nil {
			t.Errorf("status %s", mysqld.Describe(status))
		}
		p.StartServer(p.replica)
		if f := wantFence(t, p.Cluster, promise(p.Cluster, p.replica)); !strings.Contains(f.Received, "moco_e") {
			t.Errorf("fence %s", mysqld.Describe(f))
		}
	})
}
