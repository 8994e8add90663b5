// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/test/mysqld"
)

const (
	// definitions are everything of an event but what its status is and what it did.
	definitions = `SELECT event_name, CONCAT_WS(' | ', definer, event_definition, sql_mode, time_zone, on_completion, interval_value,
 interval_field, starts, ends, execute_at, event_comment, character_set_client, collation_connection, database_collation, created)
 FROM information_schema.events`
	statuses = "SELECT event_name, status FROM information_schema.events"
	// ran lists which events ran on this server.
	ran = "SELECT DISTINCT n FROM d.ran WHERE server = @@server_id ORDER BY n"
	// odd is a name that is another in most character sets, and needs quotes.
	odd = "odd`é'?"
)

// tick is an event that leaves a row every second in which it runs.
func tick(name, options string) string {
	return "CREATE EVENT d." + mysql.Identifier(name) + " ON SCHEDULE EVERY 1 SECOND " + options + " DO " + leave(name)
}

// hourly is an event that does not run while it is looked at. The scheduler writes the status of an event that it runs, too.
func hourly(name string) string {
	return "CREATE EVENT d." + name + " ON SCHEDULE EVERY 1 HOUR STARTS NOW() + INTERVAL 1 HOUR DO " + leave(name)
}

// once is an event that leaves a row in so many seconds and stays.
func once(name, seconds string) string {
	return "CREATE EVENT d." + name + " ON SCHEDULE AT NOW() + INTERVAL " + seconds + " SECOND ON COMPLETION PRESERVE DO " + leave(name)
}

func leave(name string) string {
	return "INSERT INTO d.ran VALUES ('" + strings.ReplaceAll(name, "'", "''") + "', @@server_id)"
}

func pairs(t *testing.T, session *mysql.Session, query string) map[string]string {
	t.Helper()
	found, err := session.Pairs(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// wantEvents waits until the events of an instance have these statuses.
func (p pair) wantEvents(t *testing.T, i *mysqld.Instance, want map[string]string) {
	t.Helper()
	session := p.root(i)
	deadline := time.Now().Add(20 * time.Second)
	for {
		diff := cmp.Diff(want, pairs(t, session, statuses))
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("events of %s (-want +got):\n%s", i.Name, diff)
		}
		execAll(t, session, "DO SLEEP(0.1)")
	}
}

// awaitNotes waits until an instance knows which events are disabled.
func (p pair) awaitNotes(t *testing.T, i *mysqld.Instance, want string) {
	t.Helper()
	admin := i.Session(adminEndpoint(i, p.Passwords[agent.AccountAdmin]))
	awaitSQL(t, admin, want, "SELECT event_name FROM moco.disabled_events ORDER BY event_name")
}

// newTrioWith is a trio whose replicas were cloned after the primary had executed the statements.
func newTrioWith(t *testing.T, statements ...string) trio {
	t.Helper()
	c := trio{
		pair: pair{
			Cluster: mysqld.NewCluster(t, &lab), primary: mysqld.NewInstance(t, &lab, "a"), replica: mysqld.NewInstance(t, &lab, "b"),
		},
		third: mysqld.NewInstance(t, &lab, "c"),
	}
	c.primary.Start()
	c.Bootstrap(c.primary)
	execAll(t, c.root(c.primary), statements...)
	voters := []*mysqld.Instance{c.primary}
	for _, i := range []*mysqld.Instance{c.replica, c.third} {
		i.Start()
		c.Clone(i, c.primary)
		c.Follow(i, c.primary, api.AckOff)
		voters = append(voters, i)
		c.Grow(c.primary, 1, voters...)
		c.Open(i)
	}
	return c
}

// TestScheduledEvents has every kind of event on a primary that crashes, and then on one that hands over.
func TestScheduledEvents(t *testing.T) {
	t.Parallel()
	c := newTrioWith(t, "CREATE DATABASE d", "CREATE TABLE d.ran (n VARCHAR(64), server INT UNSIGNED)",
		tick("cloned", ""), tick("cloned_off", "DISABLE"), tick("cloned_then_off", ""))
	execAll(t, c.root(c.primary), "CREATE USER owner@'%'", "GRANT ALL ON d.* TO owner@'%'", "CREATE USER `o'w@ner`@'%'", "GRANT ALL ON d.* TO `o'w@ner`@'%'",
		"ALTER EVENT d.cloned_then_off DISABLE",
		tick("on", ""), tick("off", "DISABLE"), tick("then_off", ""), tick("then_on", "DISABLE"), tick("never_on_replicas", "DISABLE ON REPLICA"),
		"ALTER EVENT d.then_off DISABLE", "ALTER EVENT d.then_on ENABLE",
		"SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,ONLY_FULL_GROUP_BY', time_zone='Europe/Berlin'",
		strings.Replace(tick("owned", "ON COMPLETION PRESERVE"), "CREATE", "CREATE DEFINER=owner@'%'", 1),
		strings.Replace(tick(odd, "ENDS NOW() + INTERVAL 1 DAY COMMENT 'x'"), "CREATE", "CREATE DEFINER=`o'w@ner`@'%'", 1),
		"SET sql_mode='', time_zone='-03:30', NAMES latin1 COLLATE latin1_general_cs",
		tick("latin", ""), strings.ReplaceAll(tick("latin é", ""), "é", "\xe9"),
		once("done", "0"))
	awaitSQL(t, c.root(c.primary), "DISABLED", "SELECT status FROM information_schema.events WHERE event_name = 'done'")
	c.awaitNotes(t, c.replica, "cloned_off,cloned_then_off,done,never_on_replicas,off,then_off")
	want := pairs(t, c.root(c.primary), definitions)
	execAll(t, c.root(c.primary), once("due", "3"))

	c.primary.Crash()
	execAll(t, c.root(c.replica), "DO SLEEP(3)")
	claim(c.Cluster)
	c.Record.Pending = &v1beta1.Configuration{AckCount: 1, Voters: []v1beta1.Member{mysqld.Member(c.replica), mysqld.Member(c.third)}}
	promise(c.Cluster, c.replica)
	promise(c.Cluster, c.third)
	c.lead(t, c.replica, c.third)

	now := map[string]string{
		"cloned": "ENABLED", "cloned_off": "DISABLED", "cloned_then_off": "DISABLED",
		"on": "ENABLED", "off": "DISABLED", "then_off": "DISABLED", "then_on": "ENABLED", "never_on_replicas": "DISABLED",
		"owned": "ENABLED", odd: "ENABLED", "latin": "ENABLED", "latin é": "ENABLED", "done": "DISABLED", "due": "DISABLED",
	}
	t.Run("a new primary enables what ran on the former one, and nothing else", func(t *testing.T) {
		c.wantEvents(t, c.replica, now)
	})
	t.Run("nothing but the status of an event is changed", func(t *testing.T) {
		got := pairs(t, c.root(c.replica), definitions)
		delete(got, "due")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("definitions (-before +after):\n%s", diff)
		}
	})
	t.Run("what is enabled runs, also what was due meanwhile", func(t *testing.T) {
		awaitSQL(t, c.root(c.replica), "cloned,due,latin,latin é,"+odd+",on,owned,then_on", ran)
	})
	t.Run("the other replica marks them again, but for those of its clone", func(t *testing.T) {
		replicated := map[string]string{}
		for name := range now {
			replicated[name] = "REPLICA_SIDE_DISABLED"
		}
		replicated["cloned"], replicated["cloned_off"] = "ENABLED", "DISABLED"
		c.wantEvents(t, c.third, replicated)
	})
	t.Run("what is disabled later stays disabled, here and after a switchover", func(t *testing.T) { c.handOverEvents(t, now) })
}

