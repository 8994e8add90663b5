// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	agekey "filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/mysqld"
)

// origin is a cluster with an encrypted backup, an encrypted archive, and a past that is known at some points.
type origin struct {
	solo
	site     *backupSite
	identity string
	// backup, calm, undropped and latest are the points.
	backup, calm, undropped, latest point
	// dropped is the GTID of a DROP TABLE behind undropped.
	dropped string
}

// point is a moment of the origin with nothing going on.
type point struct {
	at       time.Time
	executed gtid.Set
	tables   map[string]string
}

// own are the tables of the tenant.
const own = "SELECT CONCAT('`', REPLACE(table_schema, '`', '``'), '`.`', REPLACE(table_name, '`', '``'), '`') FROM information_schema.tables WHERE table_type = 'BASE TABLE'" +
	" AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema', 'moco') ORDER BY 1"

// checksums are those of all tables of the tenant.
func checksums(t *testing.T, session *mysql.Session) map[string]string {
	t.Helper()
	names, err := session.Column(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for _, name := range names {
		row, err := session.Record(t.Context(), "CHECKSUM TABLE "+name+" EXTENDED")
		if err != nil {
			t.Fatal(err)
		}
		sums[name] = row["Checksum"]
	}
	return sums
}

// point notes the present. Nothing commits shortly before and behind it.
func (o *origin) point(t *testing.T) point {
	t.Helper()
	admin := o.adminSession()
	execAll(t, admin, "DO SLEEP(0.05)")
	now, err := admin.Column(t.Context(), "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)")
	if err != nil {
		t.Fatal(err)
	}
	var micros int64
	if _, err := fmt.Sscan(now[0], &micros); err != nil {
		t.Fatal(err)
	}
	p := point{at: time.UnixMicro(micros).UTC(), executed: parse(t, gtids(t, o.i, o.admin)), tables: checksums(t, o.root())}
	execAll(t, admin, "DO SLEEP(0.05)")
	return p
}

// change makes transactions of every kind on several sessions, in several binary log files.
func (o *origin) change(t *testing.T, mark string) {
	t.Helper()
	admin := o.adminSession()
	execAll(t, admin, "SET GLOBAL binlog_transaction_compression = NOT @@GLOBAL.binlog_transaction_compression")
	root := o.root()
	stop := load(t, o.endpoint(), 4, "INSERT INTO d.t (v) VALUES (REPEAT(UUID(), 20))")
	execAll(t, admin, "FLUSH BINARY LOGS")
	execAll(t, root,
		"CREATE TABLE d.`"+mark+"` (i INT PRIMARY KEY, v LONGBLOB, k INT, KEY (k))", "INSERT INTO d.`"+mark+"` SELECT 1, REPEAT('x', 20000000), 1",
		"CREATE TABLE d.`"+mark+"2` SELECT * FROM d.t LIMIT 10", "ALTER TABLE d.`"+mark+"2` ADD COLUMN z INT DEFAULT 7",
		"CREATE USER '"+mark+"'@'%' IDENTIFIED BY 'p'", "GRANT SELECT ON d.* TO '"+mark+"'@'%'",
		"XA START '"+mark+"'", "INSERT INTO d.`"+mark+"` VALUES (2, 'xa', 2)", "XA END '"+mark+"'", "XA PREPARE '"+mark+"'")
	execAll(t, admin, "FLUSH BINARY LOGS")
	execAll(t, o.root(), "XA COMMIT '"+mark+"'")
	execAll(t, root, "UPDATE d.t SET v = CONCAT(v, '"+mark+"') WHERE i % 3 = 0", "DELETE FROM d.t WHERE i % 7 = 0")
	if n := stop(); n == 0 {
		t.Error("no load")
	}
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	key, err := agekey.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	target := newArchive(t)
	target.Recipients = key.Recipient().String() + "\n"
	o := &origin{solo: newSolo(t, target), identity: key.String()}
	o.site = newBackupSite(t, pair{Cluster: o.Cluster, primary: o.i, replica: o.i})
	o.site.store = target.Store.Directory
	if err := o.root().Exec(t.Context(), "ALTER USER USER() IDENTIFIED BY ? RETAIN CURRENT PASSWORD", o.Passwords[agent.AccountRoot]); err != nil {
		t.Fatal(err)
	}
	execAll(t, o.root(), "CREATE TABLE d.precious (i INT PRIMARY KEY)", "INSERT INTO d.precious VALUES (1), (2)")
	o.change(t, "first")
	o.takeBackup(t, backupID)
	o.backup = o.point(t)
	o.change(t, "second")
	o.calm = o.point(t)
	execAll(t, o.root(), "INSERT INTO d.precious VALUES (3)")
	o.undropped = o.point(t)
	execAll(t, o.root(), "DROP TABLE d.precious")
	o.dropped = parse(t, gtids(t, o.i, o.admin)).Subtract(o.undropped.executed).String()
	o.change(t, "third")
	o.latest = o.point(t)
	awaitArchived(t, o.i, o.admin)
	o.i.Await("the archive is caught up", func(s *api.Status) bool {
		return s.Archive != nil && s.Archive.RecoverableUpTo.After(o.latest.at)
	})
	return o
}

func (o *origin) takeBackup(t *testing.T, id string) {
	t.Helper()
	in := o.site.input(wire.OperationBackup, "one")
	in.Backup, in.Cluster, in.Recipients, in.Donors = id, o.Archive.Cluster, o.Archive.Recipients, in.Donors[:1]
	if r := o.site.run(t.Context(), in); !r.Succeeded {
		t.Fatalf("the backup failed: %+v", r)
	}
}

func (o *origin) source(target wire.Target) wire.Source {
	return wire.Source{Store: o.Archive.Store, Cluster: o.Archive.Cluster, Identity: o.identity, Target: target}
}

// successor is a cluster that is to begin with restored data.
type successor struct {
	*mysqld.Cluster
	i *mysqld.Instance
}

func newSuccessor(t *testing.T) successor {
	t.Helper()
	s := successor{Cluster: mysqld.NewCluster(t, &lab), i: mysqld.NewInstance(t, &lab, "r")}
	for name := range s.Passwords {
		s.Passwords[name] += " anew"
	}
	s.Record.ClusterUUID = "99999999-2222-3333-4444-555555555555"
	s.Application = &api.Account{Username: "app", Password: "secret"}
	s.i.Start()
	s.Do(s.i, api.CommandConfigure, s.Configuration(s.i))
	s.Choose(s.i)
	s.i.Await("the image is known", func(st *api.Status) bool { return st.ImageVersion != "" })
	return s
}

// restore begins a restore and waits for its end.
func (s successor) restore(source wire.Source) *api.Status {
	s.Do(s.i, api.CommandRestore, &api.RestoreRequest{Record: s.Record, Source: source, Database: "app", User: "app"})
	return s.i.Await("the restore ends", func(st *api.Status) bool {
		return st.Task != nil && st.Task.State != api.TaskRunning && st.Volume != api.VolumeFilling
	})
}

// wantPoint demands that the restored cluster is the origin as it was at a point, and a cluster of its own.
func (s successor) wantPoint(t *testing.T, source wire.Source, want point) {
	t.Helper()
	status := s.restore(source)
	if status.Task.State != api.TaskDone || status.RestoredFrom != source.Fingerprint() || status.Unvouched != "" {
		t.Fatalf("status %s", mysqld.Describe(status))
	}
	s.StartServer(s.i)
	server := s.i.Status().Server
	if diff := cmp.Diff(want.executed.String(), parse(t, server.GTIDExecuted).String()); diff != "" {
		t.Errorf("executed (-want +got):\n%s", diff)
	}
	if server.GTIDPurged != server.GTIDExecuted {
		t.Errorf("purged %s, executed %s", server.GTIDPurged, server.GTIDExecuted)
	}
	if server.Channel != nil {
		t.Errorf("channel %s", mysqld.Describe(server.Channel))
	}
	s.Lead(s.i, 0)
	s.AwaitMarker(s.i, s.Mark(s.i, 1))
	s.Opened(0, 1, s.i)
	s.Open(s.i)
	root := s.i.Session(s.i.Endpoint(agent.AccountRoot, s.Passwords[agent.AccountRoot]))
	if diff := cmp.Diff(want.tables, checksums(t, root)); diff != "" {
		t.Errorf("tables (-origin +restored):\n%s", diff)
	}
	s.wantAccounts(t, root)
}

// wantAccounts demands the accounts of this cluster and none of the former one.
func (s successor) wantAccounts(t *testing.T, root *mysql.Session) {
	t.Helper()
	names, err := root.Column(t.Context(), "SELECT CONCAT(user, '@', host) FROM mysql.user WHERE user LIKE 'moco-%' ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"moco-admin@127.0.0.1", "moco-admin@localhost", "moco-dataprotection@%", "moco-monitoring@localhost", "moco-probe@localhost",
		api.ReplicationUser(s.i.Status().Incarnation) + "@%",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("internal accounts (-want +got):\n%s", diff)
	}
	if former, err := s.i.Endpoint(agent.AccountRoot, strings.TrimSuffix(s.Passwords[agent.AccountRoot], " anew")).Accepts(t.Context()); former {
		t.Errorf("root comes in with the second password that it had: %v", err)
	}
	app := s.i.Session(s.i.Endpoint("app", "secret"))
	execAll(t, app, "CREATE TABLE app.t (i INT PRIMARY KEY)")
	if _, err := s.i.Endpoint("first", "p").Accepts(t.Context()); err != nil {
		t.Errorf("a tenant's account: %v", err)
	}
}

// wantRefused demands that a restore is refused and the volume untouched.
func (s successor) wantRefused(t *testing.T, source wire.Source, words ...string) {
	t.Helper()
	status := s.restore(source)
	if status.Task.State != api.TaskFailed || !status.Task.Refused || status.Volume != api.VolumeEmpty || status.RestoredFrom != "" {
		t.Fatalf("status %s", mysqld.Describe(status))
	}
	for _, word := range words {
		if !strings.Contains(status.Task.Error, word) {
			t.Errorf("%q does not say %q", status.Task.Error, word)
		}
	}
	if _, err := os.Lstat(filepath.Join(s.i.Conf.DataRoot, "data")); !os.IsNotExist(err) {
		t.Errorf("the data directory: %v", err)
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	for name, c := range map[string]struct {
		target wire.Target
		want   *point
	}{
		"the backup":                             {wire.Target{}, &o.backup},
		"a time":                                 {wire.Target{Time: o.calm.at}, &o.calm},
		"a transaction":                          {wire.Target{GTID: lastOf(t, o.calm.executed, o.i.Status().Server.ServerUUID)}, &o.calm},
		"before a transaction, to undo its DROP": {wire.Target{BeforeGTID: o.dropped}, &o.undropped},
		"the latest":                             {wire.Target{Latest: true}, &o.latest},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSuccessor(t)
			s.wantPoint(t, o.source(c.target), *c.want)
		})
	}
	t.Run("what can never succeed is refused", func(t *testing.T) { o.refusals(t) })
	t.Run("what is damaged is refused", func(t *testing.T) { o.damages(t) })
	t.Run("what may pass is tried again", func(t *testing.T) { o.retries(t) })
}

