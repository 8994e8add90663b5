// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/test/bench"
	"github.com/moco-mysql/moco/test/mysqld"
)

const (
	// recording is how long writers make what is replayed.
	recording = 10 * time.Second
	// stageReplaying is the stage of a restore in which it replays.
	stageReplaying = "replaying transactions"
)

// durable are the options of a server that is to lose nothing, which a hand-made replay runs with unless somebody thinks of
// relaxed ones.
var (
	durable = []string{"--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"}
	relaxed = []string{"--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"}
)

// TestReplay measures the replay of an archive against mysqlbinlog piped into mysql, both on the same restored backup.
func TestReplay(t *testing.T) {
	n := bench.Times(t, variable, rounds)
	s := newSolo(t)
	s.fill(t, writing, 1)
	s.backUp(t, s.Archive.Store)
	execute(t, s.admin(s.primary), "FLUSH BINARY LOGS")
	before := len(s.logs(t)) - 1
	recorded := writers{endpoint: s.endpoint()}.runFor(t, recording)
	s.archived(t)
	logs := s.logs(t)[before:]
	transactions := float64(len(recorded.latencies))
	made := &bench.Distribution{Name: "as they were written, 16 sessions into 16 tables", Unit: "trx/s"}
	made.Add(recorded.perSecond())
	product := &bench.Distribution{Name: "MOCO replays", Unit: "trx/s"}
	hand := &bench.Distribution{Name: "`mysqlbinlog \\| mysql`, durable", Unit: "trx/s"}
	careless := &bench.Distribution{Name: "`mysqlbinlog \\| mysql`, not durable", Unit: "trx/s"}
	toHand := &bench.Distribution{Name: "MOCO to by hand, durable", Unit: "1"}
	toCareless := &bench.Distribution{Name: "MOCO to by hand, not durable", Unit: "1"}
	for round := range n {
		t.Run(fmt.Sprintf("round %d", round+1), func(t *testing.T) {
			replayed := transactions / s.replay(t).Seconds()
			typed := transactions / s.pipe(t, logs, durable).Seconds()
			loose := transactions / s.pipe(t, logs, relaxed).Seconds()
			product.Add(replayed)
			hand.Add(typed)
			careless.Add(loose)
			toHand.Add(replayed / typed)
			toCareless.Add(replayed / loose)
		})
	}
	publish(t, "replay.md", made, product, hand, careless, toHand, toCareless)
}

// successor begins a restore on an empty volume.
func (s *site) successor(t *testing.T, target wire.Target) *mysqld.Instance {
	t.Helper()
	c := newCluster(t)
	c.Record.ClusterUUID = "99999999-2222-3333-4444-555555555555"
	c.Application = &api.Account{Username: "app", Password: "secret"}
	i := mysqld.NewInstance(t, &lab, "r")
	i.Start()
	c.Do(i, api.CommandConfigure, c.Configuration(i))
	c.Choose(i)
	await(t, i, "the image is known", func(st *api.Status) bool { return st.ImageVersion != "" })
	source := wire.Source{Store: s.Archive.Store, Cluster: key, Target: target}
	c.Do(i, api.CommandRestore, &api.RestoreRequest{Record: c.Record, Source: source, Database: "app", User: "app"})
	return i
}

// replay restores everything and returns how long the replay took, fetching what is replayed included.
func (s *site) replay(t *testing.T) time.Duration {
	t.Helper()
	i := s.successor(t, wire.Target{Latest: true})
	at := func(st *api.Status) bool {
		return st.Task != nil && (st.Task.Stage == stageReplaying || st.Task.State != api.TaskRunning)
	}
	await(t, i, "it replays", at)
	began := time.Now()
	await(t, i, "it has replayed", func(st *api.Status) bool { return !at(st) })
	took := time.Since(began)
	restored(t, i)
	i.Crash()
	return took
}

// restored waits for the end of a restore.
func restored(t *testing.T, i *mysqld.Instance) {
	t.Helper()
	status := await(t, i, "the restore ends", func(st *api.Status) bool {
		return st.Task != nil && st.Task.State != api.TaskRunning && st.Volume != api.VolumeFilling
	})
	if status.Task.State != api.TaskDone {
		t.Fatalf("the restore failed: %s", mysqld.Describe(status))
	}
}

// pipe restores the backup alone, starts a server on it by hand, with a binary log, and pipes binary logs of the origin into
// it. It returns how long the pipe took.
func (s *site) pipe(t *testing.T, logs, options []string) time.Duration {
	t.Helper()
	i := s.successor(t, wire.Target{})
	restored(t, i)
	i.Crash()
	dir := scratch(t)
	socket := filepath.Join(dir, "s")
	serve(t, socket, slices.Concat([]string{
		"--no-defaults", "--datadir=" + filepath.Join(i.Conf.DataRoot, "data"), "--socket=" + socket, "--pid-file=" + filepath.Join(dir, "pid"),
		"--skip-networking", "--mysqlx=OFF", "--secure-file-priv=NULL", "--server-id=7", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog",
		"--innodb-buffer-pool-size=256M", "--innodb-redo-log-capacity=64M", "--max-allowed-packet=1G", "--skip-replica-start",
	}, options))
	arguments := []string{lab.Client("mysqlbinlog"), lab.Client("mysql"), socket, agent.AccountAdmin}
	return s.shell(t, `"$1" --no-defaults "${@:5}" | "$2" --no-defaults --socket="$3" --user="$4"`, append(arguments, logs...)...)
}

// logs are the binary logs of the primary, in order.
func (s *site) logs(t *testing.T) []string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(s.primary.Conf.DataRoot, "data", "binlog.[0-9]*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("the binary logs of the primary: %v, %v", logs, err)
	}
	return logs
}

// serve runs a mysqld until the test ends, and waits until it listens.
func serve(t *testing.T, socket string, options []string) {
	t.Helper()
	log, err := os.Create(socket + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	command := exec.Command(lab.Program, options...) //nolint:gosec // the lab's mysqld; it is killed below
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if text, err := os.ReadFile(socket + ".log"); err == nil && t.Failed() {
			t.Logf("log of the server that was started by hand:\n%s", text)
		}
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(mysqld.Patience)
	for {
		if connection, err := net.Dial("unix", socket); err == nil {
			_ = connection.Close()
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the server that was started by hand does not listen")
		}
	}
}
