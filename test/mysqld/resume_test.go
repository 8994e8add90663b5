// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/mysqld"
)

// patience of an agent that nobody listens to, in these tests, and a time after which it must have lost it.
const (
	resumeAfter = time.Second
	longAlone   = 6 * time.Second
)

// impatient restarts an instance's agent with that patience.
func impatient(i *mysqld.Instance) {
	i.StopAgent()
	i.Conf.ResumeAfter = resumeAfter
	i.StartAgent()
}

// newTable makes a table and the record known that names the primary's server.
func newTable(t *testing.T, p pair) {
	t.Helper()
	execAll(t, p.root(p.primary), "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)")
	p.Record.LastOpened.ServerUUID = p.primary.Status().Server.ServerUUID
	p.Do(p.primary, api.CommandPromise, &api.PromiseRequest{Record: p.Record})
	p.Do(p.replica, api.CommandPromise, &api.PromiseRequest{Record: p.Record})
}

func leaveAlone(period time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), period)
	defer cancel()
	<-ctx.Done()
}

// TestACrashedPrimaryWithoutACoordinatorOpensAgain kills mysqld while nobody reads the agent's status.
func TestACrashedPrimaryWithoutACoordinatorOpensAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	newTable(t, p)
	impatient(p.primary)
	p.primary.Await("mysqld answers", func(s *api.Status) bool { return s.Server != nil })
	p.primary.SignalServer(unix.SIGKILL)
	root := p.primary.Endpoint(agent.AccountRoot, p.Passwords[agent.AccountRoot])
	execAll(t, mysqld.AwaitSession(t, root), "INSERT INTO d.t VALUES (1)")
	awaitSQL(t, p.root(p.replica), "1", "SELECT i FROM d.t")
	status := p.primary.Await("mysqld answers", func(s *api.Status) bool { return s.Server != nil })
	if s := status.Server; status.PromisedEpoch != p.Record.Epoch || s == nil || s.AckCount != 1 || !s.SourceActive {
		t.Errorf("status %s", mysqld.Describe(status))
	}
	if m := status.Marker; m == nil || m.State != api.MarkerCommitted || m.GTID == p.Record.LastOpened.MarkerGTID {
		t.Errorf("marker %s", mysqld.Describe(status.Marker))
	}
}

// TestACrashedPrimaryWithoutItsVotersStaysClosed has nobody who could acknowledge the marker.
func TestACrashedPrimaryWithoutItsVotersStaysClosed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	newTable(t, p)
	p.loseReplica(t)
	impatient(p.primary)
	p.primary.Await("mysqld answers", func(s *api.Status) bool { return s.Server != nil })
	p.primary.SignalServer(unix.SIGKILL)
	leaveAlone(longAlone)
	status := p.primary.Status()
	if s := status.Server; s == nil || !s.SuperReadOnly || !s.OfflineMode || status.Marker == nil || status.Marker.State != api.MarkerWaiting {
		t.Fatalf("status %s", mysqld.Describe(status))
	}
	p.Do(p.replica, api.CommandFollow, p.FollowRequest(p.replica, p.primary, api.AckOn))
	root := p.primary.Endpoint(agent.AccountRoot, p.Passwords[agent.AccountRoot])
	execAll(t, mysqld.AwaitSession(t, root), "INSERT INTO d.t VALUES (1)")
}

// TestACrashedPrimaryIsTheCoordinators kills mysqld of an agent that has a coordinator.
func TestACrashedPrimaryIsTheCoordinators(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "a")
	i.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(i)
	impatient(i)
	i.Await("mysqld answers", func(s *api.Status) bool { return s.Server != nil })
	t.Run("a reader of the status is connected", func(t *testing.T) {
		down := false
		kill := i.SignalServer
		watch(t, i, longAlone, func(s *api.Status) {
			if kill != nil {
				kill(unix.SIGKILL)
				kill = nil
			}
			if down && s.Mysqld != api.MysqldDown {
				t.Errorf("mysqld was started: %s", mysqld.Describe(s))
			}
			down = down || s.Mysqld == api.MysqldDown
		})
		if !down {
			t.Error("mysqld was never seen down")
		}
	})
	t.Run("nobody is, but it was closed for a while", func(t *testing.T) {
		root := i.Endpoint(agent.AccountRoot, c.Passwords[agent.AccountRoot])
		execAll(t, mysqld.AwaitSession(t, root), "DO 0")
		begun := time.Now()
		c.Do(i, api.CommandClose, &api.CloseRequest{Record: c.Record, DurationMillis: longAlone.Milliseconds()})
		i.Await("it is closed", func(s *api.Status) bool { return s.Closed != nil && s.Closed.GTIDExecuted != "" })
		execAll(t, mysqld.AwaitSession(t, root), "DO 0")
		if elapsed := time.Since(begun); elapsed < longAlone {
			t.Errorf("it opened again after %v, want %v", elapsed, longAlone)
		}
		i.SignalServer(unix.SIGKILL)
	})
	t.Run("nobody is, and it opens again without acknowledgements", func(t *testing.T) {
		execAll(t, mysqld.AwaitSession(t, i.Endpoint(agent.AccountRoot, c.Passwords[agent.AccountRoot])), "CREATE DATABASE d")
	})
	t.Run("a higher epoch was promised", func(t *testing.T) {
		c.Record.Epoch++
		c.Record.Claim, c.Record.Phase, c.Record.Primary = "claim-next", v1beta1.RecordClaimed, nil
		c.Do(i, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
		if i.Status().Mysqld == api.MysqldRunning {
			i.SignalServer(unix.SIGKILL)
		}
		leaveAlone(longAlone)
		if status := i.Status(); status.Mysqld != api.MysqldDown {
			t.Errorf("mysqld was started: %s", mysqld.Describe(status))
		}
	})
}

// TestACrashedReplicaWithoutACoordinatorFollowsAgain kills the replica whose acknowledgement the next write needs.
func TestACrashedReplicaWithoutACoordinatorFollowsAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	newTable(t, p)
	impatient(p.replica)
	p.replica.Await("mysqld answers", func(s *api.Status) bool { return s.Server != nil })
	p.replica.SignalServer(unix.SIGKILL)
	if err := <-commit(p.root(p.primary), "INSERT INTO d.t VALUES (1)"); err != nil {
		t.Errorf("a write that waits for the replica: %v", err)
	}
}
