// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/backup/engine"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/mysqld"
)

// backupID is an id of a backup, as the controller makes them.
const backupID = "20261121T160500Z-0123abcd"

// backupSite is a store and a work volume for the Jobs of one test.
type backupSite struct {
	t    *testing.T
	pair pair
	// store is the directory of the store.
	store string
	// program stands in for mysqld, if it is set.
	program string
}

func newBackupSite(t *testing.T, p pair) *backupSite {
	t.Helper()
	dir, err := os.MkdirTemp(lab.Dir, "store")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &backupSite{t: t, pair: p, store: dir}
}

// config is a fresh work volume with sizes that make several packs of a small database.
func (s *backupSite) config() engine.Config {
	s.t.Helper()
	work, err := os.MkdirTemp(lab.Dir, "work")
	if err != nil {
		s.t.Fatal(err)
	}
	run, err := os.MkdirTemp(lab.Dir, "r")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _, _ = os.RemoveAll(work), os.RemoveAll(run) })
	program := s.program
	if program == "" {
		program = lab.Program
	}
	return engine.Config{
		WorkDir: work, RunDir: run, Mysqld: program, Mysqldump: lab.Client("mysqldump"), Mysql: lab.Client("mysql"), MemoryBytes: 512 << 20, Workers: 2,
		PackBytes: 8 << 20, PartBytes: 3 << 20, Patience: 5 * time.Second, Stall: 5 * time.Second,
	}
}

// input asks for a backup from the replica, or else the primary.
func (s *backupSite) input(operation wire.Operation, attempt string) *wire.JobInput {
	p := s.pair
	return &wire.JobInput{
		Operation: operation, Store: wire.Store{Provider: wire.ProviderVolume, Directory: s.store},
		Cluster: wire.ClusterKey{Namespace: "ns", Name: "db", UID: "0123abcd-0000-0000-0000-000000000000"},
		Backup:  backupID, Attempt: attempt, Donors: []wire.Donor{donorOf(p.replica), donorOf(p.primary)},
		Primary: fmt.Sprintf("127.0.0.1:%d", p.primary.Conf.Port), User: agent.AccountDataProtection,
		Password: p.Passwords[agent.AccountDataProtection], CA: string(lab.CA.CertPEM()), MyCnf: p.MyCnf,
	}
}

func donorOf(i *mysqld.Instance) wire.Donor {
	return wire.Donor{Name: i.Name, Address: "127.0.0.1", Port: i.Conf.Port}
}

func (s *backupSite) run(ctx context.Context, in *wire.JobInput) wire.JobResult {
	s.t.Helper()
	return engine.Run(ctx, s.config(), in)
}

