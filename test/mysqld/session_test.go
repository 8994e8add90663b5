// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/test/mysqld"
)

// TestSessions looks at what every statement of the agent relies on.
func TestSessions(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "a")
	i.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(i)
	root := i.Endpoint("root", c.Passwords["root"])
	holder := i.Session(root)
	execAll(t, holder, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")

	t.Run("a statement that was given up never runs", func(t *testing.T) {
		execAll(t, holder, "LOCK TABLES d.t WRITE")
		session := i.Session(root)
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		if err := session.Exec(ctx, "DELETE FROM d.t"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the statement ended with %v, want its deadline to pass", err)
		}
		execAll(t, holder, "UNLOCK TABLES")
		awaitSQL(t, holder, "0", "SELECT COUNT(*) FROM performance_schema.processlist WHERE id=?", session.ID())
		awaitSQL(t, holder, "1", "SELECT i FROM d.t")
	})
	t.Run("no session waits for a lock for more than a second", func(t *testing.T) {
		execAll(t, holder, "LOCK TABLES d.t WRITE")
		defer execAll(t, holder, "UNLOCK TABLES")
		begun := time.Now()
		err := i.Session(root).Exec(context.Background(), "ALTER TABLE d.t ADD COLUMN v INT")
		if elapsed := time.Since(begun); mysql.Number(err) != mysql.ErrLockWaitTimeout || elapsed > 5*time.Second {
			t.Errorf("%v after %v, want error %d after a second", err, elapsed, mysql.ErrLockWaitTimeout)
		}
	})
	t.Run("passwords are tried in order", func(t *testing.T) {
		endpoint := root
		endpoint.Passwords = []string{"new", "newer", c.Passwords["root"]}
		awaitSQL(t, i.Session(endpoint), "root@%", "SELECT CURRENT_USER()")
		endpoint.Passwords = []string{"wrong", "wrong too"}
		if _, err := endpoint.Connect(context.Background()); mysql.Number(err) != mysql.ErrAccessDenied {
			t.Errorf("with wrong passwords: %v", err)
		}
		if accepted, err := endpoint.Accepts(context.Background()); accepted || err != nil {
			t.Errorf("a wrong password is accepted: %v, %v", accepted, err)
		}
	})
	t.Run("placeholders stand for any text", func(t *testing.T) {
		for _, text := range []string{"it's", `back\slash`, `"quotes"`, "naïve ☃", "a;b -- c", "%_"} {
			var got string
			if err := holder.Row(context.Background(), []any{&got}, "SELECT ?", text); err != nil || got != text {
				t.Errorf("%q came back as %q, %v", text, got, err)
			}
		}
	})
}
