// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/mysqld"
)

// newArchive is an archive in a directory of its own, written every second.
func newArchive(t *testing.T) *wire.Archive {
	t.Helper()
	return &wire.Archive{
		Store:   wire.Store{Provider: wire.ProviderVolume, Directory: t.TempDir()},
		Cluster: wire.ClusterKey{Namespace: "n", Name: "c", UID: "00000000-0000-0000-0000-000000000001"}, IntervalSeconds: 1,
	}
}

// awaitArchived waits until everything the instance has executed now is archived, and returns that.
func awaitArchived(t *testing.T, i *mysqld.Instance, password string) gtid.Set {
	t.Helper()
	want := parse(t, gtids(t, i, password))
	i.Await("it is archived", func(s *api.Status) bool {
		return s.Archive != nil && s.Archive.Error == "" && parse(t, s.Archive.GTIDs).Contains(want)
	})
	return want
}

func parse(t *testing.T, text string) gtid.Set {
	t.Helper()
	set, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// readArchive reads all streams in the order of history.
func readArchive(t *testing.T, target *wire.Archive) []*archive.Stream {
	t.Helper()
	bucket := openStore(t, target)
	stored := map[archive.StreamName][][]byte{}
	for object, err := range bucket.List(t.Context(), archive.Folder(target.Cluster)) {
		if err != nil {
			t.Fatal(err)
		}
		name, _, ok := archive.ParsePageKey(target.Cluster, object.Key)
		if !ok {
			continue
		}
		content, err := bucket.ReadAll(t.Context(), object.Key, archive.MaxSize)
		if err != nil {
			t.Fatal(err)
		}
		stored[name] = append(stored[name], content)
	}
	var streams []*archive.Stream
	for name, pages := range stored {
		stream, err := archive.Join(target.Cluster, name, pages...)
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	archive.Sort(streams)
	return streams
}

func openStore(t *testing.T, target *wire.Archive) *store.Bucket {
	t.Helper()
	bucket, err := store.Open(t.Context(), target.Store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bucket.Close(); err != nil {
			t.Error(err)
		}
	})
	return bucket
}

// wantArchive demands that the archive holds exactly a history, each transaction once and none before what it presumes, and
// that every segment is a binary log with what its entry says. It returns the streams.
func wantArchive(t *testing.T, target *wire.Archive, want gtid.Set) []*archive.Stream {
	t.Helper()
	bucket := openStore(t, target)
	streams := readArchive(t, target)
	if len(streams) == 0 {
		t.Fatal("there is no archive")
	}
	replayed := streams[0].Base
	for _, stream := range streams {
		if !replayed.Contains(stream.Base) {
			t.Errorf("stream %s presumes %s, which no stream before it holds", stream.Name, stream.Base.Subtract(replayed))
		}
		for _, page := range stream.Pages {
			for _, segment := range page.Segments {
				wantSegment(t, bucket, page, segment)
				taken := parse(t, segment.GTIDs)
				if twice := replayed.Intersect(taken); !twice.Empty() {
					t.Errorf("segment %d of stream %s: %s is archived twice", segment.Number, stream.Name, twice)
				}
				replayed = replayed.Union(taken)
			}
		}
	}
	if diff := cmp.Diff(want.String(), replayed.String()); diff != "" {
		t.Errorf("what the archive holds (-executed +archive):\n%s", diff)
	}
	return streams
}

func wantSegment(t *testing.T, bucket *store.Bucket, page *archive.Page, segment archive.Segment) {
	t.Helper()
	object, err := bucket.Reader(t.Context(), page.SegmentKeyOf(segment))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = object.Close() }()
	reader, err := seal.NewReader(object, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	log, err := binlog.NewReader(reader)
	if err != nil {
		t.Fatal(err)
	}
	found, n, first, last := gtid.Set{}, int64(0), int64(1<<62), int64(0)
	for {
		one, err := log.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		found, n = found.Union(parse(t, one.GTID())), n+1
		first, last = min(first, one.OriginalCommit), max(last, one.OriginalCommit)
	}
	got := segment
	got.GTIDs, got.Transactions, got.FirstCommit, got.LastCommit = found.String(), n, first, last
	got.RawBytes, got.RawSHA256, got.StoredBytes, got.SHA256 = reader.Raw().Bytes, reader.Raw().SHA256, reader.Stored().Bytes, reader.Stored().SHA256
	if diff := cmp.Diff(segment, got); diff != "" || log.InUse() {
		t.Errorf("segment %d, in use %t (-entry +object):\n%s", segment.Number, log.InUse(), diff)
	}
}

// load writes rows on several sessions until the function it returns is called, which returns how many were written.
func load(t *testing.T, endpoint mysql.Endpoint, sessions int, statement string) func() int {
	t.Helper()
	// What has begun is let end: a statement that is given up may still be committed afterwards.
	told, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	counts := make([]int, sessions)
	for n := range sessions {
		session := mysqld.AwaitSession(t, endpoint)
		work.Go(func() {
			for told.Err() == nil {
				if session.Exec(t.Context(), statement) != nil {
					return
				}
				counts[n]++
			}
		})
	}
	return func() int {
		stop()
		work.Wait()
		sum := 0
		for _, n := range counts {
			sum += n
		}
		return sum
	}
}

// solo is the open primary of a cluster of one with an archive.
type solo struct {
	*mysqld.Cluster
	i     *mysqld.Instance
	admin string
}

func newSolo(t *testing.T, target *wire.Archive) solo {
	t.Helper()
	s := solo{Cluster: mysqld.NewCluster(t, &lab), i: mysqld.NewInstance(t, &lab, "a")}
	s.admin = s.Passwords[agent.AccountAdmin]
	s.Archive = target
	s.i.Start()
	s.Bootstrap(s.i)
	execAll(t, s.root(), "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)")
	return s
}

func (s solo) root() *mysql.Session { return s.i.Session(s.endpoint()) }

func (s solo) endpoint() mysql.Endpoint {
	return s.i.Endpoint(agent.AccountRoot, s.Passwords[agent.AccountRoot])
}

func (s solo) adminSession() *mysql.Session { return s.i.Session(adminEndpoint(s.i, s.admin)) }

// reopen makes the instance the open primary of the next epoch.
func (s solo) reopen() {
	s.Next(0, s.i)
	s.Do(s.i, api.CommandPromise, &api.PromiseRequest{Record: s.Record})
	s.Lead(s.i, 0)
	s.AwaitMarker(s.i, s.Mark(s.i, 1))
	s.Opened(0, 1, s.i)
	s.Open(s.i)
}

func TestTheArchiveHoldsTheHistory(t *testing.T) {
	t.Parallel()
	s := newSolo(t, newArchive(t))
	awaitArchived(t, s.i, s.admin)

	t.Run("under load, over several files", func(t *testing.T) {
		stop := load(t, s.endpoint(), 4, "INSERT INTO d.t (v) VALUES (REPEAT(UUID(), 20))")
		lags := s.watchLag(t, 5*time.Second)
		execAll(t, s.adminSession(), "FLUSH BINARY LOGS")
		lags = append(lags, s.watchLag(t, 5*time.Second)...)
		execAll(t, s.adminSession(), "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
		t.Logf("%d transactions; lag %v", stop(), summary(lags))
		wantArchive(t, s.Archive, awaitArchived(t, s.i, s.admin))
	})
	t.Run("when the agent was restarted", func(t *testing.T) {
		stop := load(t, s.endpoint(), 2, "INSERT INTO d.t (v) VALUES ('x')")
		s.i.StopAgent()
		s.i.StartAgent()
		awaitArchived(t, s.i, s.admin)
		stop()
		wantArchive(t, s.Archive, awaitArchived(t, s.i, s.admin))
	})
	t.Run("when mysqld was killed", func(t *testing.T) {
		stop := load(t, s.endpoint(), 2, "INSERT INTO d.t (v) VALUES ('x')")
		awaitArchived(t, s.i, s.admin)
		s.i.SignalServer(unix.SIGKILL)
		stop()
		s.i.Await("mysqld is gone", func(st *api.Status) bool { return st.Mysqld == api.MysqldDown && st.Archive == nil })
		s.StartServer(s.i)
		s.reopen()
		execAll(t, s.root(), "INSERT INTO d.t (v) VALUES ('x')")
		streams := wantArchive(t, s.Archive, awaitArchived(t, s.i, s.admin))
		if epoch := streams[len(streams)-1].Name.Epoch; epoch != s.Record.Epoch {
			t.Errorf("the last stream is of epoch %d, want %d", epoch, s.Record.Epoch)
		}
	})
	t.Run("with a transaction larger than a segment", func(t *testing.T) {
		execAll(t, s.root(), "INSERT INTO d.t (v) VALUES ('before')", "INSERT INTO d.t (v) VALUES (REPEAT('x', 100000000))", "INSERT INTO d.t (v) VALUES ('behind')")
		streams := wantArchive(t, s.Archive, awaitArchived(t, s.i, s.admin))
		last := streams[len(streams)-1].Pages[0].Segments
		large := 0
		for _, segment := range last {
			if segment.RawBytes > 100_000_000 {
				large++
				if segment.Transactions != 1 {
					t.Errorf("the large transaction is one of %d", segment.Transactions)
				}
			}
		}
		if large != 1 {
			t.Errorf("%d segments hold the large transaction", large)
		}
	})
	t.Run("nothing is missing", func(t *testing.T) {
		status := s.i.Await("an archive", func(st *api.Status) bool { return st.Archive != nil && st.Archive.LagMillis == 0 })
		if a := status.Archive; a.Gap != "" || a.Error != "" || time.Since(a.RecoverableUpTo) > 40*time.Second {
			t.Errorf("archive %s", mysqld.Describe(a))
		}
	})
}

// watchLag collects the lag that is shown for a while.
func (s solo) watchLag(t *testing.T, span time.Duration) []int64 {
	t.Helper()
	var lags []int64
	end := time.Now().Add(span)
	s.i.Await("the lag was watched", func(st *api.Status) bool {
		if st.Archive != nil {
			lags = append(lags, st.Archive.LagMillis)
		}
		return time.Now().After(end)
	})
	return lags
}

func summary(lags []int64) string {
	var sum, most int64
	for _, lag := range lags {
		sum, most = sum+lag, max(most, lag)
	}
	return fmt.Sprintf("%d ms on average, at most %d ms, in %d statuses", sum/int64(max(1, len(lags))), most, len(lags))
}

// outage lets every access to the archive fail until the function it returns is called.
func outage(t *testing.T, target *wire.Archive) func() {
	t.Helper()
	root := filepath.Join(target.Store.Directory, target.Cluster.Namespace)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.Rename(root, root+".aside"))
	check(os.WriteFile(root, nil, 0o600))
	return func() {
		t.Helper()
		check(os.Remove(root))
		check(os.Rename(root+".aside", root))
	}
}

func TestTheArchiveCatchesUpAfterAnOutageOfTheStore(t *testing.T) {
	t.Parallel()
	target := newArchive(t)
	s := newSolo(t, target)
	awaitArchived(t, s.i, s.admin)
	restore := outage(t, target)
	stop := load(t, s.endpoint(), 2, "INSERT INTO d.t (v) VALUES (REPEAT(UUID(), 20))")
	s.i.Await("the outage is shown", func(st *api.Status) bool {
		return st.Archive != nil && st.Archive.Error != "" && st.Archive.LagMillis > 4000
	})
	if stop() == 0 {
		t.Error("nothing was written during the outage")
	}
	restore()
	wantArchive(t, target, awaitArchived(t, s.i, s.admin))
	if a := s.i.Status().Archive; a.Gap != "" {
		t.Errorf("archive %s", mysqld.Describe(a))
	}
}

func TestWhatWasPurgedBeforeItWasArchivedIsAGap(t *testing.T) {
	t.Parallel()
	target := newArchive(t)
	s := newSolo(t, target)
	before := awaitArchived(t, s.i, s.admin)
	s.Archive = nil
	s.Do(s.i, api.CommandConfigure, s.Configuration(s.i))
	s.i.Await("no archive is kept", func(st *api.Status) bool { return st.Archive == nil })
	execAll(t, s.root(), "INSERT INTO d.t (v) VALUES ('lost')", "INSERT INTO d.t (v) VALUES ('lost')")
	lost := parse(t, gtids(t, s.i, s.admin)).Subtract(before)
	admin := s.adminSession()
	execAll(t, admin, "FLUSH BINARY LOGS")
	execAll(t, s.root(), "INSERT INTO d.t (v) VALUES ('kept')")
	files, err := admin.Column(t.Context(), "SHOW BINARY LOGS")
	if err != nil {
		t.Fatal(err)
	}
	execAll(t, admin, "PURGE BINARY LOGS TO '"+files[len(files)-1]+"'")
	s.Archive = target
	s.Do(s.i, api.CommandConfigure, s.Configuration(s.i))
	want := awaitArchived(t, s.i, s.admin)
	check := func(t *testing.T) {
		t.Helper()
		a := s.i.Await("an archive", func(st *api.Status) bool { return st.Archive != nil && st.Archive.GTIDs != "" }).Archive
		if a.Gap != lost.String() || a.GapAt.IsZero() {
			t.Errorf("archive %s, want the gap %s", mysqld.Describe(a), lost)
		}
	}
	check(t)
	streams := readArchive(t, target)
	last := streams[len(streams)-1]
	if !last.Gap.Equal(lost) || !last.Base.Contains(lost) || !last.Covered().Equal(want) {
		t.Errorf("the last stream: base %s, gap %s, want %s in both", last.Base, last.Gap, lost)
	}
	t.Run("it is still shown when the agent was restarted", func(t *testing.T) {
		s.i.StopAgent()
		s.i.StartAgent()
		awaitArchived(t, s.i, s.admin)
		check(t)
	})
}

// TestAnArchiveOverAFailover: what is never acknowledged is not archived, and the next primary goes on where the last one
// ended.
func TestAnArchiveOverAFailover(t *testing.T) {
	t.Parallel()
	r := newReturner(t)
	r.Archive = newArchive(t)
	password := r.Passwords[agent.AccountAdmin]
	for _, i := range []*mysqld.Instance{r.primary, r.replica} {
		r.Do(i, api.CommandConfigure, r.Configuration(i))
	}
	acknowledged := awaitArchived(t, r.primary, password)
	if a := r.replica.Status().Archive; a != nil {
		t.Errorf("a replica archives: %s", mysqld.Describe(a))
	}
	t.Run("a replica may purge what the archive has", func(t *testing.T) { purgeOnReplica(t, r) })
	t.Run("a primary that was closed and is opened again goes on", func(t *testing.T) {
		r.closePrimary(t, time.Second)
		r.primary.Await("the closing is over", func(s *api.Status) bool { return s.Closed == nil || s.Closed.Error != "" })
		r.awaitOpen()
		r.admin = r.primary.Session(adminEndpoint(r.primary, password))
		execAll(t, r.root(r.primary), "INSERT INTO d.t VALUES (400, 'after')")
		acknowledged = awaitArchived(t, r.primary, password)
	})
	r.loseReplica(t)
	r.begin(inserts(3)...)
	caughtUp := r.primary.Await("some time passes", func(s *api.Status) bool {
		return s.Archive.LagMillis == 0 && time.Since(s.Archive.RecoverableUpTo) > 3*time.Second
	}).Archive
	if !parse(t, caughtUp.GTIDs).Equal(acknowledged) {
		t.Errorf("archived %s, want %s: the tail is not acknowledged", caughtUp.GTIDs, acknowledged)
	}
	r.takeOver(r.replica)
	if a := r.primary.Status().Archive; a != nil {
		t.Errorf("the old primary archives: %s", mysqld.Describe(a))
	}
	execAll(t, r.root(r.replica), "INSERT INTO d.t VALUES (500, 'new')")
	streams := wantArchive(t, r.Archive, awaitArchived(t, r.replica, password))
	if a := r.replica.Status().Archive; a.Gap != "" {
		t.Errorf("archive %s", mysqld.Describe(a))
	}
	if len(streams) < 2 || streams[len(streams)-1].ServerUUID == streams[0].ServerUUID {
		t.Errorf("%d streams, the last of the server of the first", len(streams))
	}
	if status := r.comeBack(); status.NeedsReturn {
		t.Fatalf("status %s", mysqld.Describe(status))
	}
	wantArchive(t, r.Archive, awaitArchived(t, r.replica, password))
}

// purgeOnReplica leaves the replica the files that it keeps in any case.
func purgeOnReplica(t *testing.T, r returner) {
	admin := r.replica.Session(adminEndpoint(r.replica, r.Passwords[agent.AccountAdmin]))
	for n := range 4 {
		execAll(t, r.root(r.primary), fmt.Sprintf("INSERT INTO d.t VALUES (%d, 'x')", 300+n))
		awaitSQL(t, admin, "1", fmt.Sprintf("SELECT COUNT(*) FROM d.t WHERE i=%d", 300+n))
		execAll(t, admin, "FLUSH BINARY LOGS")
	}
	archived := awaitArchived(t, r.primary, r.Passwords[agent.AccountAdmin])
	age(t, r.replica)
	r.Do(r.replica, api.CommandPurge, &api.PurgeRequest{GTIDs: archived.String()})
	files, err := admin.Column(t.Context(), "SHOW BINARY LOGS")
	if err != nil || len(files) != 3 {
		t.Errorf("%d files are left, want the newest 3: %v", len(files), err)
	}
}

// TestPurge: old binary logs go when nobody needs them, the newest ones stay.
func TestPurge(t *testing.T) {
	t.Parallel()
	target := newArchive(t)
	s := newSolo(t, target)
	admin, root := s.adminSession(), s.root()
	for range 5 {
		execAll(t, root, "INSERT INTO d.t (v) VALUES ('x')")
		execAll(t, admin, "FLUSH BINARY LOGS")
	}
	everything := awaitArchived(t, s.i, s.admin).String()
	count := func() int {
		t.Helper()
		files, err := admin.Column(t.Context(), "SHOW BINARY LOGS")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	all := count()
	s.Do(s.i, api.CommandPurge, &api.PurgeRequest{GTIDs: everything})
	if got := count(); got != all {
		t.Fatalf("%d of %d files are left although all are young", got, all)
	}
	age(t, s.i)
	status := s.i.Await("what can be purged is shown", func(st *api.Status) bool { return st.BinlogGTIDs != "" })
	if purgeable := parse(t, status.BinlogGTIDs); !parse(t, everything).Contains(purgeable) || purgeable.Equal(parse(t, everything)) {
		t.Errorf("purgeable %s of %s", purgeable, everything)
	}
	s.Do(s.i, api.CommandPurge, &api.PurgeRequest{GTIDs: "11111111-1111-1111-1111-111111111111:1-5"})
	if got := count(); got < all-1 { // the very first is empty
		t.Fatalf("%d of %d files are left although all are needed", got, all)
	}
	all = count()
	if reason := s.Refused(s.i, api.CommandPurge, &api.PurgeRequest{GTIDs: "nonsense"}); reason != api.ErrorInvalid {
		t.Errorf("refused as %q, want Invalid", reason)
	}

	t.Run("not what is not archived", func(t *testing.T) {
		restore := outage(t, target)
		s.i.StopAgent()
		s.i.StartAgent()
		s.i.Await("the outage is shown", func(st *api.Status) bool { return st.Archive != nil && st.Archive.Error != "" })
		s.Do(s.i, api.CommandPurge, &api.PurgeRequest{GTIDs: everything})
		if got := count(); got != all {
			t.Errorf("%d of %d files are left although nobody knows whether they are archived", got, all)
		}
		restore()
		awaitArchived(t, s.i, s.admin)
	})
	s.Do(s.i, api.CommandPurge, &api.PurgeRequest{GTIDs: everything})
	if got := count(); got != 3 {
		t.Errorf("%d files are left, want the newest 3", got)
	}
	s.i.Await("nothing more can be purged", func(st *api.Status) bool { return st.BinlogGTIDs == "" })
	t.Run("an old file that is not empty is ended", func(t *testing.T) {
		execAll(t, admin, "SET SESSION timestamp=UNIX_TIMESTAMP()-7200", "FLUSH BINARY LOGS", "SET SESSION timestamp=DEFAULT")
		execAll(t, root, "INSERT INTO d.t (v) VALUES ('x')")
		before := count()
		deadline := time.Now().Add(mysqld.Patience)
		for count() == before {
			if time.Now().After(deadline) {
				t.Fatal("the file is still written to")
			}
			awaitSQL(t, admin, "0", "SELECT SLEEP(0.2)")
		}
		wantArchive(t, target, awaitArchived(t, s.i, s.admin))
	})
}

// age makes all binary logs of an instance look as if they had been written long ago.
func age(t *testing.T, i *mysqld.Instance) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(i.Conf.DataRoot, "data", "binlog.0*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	past := time.Now().Add(-time.Hour)
	for _, file := range files {
		if err := os.Chtimes(file, past, past); err != nil {
			t.Fatal(err)
		}
	}
}
