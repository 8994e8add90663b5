// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
	"github.com/moco-mysql/moco/test/bench"
	"github.com/moco-mysql/moco/test/mysqld"
)

const (
	// variable sets how often everything is measured; rounds is how often otherwise.
	variable, rounds = "MOCO_BENCH_N", 5
	// mega is the unit of rates.
	mega = 1e6
	// patience bounds every wait.
	patience = 10 * time.Minute
	// repo is the checkout, as seen from here.
	repo = "../../.."
)

var lab mysqld.Lab

func TestMain(m *testing.M) { os.Exit(mysqld.Run(m, &lab)) }

// key is the cluster that backups and archives are of.
var key = wire.ClusterKey{Namespace: "bench", Name: "db", UID: "0123abcd-0000-0000-0000-000000000000"}

// site is an open primary, with a replica that acknowledges or without one.
type site struct {
	*mysqld.Cluster
	primary, replica *mysqld.Instance
	// backups counts those that were begun.
	backups int
}

// newCluster has room for the data of a measurement in its buffer pool.
func newCluster(t *testing.T) *mysqld.Cluster {
	in := mycnf.DefaultInput()
	in.ServerID, in.Version, in.MemoryBytes, in.MilliCPU = 1, mycnf.MinVersion, 1<<30, 2000
	in.User = map[string]string{"innodb_redo_log_capacity": "64M", "innodb_buffer_pool_size": "256M", "max_connections": "100"}
	c := mysqld.NewCluster(t, &lab)
	c.MyCnf = mycnf.Render(in)
	return c
}

func newPair(t *testing.T) *site {
	t.Helper()
	s := &site{Cluster: newCluster(t), primary: mysqld.NewInstance(t, &lab, "a"), replica: mysqld.NewInstance(t, &lab, "b")}
	s.BootstrapPair(s.primary, s.replica)
	return s
}

// newSolo has an archive in a directory.
func newSolo(t *testing.T) *site {
	t.Helper()
	s := &site{Cluster: newCluster(t), primary: mysqld.NewInstance(t, &lab, "a")}
	s.Archive = &wire.Archive{Store: directory(t), Cluster: key, IntervalSeconds: 1}
	s.primary.Start()
	s.Bootstrap(s.primary)
	return s
}

// directory is an empty store, on the file system of the data.
func directory(t *testing.T) wire.Store {
	t.Helper()
	return wire.Store{Provider: wire.ProviderVolume, Directory: scratch(t)}
}

// scratch is an empty directory on the file system of the data.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(lab.Dir, "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// endpoint is how writers reach the primary.
func (s *site) endpoint() mysql.Endpoint {
	return s.primary.Endpoint(agent.AccountRoot, s.Passwords[agent.AccountRoot])
}

// admin is a session of the operator's own account.
func (s *site) admin(i *mysqld.Instance) *mysql.Session {
	return i.Session(mysql.Endpoint{
		Network: "unix", Address: i.Conf.ServerSocket(), User: agent.AccountAdmin, Passwords: []string{s.Passwords[agent.AccountAdmin]},
	})
}

// execute runs statements.
func execute(t *testing.T, session *mysql.Session, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, statement := range statements {
		if err := session.Exec(ctx, statement); err != nil {
			t.Fatalf("%.200s: %v", statement, err)
		}
	}
}

// chunk is how many rows are made at once.
const chunk = 9000

// digits are SQL for groups of random digits, which is what sysbench fills its columns with.
func digits(groups int) string {
	return "CONCAT_WS('-'" + strings.Repeat(", LPAD(FLOOR(RAND() * 1e11), 11, '0')", groups) + ")"
}

// fill makes tables bench.t0 and so on, like those of sysbench, with so many chunks of rows in each.
func (s *site) fill(t *testing.T, tables, chunks int) {
	t.Helper()
	session := s.primary.Session(s.endpoint())
	execute(t, session, "CREATE DATABASE bench", fmt.Sprintf("SET SESSION cte_max_recursion_depth = %d", chunk))
	for n := range tables {
		execute(t, session, fmt.Sprintf("CREATE TABLE bench.t%d (id BIGINT AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY (k))", n))
		for range chunks {
			execute(t, session, fmt.Sprintf("INSERT INTO bench.t%d (k, c, pad) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"+
				" SELECT FLOOR(RAND() * 1e6), %s, %s FROM n", n, chunk, digits(10), digits(5)))
		}
	}
}

// await waits for a status that meets the condition, for longer than a test would.
func await(t *testing.T, i *mysqld.Instance, what string, met func(*api.Status) bool) *api.Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last *api.Status
	_ = i.Client.Stream(ctx, func(s *api.Status) error {
		last = s
		if met(s) {
			cancel()
		}
		return nil
	})
	if last == nil || !met(last) {
		t.Fatalf("waiting until %s: last status %s", what, mysqld.Describe(last))
	}
	return last
}

// executed is what an instance has executed now.
func (s *site) executed(t *testing.T, i *mysqld.Instance) gtid.Set {
	t.Helper()
	text, err := s.admin(i).Column(t.Context(), "SELECT @@GLOBAL.gtid_executed")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, text[0])
}

func parse(t *testing.T, text string) gtid.Set {
	t.Helper()
	set, err := gtid.Parse(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// caughtUp waits until the replica has executed what the primary has now.
func (s *site) caughtUp(t *testing.T) {
	t.Helper()
	want := s.executed(t, s.primary)
	await(t, s.replica, "the replica has caught up", func(st *api.Status) bool {
		return st.Server != nil && parse(t, st.Server.GTIDExecuted).Contains(want)
	})
}

// archived waits until the archive has what the primary has executed now.
func (s *site) archived(t *testing.T) {
	t.Helper()
	want := s.executed(t, s.primary)
	await(t, s.primary, "it is archived", func(st *api.Status) bool {
		return st.Archive != nil && st.Archive.Error == "" && parse(t, st.Archive.GTIDs).Contains(want)
	})
}

// publish prints and keeps a table of what was measured.
func publish(t *testing.T, name string, all ...*bench.Distribution) {
	t.Helper()
	root, err := filepath.Abs(repo)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(d *bench.Distribution) bool { return d.N() == 0 })
	bench.Publish(t, root, name, bench.Table(all...))
}
