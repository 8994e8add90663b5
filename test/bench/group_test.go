// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// groupWithin bounds the forming of a group.
const groupWithin = 3 * time.Minute

// groupOptions of every member. A member that was killed and started takes no writes before it is in the group again.
const groupOptions = "--super-read-only=ON --loose-group-replication-group-name=6ba7b810-9dad-11d1-80b4-00c04fd430c8 " +
	"--loose-group-replication-local-address=$POD_IP:33061 --loose-group-replication-ip-allowlist=10.0.0.0/8 " +
	"--loose-group-replication-recovery-get-public-key=ON --loose-group-replication-recovery-use-ssl=ON "

// TestFailoverOfGroupReplication measures what a client meets that writes to MySQL Group Replication of the same image when
// the primary's mysqld is killed. The client is the same, except that it looks for the primary itself: it goes on to the
// next member with every new connection, so nothing has to be published for it.
func TestFailoverOfGroupReplication(t *testing.T) {
	w, err := world.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := Times(t, fewVariable, few)
	var all []*Distribution
	for _, kind := range []struct{ name, title, options string }{
		{"plain", "with its defaults", ""},
		{"tuned", "that expels a silent member at once", "--loose-group-replication-member-expel-timeout=0"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			g := &group{twins: &twins{World: w, namespace: w.Namespace(t, "bench-group-"+kind.name), name: "gr", size: 3}}
			g.plugins, g.options = "group_replication.so mysql_clone.so", groupOptions+kind.options
			g.form(t)
			gap := &Distribution{Name: "kill -9, Group Replication " + kind.title + ": longest time between two OKs", Unit: "s"}
			again := &Distribution{Name: "kill -9, Group Replication " + kind.title + ": until all members are ONLINE again", Unit: "s"}
			for i := range n {
				g.round(t, int64(i+1), gap, again)
			}
			all = append(all, gap, again)
			Publish(t, w.Repo, "group-replication.md", Table(all...))
		})
	}
}

// group is a group of three members.
type group struct{ *twins }

// form starts the members and makes a group of them.
func (g *group) form(t *testing.T) {
	t.Helper()
	g.start(t)
	var seeds []string
	for n := range g.size {
		pod, err := g.Pod(t.Context(), g.namespace, g.pod(n))
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, pod.Status.PodIP+":33061")
	}
	for n := range g.size {
		begin := "START GROUP_REPLICATION"
		if n == 0 {
			begin = "SET GLOBAL group_replication_bootstrap_group=ON; START GROUP_REPLICATION; SET GLOBAL group_replication_bootstrap_group=OFF"
		}
		g.sql(t, n, "SET GLOBAL super_read_only=OFF; RESET BINARY LOGS AND GTIDS; CHANGE REPLICATION SOURCE TO SOURCE_USER='repl', SOURCE_PASSWORD='by-hand' FOR CHANNEL 'group_replication_recovery';"+
			"SET PERSIST group_replication_group_seeds='"+strings.Join(seeds, ",")+"'; SET PERSIST group_replication_start_on_boot=ON; SET GLOBAL super_read_only=ON;"+begin)
		g.Eventually(t, g.namespace, fmt.Sprintf("%d members", n+1), groupWithin, func(ctx context.Context) error { return g.online(ctx, n+1) })
	}
	g.sql(t, 0, "CREATE DATABASE app")
}

// online says what is missing to a group of so many members that are ONLINE. A member that was killed and started is told
// to join.
func (g *group) online(ctx context.Context, want int) error {
	n, _, err := g.primary(ctx)
	if err != nil {
		return err
	}
	printed, err := g.ask(ctx, n, "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE member_state='ONLINE'")
	if err != nil {
		return err
	}
	if strings.TrimSpace(printed) == fmt.Sprint(want) {
		return nil
	}
	for i := range want {
		state, err := g.ask(ctx, i, "SELECT member_state FROM performance_schema.replication_group_members WHERE member_id=@@server_uuid")
		if state = strings.TrimSpace(state); err == nil && (state == "OFFLINE" || state == "ERROR" || state == "") {
			if _, err := g.ask(ctx, i, "STOP GROUP_REPLICATION; START GROUP_REPLICATION"); err != nil {
				return fmt.Errorf("%s joins: %w", g.pod(i), err)
			}
		}
	}
	return fmt.Errorf("%s of %d are ONLINE", strings.TrimSpace(printed), want)
}

// primary finds the member that takes writes.
func (g *group) primary(ctx context.Context) (n int, address string, err error) {
	for n := range g.size {
		printed, err := g.ask(ctx, n, "SELECT member_host FROM performance_schema.replication_group_members WHERE member_id=@@server_uuid AND member_role='PRIMARY' AND member_state='ONLINE'")
		if address := strings.TrimSpace(printed); err == nil && address != "" {
			return n, address, nil
		}
	}
	return 0, "", errors.New("no member is the primary")
}

// round kills the primary once.
func (g *group) round(t *testing.T, number int64, gap, again *Distribution) {
	t.Helper()
	g.Eventually(t, g.namespace, "a whole group", groupWithin, func(ctx context.Context) error { return g.online(ctx, g.size) })
	n, _, err := g.primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	db := g.BareServersFrom(t, "n1", g.namespace, g.pods(), twinLogin)
	g.Eventually(t, g.namespace, "the table", groupWithin, func(ctx context.Context) error { return workload.Create(ctx, db, table) })
	w := workload.Begin(t.Context(), db, workload.Options{Table: table, First: number * 1_000_000, Pace: clientPace, Patience: clientPatience})
	defer w.Stop()
	a := &arena{World: g.World, namespace: g.namespace}
	a.acknowledged(t, w, 50)
	server, err := g.Mysqld(t.Context(), g.namespace, g.pod(n))
	if err == nil {
		err = server.Signal(syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	g.Eventually(t, g.namespace, "another primary", groupWithin, func(ctx context.Context) error {
		next, _, err := g.primary(ctx)
		if err == nil && next == n {
			err = errors.New("it is the old one")
		}
		return err
	})
	a.acknowledged(t, w, 50)
	gap.Add(longest(w.Stop().Spans).Seconds())
	g.Eventually(t, g.namespace, "a whole group", groupWithin, func(ctx context.Context) error { return g.online(ctx, g.size) })
	again.Add(time.Since(began).Seconds())
}