// lastOf is the highest transaction of a server.
func lastOf(t *testing.T, set gtid.Set, uuid string) string {
	t.Helper()
	list := set.Intervals(gtid.Source{UUID: uuid})
	if len(list) == 0 {
		t.Fatalf("nothing of %s in %s", uuid, set)
	}
	return fmt.Sprintf("%s:%d", uuid, list[len(list)-1].Last)
}

func (o *origin) refusals(t *testing.T) {
	s := newSuccessor(t)
	stranger, err := agekey.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	altered := func(alter func(*wire.Source)) wire.Source {
		source := o.source(wire.Target{Latest: true})
		alter(&source)
		return source
	}
	for name, c := range map[string]struct {
		source wire.Source
		words  []string
	}{
		"a key of another":         {altered(func(s *wire.Source) { s.Identity = stranger.String() }), []string{"private key"}},
		"no key":                   {altered(func(s *wire.Source) { s.Identity = "" }), []string{"private key"}},
		"a backup that is not":     {altered(func(s *wire.Source) { s.Backup = "20200101T000000Z-0123abcd" }), []string{"there is no backup"}},
		"another cluster":          {altered(func(s *wire.Source) { s.Cluster.Name = "other" }), []string{"there is no backup"}},
		"a point before the first": {o.source(wire.Target{Time: o.backup.at.Add(-time.Hour)}), []string{"can be restored", backupID}},
		"a point behind the last":  {o.source(wire.Target{Time: time.Now().Add(time.Hour)}), []string{"is not covered", "can be restored"}},
		"a transaction of nobody":  {o.source(wire.Target{GTID: "00000000-0000-0000-0000-00000000000a:1"}), []string{"no archived binary log"}},
		"two points":               {o.source(wire.Target{Latest: true, GTID: o.dropped}), []string{"more than one"}},
	} {
		t.Run(name, func(t *testing.T) { s.wantRefused(t, c.source, c.words...) })
	}
	t.Run("the same request is not tried again at once", func(t *testing.T) {
		source := o.source(wire.Target{GTID: "00000000-0000-0000-0000-00000000000b:1"})
		s.wantRefused(t, source)
		reason := s.Refused(s.i, api.CommandRestore, &api.RestoreRequest{Record: s.Record, Source: source, Database: "app", User: "app"})
		if task := s.i.Status().Task; reason != api.ErrorPrecondition || !task.Refused {
			t.Errorf("reason %q, task %s", reason, mysqld.Describe(task))
		}
	})
}