func (c trio) handOverEvents(t *testing.T, now map[string]string) {
	p := c.pair
	p.primary, p.replica = c.replica, c.third
	execAll(t, p.root(p.primary), "ALTER EVENT d.on DISABLE", "ALTER EVENT d.off ENABLE", "DROP EVENT d.then_off", "ALTER EVENT d.owned RENAME TO d.sold")
	delete(now, "then_off")
	delete(now, "owned")
	now["on"], now["off"], now["sold"] = "DISABLED", "ENABLED", "ENABLED"
	p.awaitNotes(t, p.replica, "cloned_off,cloned_then_off,done,due,never_on_replicas,on")
	p.wantEvents(t, p.primary, now)
	if closed := p.closePrimary(t, 30*time.Second).Closed; closed.GTIDExecuted == "" {
		t.Fatalf("closed %s", mysqld.Describe(closed))
	}
	claim(p.Cluster)
	promise(p.Cluster, p.primary)
	promise(p.Cluster, p.replica)
	p.lead(t, p.replica, p.primary)
	p.wantEvents(t, p.replica, now)
	awaitSQL(t, p.root(p.replica), "cloned,latin,latin é,"+odd+",off,owned,then_on", ran)
}

// TestRestoredEvents: the events that were replayed from the archive run where the data were restored.
func TestRestoredEvents(t *testing.T) {
	t.Parallel()
	target := newArchive(t)
	o := &origin{solo: newSolo(t, target)}
	o.site = newBackupSite(t, pair{Cluster: o.Cluster, primary: o.i, replica: o.i})
	o.site.store = target.Store.Directory
	execAll(t, o.root(), "CREATE TABLE d.ran (n VARCHAR(64), server INT UNSIGNED)", hourly("copied"), tick("copied_off", "DISABLE"))
	o.takeBackup(t, backupID)
	execAll(t, o.root(), tick("replayed", ""), tick("replayed_off", "DISABLE"), "ALTER EVENT d.copied DISABLE", "ALTER EVENT d.copied_off ENABLE")
	p := pair{Cluster: o.Cluster}
	p.awaitNotes(t, o.i, "copied,replayed_off")
	awaitArchived(t, o.i, o.admin)

	s := newSuccessor(t)
	if status := s.restore(o.source(wire.Target{Latest: true})); status.Task.State != api.TaskDone {
		t.Fatalf("status %s", mysqld.Describe(status))
	}
	s.StartServer(s.i)
	s.Lead(s.i, 0)
	s.AwaitMarker(s.i, s.Mark(s.i, 1))
	s.Opened(0, 1, s.i)
	s.Open(s.i)
	p = pair{Cluster: s.Cluster}
	p.wantEvents(t, s.i, map[string]string{"copied": "DISABLED", "copied_off": "ENABLED", "replayed": "ENABLED", "replayed_off": "DISABLED"})
	awaitSQL(t, p.root(s.i), "copied_off,replayed", ran)
}
