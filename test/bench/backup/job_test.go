// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/backup/engine"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const (
	// stageLook is how often a Job is asked for its stage; it bounds the precision of a stage.
	stageLook = 10 * time.Millisecond
	// jobMemory is that of a Job's container.
	jobMemory = 1 << 30
	// The stages in which a Job does what is also done by hand.
	stageSending, stageCopying = "sending to the store", "copying from "
)

// job is a backup that was made.
type job struct {
	id     string
	bytes  float64 // of the files, before compression
	took   time.Duration
	stages map[string]time.Duration
	stored float64
}

// rate of something that took so long, in MB of files per second.
func (j *job) rate(took time.Duration) float64 { return j.bytes / mega / took.Seconds() }

// backUp makes a physical backup of the replica, or of the primary that has none, as a Job does.
func (s *site) backUp(t *testing.T, to wire.Store) *job {
	t.Helper()
	s.backups++
	work, run := scratch(t), scratch(t)
	cfg := engine.Config{WorkDir: work, RunDir: run, Mysqld: lab.Program, MemoryBytes: jobMemory, Progress: &engine.Progress{}}
	donor := s.primary
	if s.replica != nil {
		donor = s.replica
	}
	in := &wire.JobInput{
		Operation: wire.OperationBackup, Store: to, Cluster: key, Backup: fmt.Sprintf("20261121T160500Z-%08x", s.backups), Attempt: "one",
		Donors:  []wire.Donor{{Name: donor.Name, Address: "127.0.0.1", Port: donor.Conf.Port}},
		Primary: fmt.Sprintf("127.0.0.1:%d", s.primary.Conf.Port), User: agent.AccountDataProtection,
		Password: s.Passwords[agent.AccountDataProtection], CA: string(lab.CA.CertPEM()), MyCnf: s.MyCnf,
	}
	done := &job{id: in.Backup}
	watched := watch(cfg.Progress)
	began := time.Now()
	r := engine.Run(t.Context(), cfg, in)
	done.took, done.stages = time.Since(began), watched()
	if !r.Succeeded {
		t.Fatalf("the backup failed: %+v", r)
	}
	done.bytes, done.stored = float64(r.Bytes), float64(r.StoredBytes)
	if err := os.RemoveAll(work); err != nil {
		t.Fatal(err)
	}
	return done
}

// watch adds up how long a Job is in each stage.
func watch(progress *engine.Progress) (stop func() map[string]time.Duration) {
	ended, told := make(chan struct{}), make(chan map[string]time.Duration)
	go func() {
		tick := time.NewTicker(stageLook)
		defer tick.Stop()
		stages, last := map[string]time.Duration{}, time.Now()
		for {
			select {
			case <-tick.C:
				now := time.Now()
				stages[progress.Read(now).Stage] += now.Sub(last)
				last = now
			case <-ended:
				told <- stages
				return
			}
		}
	}()
	return func() map[string]time.Duration {
		close(ended)
		return <-told
	}
}

// shell runs a script and returns how long it took. Its arguments are $1 and so on, its environment has the password of the
// operator's account for the clients of MySQL.
func (s *site) shell(t *testing.T, script string, arguments ...string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, "bash", append([]string{"-c", "set -euo pipefail; " + script, "bench"}, arguments...)...) //nolint:gosec // our own
	command.Env = append(os.Environ(), "MYSQL_PWD="+s.Passwords[agent.AccountAdmin])
	began := time.Now()
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, text)
	}
	return time.Since(began)
}

// copied is a copy that was made by hand, and how long its parts took.
type copied struct {
	archive     string
	clone, pack time.Duration
}

// byHand clones the replica locally and packs the copy into a file.
func (s *site) byHand(t *testing.T) copied {
	t.Helper()
	dir := scratch(t)
	c := copied{archive: dir + "/copy.tar.zst"}
	began := time.Now()
	execute(t, s.admin(s.replica), "CLONE LOCAL DATA DIRECTORY = '"+dir+"/copy'")
	c.clone = time.Since(began)
	c.pack = s.shell(t, `tar -C "$1" -cf - . | zstd -q -T0 -o "$2"; sync "$2"`, dir+"/copy", c.archive)
	s.shell(t, `rm -r "$1"`, dir+"/copy")
	return c
}

// byDump dumps the replica with mysqldump.
func (s *site) byDump(t *testing.T) time.Duration {
	t.Helper()
	return s.shell(t, `"$1" --no-defaults --socket="$2" --user="$3" --single-transaction --set-gtid-purged=OFF --databases bench | zstd -q -T0 -o "$4"; sync "$4"`,
		lab.Client("mysqldump"), s.replica.Conf.ServerSocket(), agent.AccountAdmin, scratch(t)+"/dump.sql.zst")
}
