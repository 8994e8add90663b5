// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/test/mysqld"
)

// watch reads an instance's statuses for some time, shows each to look, and returns how many there were.
func watch(t *testing.T, i *mysqld.Instance, period time.Duration, look func(*api.Status)) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), period)
	defer cancel()
	seen := 0
	err := i.Client.Stream(ctx, func(s *api.Status) error {
		look(s)
		seen++
		return nil
	})
	if !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		t.Fatalf("%s: the status stream ended: %v", i.Name, err)
	}
	return seen
}

// beats reads how often the canary has sung.
func beats(t *testing.T, session *mysql.Session) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	column, err := session.Column(ctx, "SELECT beat FROM moco.canary WHERE server_uuid=@@GLOBAL.server_uuid")
	if err != nil || len(column) != 1 {
		t.Fatalf("the canary's rows: %v, %v", column, err)
	}
	count, err := strconv.ParseInt(column[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// wantSinging watches for some seconds and demands that the canary sings all the time.
func wantSinging(t *testing.T, p pair, admin *mysql.Session, during string) {
	t.Helper()
	before := beats(t, admin)
	watch(t, p.primary, 3*time.Second, func(s *api.Status) {
		if s.StalledMillis != 0 {
			t.Errorf("%s: stalled for %d ms", during, s.StalledMillis)
		}
	})
	if sung := beats(t, admin) - before; sung < 2 || sung > 5 {
		t.Errorf("%s: the canary sang %d times in three seconds", during, sung)
	}
}

// TestTheCanarySingsWhileWritesWait keeps 40 clients writing and then freezes the replica whose acknowledgement they need.
func TestTheCanarySingsWhileWritesWait(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	admin := p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))
	awaitSQL(t, admin, "1", "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='moco' AND table_name='canary'")
	root := p.root(p.primary)
	for statement, refused := range map[string]uint16{"SELECT * FROM moco.canary": 1142, "DROP TABLE moco.canary": 1142, "DROP DATABASE moco": 1044} {
		if err := root.Exec(context.Background(), statement); mysql.Number(err) != refused {
			t.Errorf("%s as root: %v, want error %d", statement, err, refused)
		}
	}
	execAll(t, root, "CREATE DATABASE d", "CREATE TABLE d.t (i BIGINT PRIMARY KEY AUTO_INCREMENT, v LONGBLOB)")
	var idle string
	if err := admin.Row(context.Background(), []any{&idle}, "SELECT @@GLOBAL.gtid_executed"); err != nil {
		t.Fatal(err)
	}
	wantSinging(t, p, admin, "idle")
	awaitSQL(t, admin, idle, "SELECT @@GLOBAL.gtid_executed") // the canary is no transaction of the history

	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	defer func() { p.primary.SignalServer(unix.SIGKILL); cancel(); writers.Wait() }()
	for range 40 {
		session := p.root(p.primary)
		writers.Go(func() {
			for ctx.Err() == nil && session.Exec(ctx, "INSERT INTO d.t (v) VALUES (REPEAT('x', 20000))") == nil {
				continue
			}
		})
	}
	wantSinging(t, p, admin, "under load")
	p.replica.SignalServer(unix.SIGSTOP)
	awaitSQL(t, admin, "1", "SELECT COUNT(*) > 0 FROM performance_schema.processlist WHERE state LIKE 'Waiting for semi-sync ACK%'")
	wantSinging(t, p, admin, "while writes wait")
}

// TestAFrozenPrimaryIsSeen freezes mysqld, which goes on taking connections as far as TCP is concerned.
func TestAFrozenPrimaryIsSeen(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.replica.Await("its source is heard", func(s *api.Status) bool { return s.Server != nil && s.Server.Channel.QuietMillis == 0 })
	p.primary.SignalServer(unix.SIGSTOP)
	begun := time.Now()
	status := p.primary.Await("the stall is seen", func(s *api.Status) bool { return s.StalledMillis >= 2000 })
	t.Logf("the stall was seen after %v", time.Since(begun))
	if elapsed := time.Since(begun); elapsed > 3500*time.Millisecond || status.StalledMillis%250 != 0 {
		t.Errorf("after %v: stalled for %d ms", elapsed, status.StalledMillis)
	}
	status = p.replica.Await("the silence is seen", func(s *api.Status) bool { return s.Server != nil && s.Server.Channel.QuietMillis >= 2000 })
	t.Logf("the silence was seen after %v", time.Since(begun))
	if elapsed := time.Since(begun); elapsed > 3500*time.Millisecond || status.Server.Channel.QuietMillis%250 != 0 {
		t.Errorf("after %v: quiet for %d ms", elapsed, status.Server.Channel.QuietMillis)
	}
	// Longer than replica_net_timeout: the receiver gives the connection up and tries again, which must not look like news.
	last := int64(0)
	watch(t, p.replica, 11*time.Second, func(s *api.Status) {
		if s.Server == nil || s.Server.Channel.QuietMillis < last {
			t.Errorf("after %d ms of silence: %s", last, mysqld.Describe(s.Server))
			return
		}
		last = s.Server.Channel.QuietMillis
	})
	p.primary.SignalServer(unix.SIGCONT)
	p.primary.Await("the canary sings again", func(s *api.Status) bool { return s.StalledMillis == 0 && s.Server != nil })
	p.replica.Await("the source is heard again", func(s *api.Status) bool {
		return s.Server != nil && s.Server.Channel.QuietMillis == 0 && s.Server.Channel.Receiver == "Yes"
	})
	admin := p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))
	wantSinging(t, p, admin, "after the stall")
	awaitSQL(t, admin, "1", "SELECT COUNT(*) < 8 FROM performance_schema.processlist WHERE user=?", agent.AccountAdmin)
}

// TestAnIdlePairIsNotQuiet watches a pair that nobody uses.
func TestAnIdlePairIsNotQuiet(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, i := range []*mysqld.Instance{p.primary, p.replica} {
		i.StopAgent()
		i.Conf.PollInterval = agent.DefaultPollInterval
		i.StartAgent()
	}
	// The busy looks after the last command are over when nothing has changed for a while.
	watch(t, p.replica, 2*agent.DefaultBusyPeriod, func(*api.Status) {})
	seen := map[string]int{}
	const period = 8 * time.Second
	pushed := watch(t, p.replica, period, func(s *api.Status) {
		seen[fmt.Sprint(s.Server.Channel.QuietMillis)]++
	})
	if len(seen) != 1 || seen["0"] == 0 {
		t.Errorf("milliseconds of silence, and how often each was pushed: %v", seen)
	}
	if pushed > 10 {
		t.Errorf("%d statuses of an idle replica in %v", pushed, period)
	}
	if pushed := watch(t, p.primary, period, func(*api.Status) {}); pushed > 10 {
		t.Errorf("%d statuses of an idle primary in %v", pushed, period)
	}
}