// damaged is the source of a restore from a copy of the store that was altered: the files whose key matches the pattern.
func (o *origin) damaged(t *testing.T, pattern string, alter func(path string) error) wire.Source {
	t.Helper()
	source := o.source(wire.Target{Latest: true})
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(source.Store.Directory)); err != nil {
		t.Fatal(err)
	}
	source.Store.Directory = copied
	paths, err := filepath.Glob(filepath.Join(copied, source.Cluster.Root(), pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no file is like %s: %v", pattern, err)
	}
	if err := alter(paths[len(paths)-1]); err != nil {
		t.Fatal(err)
	}
	return source
}

func flipped(path string) error {
	content, err := os.ReadFile(path)
	if err == nil {
		content[len(content)/2] ^= 1
		err = os.WriteFile(path, content, 0o600)
	}
	return err
}

func shortened(path string) error { return os.Truncate(path, 1000) }

func (o *origin) damages(t *testing.T) {
	s := newSuccessor(t)
	for name, c := range map[string]struct {
		pattern string
		alter   func(string) error
		words   []string
	}{
		"a flipped byte in a pack":     {"backups/*/*/pack-*", flipped, []string{"damaged", "pack-"}},
		"a flipped byte in a segment":  {"archive/*/seg-*", flipped, []string{"damaged", "seg-"}},
		"a flipped byte in the index":  {"archive/*/page-*", flipped, []string{"index of the archive"}},
		"a flipped byte in a manifest": {"backups/*/manifest.json", flipped, []string{"damaged", backupID}},
		"a pack that is cut off":       {"backups/*/*/pack-*", shortened, []string{"1000 bytes"}},
		"a segment that is not there":  {"archive/*/seg-*", os.Remove, []string{"missing", "seg-"}},
		"a pack that is not there":     {"backups/*/*/pack-*", os.Remove, []string{"missing", "pack-"}},
		"a manifest that was not made": {"backups/*/manifest.json", os.Remove, []string{"there is no backup"}},
	} {
		t.Run(name, func(t *testing.T) { s.wantRefused(t, o.damaged(t, c.pattern, c.alter), c.words...) })
	}
}