// manifest reads the backup's manifest; nil when there is none.
func (s *backupSite) manifest(in *wire.JobInput) *manifest.Manifest {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.store, manifest.Key(in.Cluster, in.Backup)))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// objects lists what is in the store, by key.
func (s *backupSite) objects() []string {
	s.t.Helper()
	var keys []string
	err := filepath.WalkDir(s.store, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			keys = append(keys, strings.TrimPrefix(path, s.store+"/"))
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// load writes on the primary until the test ends, and returns how to stop it.
func (p pair) load(t *testing.T) (stop func()) {
	t.Helper()
	session := p.root(p.primary)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ctx.Err() == nil; n++ {
			statement := fmt.Sprintf("INSERT INTO d.log (v) VALUES (REPEAT('%d', 50))", n)
			if err := session.Exec(context.WithoutCancel(ctx), statement); err != nil {
				return // the session ends with the test
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// fill makes tables of several sizes, kinds and names.
func (p pair) fill(t *testing.T) {
	t.Helper()
	execAll(t, p.root(p.primary), "CREATE DATABASE d", "USE d", "CREATE DATABASE `odd ``name``/é`",
		"CREATE TABLE d.log (i BIGINT PRIMARY KEY AUTO_INCREMENT, v TEXT)",
		"CREATE TABLE d.big (i INT PRIMARY KEY, v LONGBLOB)", "INSERT INTO d.big SELECT 1, RANDOM_BYTES(1024)",
		"INSERT INTO d.big WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, REPEAT(SHA2(i, 256), 200) FROM n",
		"CREATE TABLE d.parts (i INT PRIMARY KEY) PARTITION BY HASH (i) PARTITIONS 3", "INSERT INTO d.parts VALUES (1), (2), (3), (4)",
		"CREATE TABLE d.words (i INT PRIMARY KEY, v TEXT, FULLTEXT (v))", "INSERT INTO d.words VALUES (1, 'some words')",
		"CREATE VIEW d.seen AS SELECT i FROM d.parts", "CREATE PROCEDURE d.act() SELECT 1",
		"CREATE TRIGGER d.trig BEFORE INSERT ON d.parts FOR EACH ROW SET NEW.i = NEW.i",
		"CREATE EVENT d.happens ON SCHEDULE EVERY 1 YEAR DO DELETE FROM d.parts WHERE i = 0",
		"CREATE TABLE `odd ``name``/é`.`ta``ble` (i INT PRIMARY KEY)", "INSERT INTO `odd ``name``/é`.`ta``ble` VALUES (7)")
}

// TestABackupOfAPair takes one pair through everything that a physical backup may meet.
func TestABackupOfAPair(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.fill(t)
	stop := p.load(t)
	t.Run("a backup under load is whole, and what it says of itself is so", func(t *testing.T) { backupUnderLoad(t, p) })
	t.Run("an encrypted backup holds nothing in clear", func(t *testing.T) { backupEncrypted(t, p) })
	t.Run("a donor that is busy gives way to the next, and all busy is no failure of the backup", func(t *testing.T) { backupBusy(t, p) })
	t.Run("a certificate of a stranger is refused", func(t *testing.T) {
		s := newBackupSite(t, p)
		in := s.input(wire.OperationBackup, "one")
		in.CA = strangersCA(t)
		if r := s.run(t.Context(), in); r.Reason != wire.ReasonDonor || !strings.Contains(r.Message, "certificate") {
			t.Errorf("result %+v", r)
		}
	})
	t.Run("a damaged table is found and nothing becomes a backup", func(t *testing.T) { backupDamaged(t, p) })
	t.Run("SIGTERM in the middle leaves no manifest, and the next attempt succeeds", func(t *testing.T) { backupInterrupted(t, p) })
	t.Run("a dump loads into a fresh server", func(t *testing.T) { dumpLoads(t, p) })
	stop()
	t.Run("a primary whose commits wait is copied once they are acknowledged", func(t *testing.T) { backupWaiting(t, p) })
	t.Run("a copy that the primary does not confirm is no backup", func(t *testing.T) { backupAhead(t, p) })
}

func backupUnderLoad(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	in := s.input(wire.OperationBackup, "one")
	before := time.Now()
	r := s.run(t.Context(), in)
	if !r.Succeeded || r.Donor != p.replica.Name {
		t.Fatalf("result %+v", r)
	}
	m := s.manifest(in)
	if m == nil {
		t.Fatal("no manifest")
	}
	set, err := gtid.Parse(m.GTIDExecuted)
	if err != nil || set.Empty() {
		t.Errorf("executed %q, %v", m.GTIDExecuted, err)
	}
	if m.ConsistentAt.Before(before) || m.ConsistentAt.After(m.CreatedAt) || !m.ConsistentAt.Equal(r.ConsistentAt) {
		t.Errorf("consistent at %v, created at %v, begun at %v, result %v", m.ConsistentAt, m.CreatedAt, before, r.ConsistentAt)
	}
	if want := p.replica.Status().Server.ServerUUID; m.ServerUUID != want {
		t.Errorf("server UUID %s, want %s", m.ServerUUID, want)
	}
	if m.Settings["lower_case_table_names"] != "0" || m.Settings["innodb_page_size"] != "16384" {
		t.Errorf("settings %v", m.Settings)
	}
	for name, rows := range map[string]int64{"d.big": 900, "d.parts": 4, "d.words": 1, "odd `name`/é.ta`ble": 1} {
		if got := rowsOf(m, name); got != rows {
			t.Errorf("table %s has %d rows recorded, want %d", name, got, rows)
		}
	}
	checkPacks(t, s, m)
	for _, f := range m.Files {
		if base := filepath.Base(f.Path); base == "auto.cnf" || strings.HasSuffix(base, ".pem") || strings.HasPrefix(base, "binlog.") || strings.HasPrefix(base, "relay") {
			t.Errorf("%s is in the backup", f.Path)
		}
	}
	if len(m.Packs) < 3 {
		t.Errorf("%d packs are too few to show anything", len(m.Packs))
	}
	// An attempt that does not know that another has succeeded says the same, and changes nothing.
	objects := s.objects()
	again := s.run(t.Context(), s.input(wire.OperationBackup, "two"))
	if !again.Succeeded || !again.ConsistentAt.Equal(r.ConsistentAt) || len(s.objects()) != len(objects) {
		t.Errorf("once more: %+v", again)
	}
	if r := s.run(t.Context(), s.input(wire.OperationDelete, "")); !r.Succeeded || len(s.objects()) > 0 {
		t.Errorf("deleting: %+v, left are %v", r, s.objects())
	}
}

func rowsOf(m *manifest.Manifest, name string) int64 {
	for _, table := range m.Tables {
		if table.Schema+"."+table.Name == name {
			return table.Rows
		}
	}
	return -1
}

// checkPacks compares the stored bytes with their sums.
func checkPacks(t *testing.T, s *backupSite, m *manifest.Manifest) {
	t.Helper()
	for _, pack := range m.Packs {
		text, err := os.ReadFile(filepath.Join(s.store, m.ObjectKey(pack.Name)))
		if err != nil {
			t.Fatal(err)
		}
		if sum := fmt.Sprintf("%x", sha256.Sum256(text)); sum != pack.SHA256 || int64(len(text)) != pack.StoredBytes {
			t.Errorf("%s: %d bytes with sum %s, recorded %d with %s", pack.Name, len(text), sum, pack.StoredBytes, pack.SHA256)
		}
	}
}

func backupEncrypted(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	in := s.input(wire.OperationBackup, "one")
	in.Recipients = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\n"
	if r := s.run(t.Context(), in); !r.Succeeded {
		t.Fatalf("result %+v", r)
	}
	m := s.manifest(in)
	if !m.Encrypted {
		t.Error("the manifest does not say that it is encrypted")
	}
	for _, pack := range m.Packs {
		text, err := os.ReadFile(filepath.Join(s.store, m.ObjectKey(pack.Name)))
		if err != nil || !bytes.HasPrefix(text, []byte("age-encryption.org/v1\n")) {
			t.Errorf("%s is not encrypted: %v", pack.Name, err)
		}
	}
	in.Backup, in.Recipients = "20261121T160500Z-0000abcd", "nonsense"
	if r := s.run(t.Context(), in); r.Reason != wire.ReasonRefused || s.manifest(in) != nil {
		t.Errorf("with nonsense for a key: %+v", r)
	}
}

func backupBusy(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	third := mysqld.NewInstance(t, &lab, "third")
	third.Start()
	p.Do(third, api.CommandConfigure, p.Configuration(third))
	source, reached := throttled(t, p.Cluster, p.replica, 4<<20)
	p.Do(third, api.CommandClone, &api.CloneRequest{Donor: source})
	<-reached
	defer third.Crash()
	in := s.input(wire.OperationBackup, "one")
	in.Donors = in.Donors[:1]
	if r := s.run(t.Context(), in); r.Reason != wire.ReasonDonorBusy || s.manifest(in) != nil {
		t.Errorf("with one busy donor: %+v", r)
	}
	r := s.run(t.Context(), s.input(wire.OperationBackup, "two"))
	if !r.Succeeded || r.Donor != p.primary.Name {
		t.Errorf("with a second donor: %+v", r)
	}
}

// backupDamaged puts a program in the place of mysqld that damages a page of a table when the copy is booted.
func backupDamaged(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	s.program = filepath.Join(lab.Dir, "damaging-mysqld")
	script := "#!/bin/sh\nfor a in \"$@\"; do case \"$a\" in --skip-grant-tables)\n" +
		"for b in \"$@\"; do case \"$b\" in --datadir=*) f=${b#--datadir=}/d/big.ibd;; esac; done\n" +
		"printf damaged | dd of=$f bs=1 seek=$((16384*20+5000)) conv=notrunc 2> /dev/null;; esac; done\nexec " + lab.Program + " \"$@\"\n"
	if err := os.WriteFile(s.program, []byte(script), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	in := s.input(wire.OperationBackup, "one")
	r := s.run(t.Context(), in)
	if r.Reason != wire.ReasonCheck || !strings.Contains(r.Message, "`d`.`big`") {
		t.Errorf("result %+v", r)
	}
	if s.manifest(in) != nil {
		t.Error("a damaged copy became a backup")
	}
}

// backupInterrupted runs the program itself, as a Pod does.
func backupInterrupted(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	program := filepath.Join(lab.Dir, "moco-backup")
	if text, err := exec.Command("go", "build", "-o", program, "github.com/moco-mysql/moco/cmd/moco-backup").CombinedOutput(); err != nil { //nolint:gosec // own program
		t.Fatalf("building: %v\n%s", err, text)
	}
	first := s.startJob(program, s.input(wire.OperationBackup, "one"))
	first.awaitStage(t, "checking every table")
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if r := first.end(t); r.Reason != wire.ReasonInterrupted {
		t.Errorf("result %+v", r)
	}
	in := s.input(wire.OperationBackup, "two")
	if s.manifest(in) != nil {
		t.Error("an attempt that was interrupted left a manifest")
	}
	// What an attempt leaves that is killed while it sends.
	garbage := filepath.Join(s.store, manifest.ObjectKey(in.Cluster, in.Backup, "one", manifest.PackName(0)))
	if err := os.MkdirAll(filepath.Dir(garbage), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(garbage, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := s.startJob(program, in).end(t); !r.Succeeded || s.manifest(in) == nil || len(r.GTIDExecuted) == 0 {
		t.Errorf("the next attempt: %+v", r)
	}
	if _, err := os.Stat(garbage); err == nil {
		t.Error("what the first attempt left is still there")
	}
}

// runningJob is a Job as a process.
type runningJob struct {
	cmd         *exec.Cmd
	output      *mysqld.Buffer
	termination string
	port        int
}

func (s *backupSite) startJob(program string, in *wire.JobInput) *runningJob {
	s.t.Helper()
	cfg := s.config()
	job, termination := filepath.Join(cfg.RunDir, "job.json"), filepath.Join(cfg.RunDir, "termination")
	text, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(job, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	port := int(mysqld.FreePort(s.t))
	cmd := exec.Command(program, "run", "--job="+job, "--termination-log="+termination, "--work-dir="+cfg.WorkDir, //nolint:gosec // own program
		"--run-dir="+cfg.RunDir, "--mysqld="+cfg.Mysqld, "--bind-address=127.0.0.1", fmt.Sprintf("--progress-port=%d", port))
	output := &mysqld.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return &runningJob{cmd: cmd, output: output, termination: termination, port: port}
}

// end waits for the end and returns what the termination message says.
func (r *runningJob) end(t *testing.T) wire.JobResult {
	t.Helper()
	failed := r.cmd.Wait()
	text, err := os.ReadFile(r.termination)
	if err != nil {
		t.Fatalf("no termination message: %v\n%s", err, r.output)
	}
	var result wire.JobResult
	if err := json.Unmarshal(text, &result); err != nil {
		t.Fatal(err)
	}
	if result.Succeeded != (failed == nil) || len(text) > 4096 {
		t.Errorf("the process ended with %v, its message is %s", failed, text)
	}
	return result
}

// dumpLoads dumps, loads the dump with the mysql client into a fresh server and compares.
func dumpLoads(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	in := s.input(wire.OperationDump, "one")
	in.Schemas = []string{"d", "odd `name`/é"}
	if r := s.run(t.Context(), in); !r.Succeeded || r.Tables != 5 {
		t.Fatalf("result %+v", r)
	}
	m := s.manifest(in)
	if m.Method != manifest.Logical || m.Dump == nil {
		t.Fatalf("manifest %+v", m)
	}
	fresh := mysqld.NewInstance(t, &lab, "fresh")
	fresh.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(fresh)
	load := exec.Command(lab.Client("mysql"), "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", fmt.Sprintf("--port=%d", fresh.Conf.Port), //nolint:gosec // the lab's
		"--user=root", "--password="+c.Passwords["root"])
	load.Stdin = bytes.NewReader(unsealed(t, filepath.Join(s.store, m.ObjectKey(m.Dump.Name))))
	if text, err := load.CombinedOutput(); err != nil {
		t.Fatalf("loading: %v\n%s", err, text)
	}
	root := fresh.Session(fresh.Endpoint("root", c.Passwords["root"]))
	source := p.root(p.primary)
	for _, query := range []string{
		"CHECKSUM TABLE d.big, d.parts, d.words, `odd ``name``/é`.`ta``ble` EXTENDED",
		"SELECT COUNT(*) FROM d.seen", "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema='d'",
		"SELECT event_name FROM information_schema.events WHERE event_schema='d'",
		"SELECT routine_name FROM information_schema.routines WHERE routine_schema='d'",
	} {
		if want, got := answers(t, source, query), answers(t, root, query); fmt.Sprint(want) != fmt.Sprint(got) || len(got) == 0 {
			t.Errorf("%s: %v after loading, want %v", query, got, want)
		}
	}
	in = s.input(wire.OperationDump, "two")
	in.Backup, in.Schemas = "20261121T160500Z-0000abcd", []string{"missing"}
	if r := s.run(t.Context(), in); r.Reason != wire.ReasonRefused || !strings.Contains(r.Message, "`missing`") {
		t.Errorf("a schema that is not there: %+v", r)
	}
}

func answers(t *testing.T, session *mysql.Session, query string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	record, err := session.Record(ctx, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return record
}

// backupAhead has the replica hold a transaction that the primary does not have.
func backupAhead(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	admin := p.replica.Session(adminEndpoint(p.replica, p.Passwords[agent.AccountAdmin]))
	if err := admin.CommitEmpty(t.Context(), "99999999-2222-3333-4444-555555555555:1"); err != nil {
		t.Fatal(err)
	}
	in := s.input(wire.OperationBackup, "one")
	in.Donors = in.Donors[:1]
	r := s.run(t.Context(), in)
	if r.Reason != wire.ReasonAhead || !strings.Contains(r.Message, "99999999-2222-3333-4444-555555555555:1") {
		t.Errorf("result %+v", r)
	}
	if s.manifest(in) != nil || len(s.objects()) > 0 {
		t.Errorf("in the store: %v", s.objects())
	}
}

// backupWaiting copies a primary on which a commit waits for the replica: the clone waits, too, and goes on with it.
func backupWaiting(t *testing.T, p pair) {
	s := newBackupSite(t, p)
	p.loseReplica(t)
	admin := p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))
	outcome := commit(p.root(p.primary), "INSERT INTO d.parts VALUES (99)")
	awaitSQL(t, admin, "1", waits)
	in := s.input(wire.OperationBackup, "one")
	in.Donors = in.Donors[1:]
	cfg := s.config()
	cfg.Stall = mysqld.Patience
	ended := make(chan wire.JobResult, 1)
	go func() { ended <- engine.Run(context.Background(), cfg, in) }()
	awaitSQL(t, admin, "1", "SELECT COUNT(*) > 0 FROM performance_schema.processlist WHERE user = ? AND command LIKE 'clone%'", agent.AccountDataProtection)
	p.Follow(p.replica, p.primary, api.AckOn)
	if err := <-outcome; err != nil {
		t.Fatal(err)
	}
	r := <-ended
	if !r.Succeeded {
		t.Fatalf("result %+v", r)
	}
	if got := rowsOf(s.manifest(in), "d.parts"); got != 4 && got != 5 {
		t.Errorf("%d rows recorded, want 4, or 5 with the one that waited", got)
	}
}
