// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"slices"
	"testing"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// TestALockedOutReplicaCannotAcknowledge removes a voter that cooperates in nothing, and lets it in again.
func TestALockedOutReplicaCannotAcknowledge(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	root := c.root(c.primary)
	execAll(t, root, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)")
	leaver := c.third.Status().Incarnation
	admin := c.primary.Session(adminEndpoint(c.primary, c.Passwords[agent.AccountAdmin]))

	request := &api.LockOutRequest{Record: c.Record, Members: []string{leaver}}
	if reason := c.Refused(c.primary, api.CommandLockOut, request); reason != api.ErrorPrecondition {
		t.Errorf("locking out a voter of the epoch: refused as %q, want Precondition", reason)
	}
	c.Next(1, c.primary, c.replica)
	request.Record = c.Record
	c.Do(c.primary, api.CommandLockOut, request)
	c.primary.Await("it is locked out", func(s *api.Status) bool { return slices.Contains(s.LockedOut, leaver) })

	t.Run("it is kept out although it tries to come back, and writes wait for the others", func(t *testing.T) {
		c.third.Await("it is refused", func(s *api.Status) bool {
			return s.Server != nil && s.Server.Channel != nil && s.Server.Channel.Receiver == "Connecting" && s.Server.Channel.ReceiverErrno != 0
		})
		c.loseReplica(t)
		outcome := commit(root, "INSERT INTO d.t VALUES (1)")
		awaitSQL(t, admin, "1", waits)
		c.third.Await("it tries again", func(s *api.Status) bool { return s.Server != nil && s.Server.Channel.Receiver == "Connecting" })
		awaitSQL(t, admin, "1", waits)
		c.Follow(c.replica, c.primary, api.AckOn)
		if err := <-outcome; err != nil {
			t.Errorf("the write failed: %v", err)
		}
	})
	t.Run("the lock reaches the other voters once the epoch is opened", func(t *testing.T) {
		c.Lead(c.primary, 1)
		c.AwaitMarker(c.primary, c.Mark(c.primary, 1))
		c.Opened(1, 1, c.primary, c.replica)
		c.Open(c.primary)
		other := c.replica.Session(adminEndpoint(c.replica, c.Passwords[agent.AccountAdmin]))
		awaitSQL(t, other, "Y", "SELECT account_locked FROM mysql.user WHERE user=?", api.ReplicationUser(leaver))
	})
	t.Run("its account is refused whatever the password", func(t *testing.T) {
		endpoint := c.primary.Endpoint(api.ReplicationUser(leaver), c.Passwords[agent.AccountReplicator])
		if _, err := endpoint.Connect(t.Context()); mysql.Number(err) != 3118 {
			t.Errorf("logging in: %v, want error 3118", err)
		}
	})
	t.Run("it comes back as a learner once it is let in", func(t *testing.T) {
		c.Follow(c.third, c.primary, api.AckOff)
		if status := c.primary.Status(); slices.Contains(status.LockedOut, leaver) {
			t.Errorf("still shown as locked out: %v", status.LockedOut)
		}
		execAll(t, root, "INSERT INTO d.t VALUES (2)")
		c.Do(c.third, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
		awaitSQL(t, c.third.Session(adminEndpoint(c.third, c.Passwords[agent.AccountAdmin])), "1,2", "SELECT i FROM d.t ORDER BY i")
	})
}