// retries has a restore fail for reasons that may pass, and then succeed on the same volume.
func (o *origin) retries(t *testing.T) {
	s := newSuccessor(t)
	away := o.source(wire.Target{Latest: true})
	away.Store = wire.Store{Provider: wire.ProviderS3, Bucket: "b", Endpoint: "http://127.0.0.1:1", PathStyle: true, Credentials: map[string]string{
		"accessKeyID": "id", "secretAccessKey": "key",
	}}
	s.wantFailed(t, s.restore(away))
	source := o.source(wire.Target{Latest: true})
	s.Do(s.i, api.CommandRestore, &api.RestoreRequest{Record: s.Record, Source: source, Database: "app", User: "app"})
	s.i.Await("it replays", func(st *api.Status) bool { return st.Task.Stage == "replaying transactions" })
	s.i.KillChildren()
	s.wantFailed(t, s.i.Await("the restore fails", func(st *api.Status) bool {
		return st.Task.State != api.TaskRunning && st.Volume != api.VolumeFilling
	}))
	s.wantPoint(t, source, o.latest)
}

func (s successor) wantFailed(t *testing.T, status *api.Status) {
	t.Helper()
	if status.Task.State != api.TaskFailed || status.Task.Refused || status.Task.Error == "" || status.Volume != api.VolumeEmpty {
		t.Errorf("status %s", mysqld.Describe(status))
	}
}

// TestRestoreOfAReplica: the copy of a replica knows a source and received what it followed; what begins with it is a primary
// that follows nobody, and has no archive to replay.
func TestRestoreOfAReplica(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.fill(t)
	site := newBackupSite(t, p)
	in := site.input(wire.OperationBackup, "one")
	r := site.run(t.Context(), in)
	if !r.Succeeded || r.Donor != p.replica.Name {
		t.Fatalf("the backup: %+v", r)
	}
	want := point{executed: parse(t, site.manifest(in).GTIDExecuted), tables: checksums(t, p.root(p.primary))}
	source := wire.Source{Store: in.Store, Cluster: in.Cluster, Backup: in.Backup}
	newSuccessor(t).wantPoint(t, source, want)
	t.Run("what has no archive reaches no point but its own", func(t *testing.T) {
		source.Target = wire.Target{Time: time.Now()}
		newSuccessor(t).wantRefused(t, source, "no archive follows backup", "can be restored")
	})
}
