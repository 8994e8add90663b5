// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// bench is an archiver whose clock, server and store a test holds in its hands.
type bench struct {
	t        *testing.T
	now      time.Time
	logs     *logs
	executed gtid.Set
	purged   gtid.Set
	doubtful bool
	cfg      Config
	shown    Progress
	bucket   *store.Bucket
	runs     int
}

func newBench(t *testing.T, interval time.Duration) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Unix(1_000_000, 0).UTC(), logs: newLogs(t)}
	b.cfg = Config{
		Store:   wire.Store{Provider: wire.ProviderMemory, Bucket: t.Name()},
		Cluster: wire.ClusterKey{Namespace: "n", Name: "c", UID: "u"}, Interval: interval, Epoch: 3, SegmentBytes: 1000,
		Files: b.logs.files, Now: func() time.Time { return b.now },
		NewID:   func() string { b.runs++; return fmt.Sprintf("%08d-%d", b.runs, b.runs) },
		Publish: func(p Progress) { b.shown = p },
		Position: func(context.Context) (Position, error) {
			p := b.logs.position(b.executed)
			p.Purged, p.Doubtful = b.purged, b.doubtful
			return p, nil
		},
	}
	var err error
	if b.bucket, err = store.Open(t.Context(), b.cfg.Store); err != nil {
		t.Fatal(err)
	}
	return b
}

// begin begins a run.
func (b *bench) begin() *run {
	b.t.Helper()
	r := &run{keeper: &keeper{cfg: b.cfg}, bucket: b.bucket}
	if err := r.begin(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return r
}

// look looks once, at a time after the one before.
func (b *bench) look(r *run, after time.Duration) {
	b.t.Helper()
	b.now = b.now.Add(after)
	if err := r.look(b.t.Context(), b.now); err != nil {
		b.t.Fatal(err)
	}
}

// streams are what is in the store, in the order of their names.
func (b *bench) streams() []*archive.Stream {
	b.t.Helper()
	var streams []*archive.Stream
	for dir, err := range b.bucket.Dirs(b.t.Context(), strings.TrimSuffix(archive.Folder(b.cfg.Cluster), "/")) {
		if err != nil {
			b.t.Fatal(err)
		}
		name, err := archive.ParseStreamName(dir)
		if err != nil {
			b.t.Fatal(err)
		}
		var pages [][]byte
		for object, err := range b.bucket.List(b.t.Context(), archive.StreamFolder(b.cfg.Cluster, name)+"page-") {
			if err != nil {
				b.t.Fatal(err)
			}
			content, err := b.bucket.ReadAll(b.t.Context(), object.Key, archive.MaxSize)
			if err != nil {
				b.t.Fatal(err)
			}
			pages = append(pages, content)
		}
		stream, err := archive.Join(b.cfg.Cluster, name, pages...)
		if err != nil {
			b.t.Fatal(err)
		}
		streams = append(streams, stream)
	}
	return streams
}

// many makes transactions of a server, one after the other, of which each is larger than half a segment.
func many(first, last int) [][]byte {
	var all [][]byte
	for n := first; n <= last; n++ {
		all = append(all, transaction(serverA, n, 1000+n, 600))
	}
	return all
}

func TestAStreamHasMoreThanOnePage(t *testing.T) {
	b := newBench(t, time.Second)
	b.logs.add(t, "", many(1, 600)...)
	b.executed = set(t, serverA+":1-600")
	b.look(b.begin(), 0)
	streams := b.streams()
	if len(streams) != 1 || len(streams[0].Pages) != 3 || !streams[0].Covered().Equal(b.executed) || !b.shown.Archived.Equal(b.executed) {
		t.Fatalf("%d streams, the first with %d pages, progress %+v", len(streams), len(streams[0].Pages), b.shown)
	}
	if last := streams[0].CaughtUpAt; !last.Equal(b.now) || !b.shown.RecoverableUpTo.Equal(b.now) {
		t.Errorf("caught up at %v, recoverable up to %v, want %v", last, b.shown.RecoverableUpTo, b.now)
	}

	t.Run("the next one goes on where it ended", func(t *testing.T) {
		b.logs.add(t, serverA+":1-600", many(601, 601)...)
		b.executed = set(t, serverA+":1-601")
		b.look(b.begin(), time.Second)
		next := b.streams()[1]
		if next.Base.String() != serverA+":1-600" || len(next.Pages[0].Segments) != 1 || next.Pages[0].Segments[0].File != "binlog.000002" {
			t.Errorf("base %s, segments %+v", next.Base, next.Pages[0].Segments)
		}
	})
	t.Run("what only a damaged page lists is archived again", func(t *testing.T) {
		for _, name := range []archive.StreamName{streams[0].Name, b.streams()[1].Name} {
			number := len(streams[0].Pages) - 1
			if name != streams[0].Name {
				number = 0
			}
			if _, err := b.bucket.Write(t.Context(), archive.PageKey(b.cfg.Cluster, name, number), strings.NewReader("{}")); err != nil {
				t.Fatal(err)
			}
		}
		b.look(b.begin(), time.Second)
		if diff := cmp.Diff(serverA+":1-601", b.shown.Archived.String()); diff != "" || !b.shown.Gap.Empty() {
			t.Errorf("gap %s; archived (-want +got):\n%s", b.shown.Gap, diff)
		}
	})
}

func TestAnIdleArchiveSaysSoNowAndThen(t *testing.T) {
	b := newBench(t, time.Second)
	b.logs.add(t, "")
	r := b.begin()
	began := b.now
	b.look(r, 0)
	b.look(r, 29*time.Second)
	if got := b.streams()[0].CaughtUpAt; !got.Equal(began) {
		t.Errorf("caught up at %v, want %v: nothing has happened", got, began)
	}
	if !b.shown.CaughtUp.Equal(b.now) || !b.shown.RecoverableUpTo.Equal(began) {
		t.Errorf("progress %+v", b.shown)
	}
	b.look(r, time.Second)
	if got := b.streams()[0].CaughtUpAt; !got.Equal(b.now) || !b.shown.RecoverableUpTo.Equal(b.now) {
		t.Errorf("caught up at %v, want %v", got, b.now)
	}
}

func TestSegmentsAreCutOnceInAnInterval(t *testing.T) {
	b := newBench(t, time.Minute)
	b.logs.add(t, "", many(1, 2)...)
	b.executed = set(t, serverA+":1")
	r := b.begin()
	b.look(r, 0)
	b.executed = set(t, serverA+":1-2")
	b.look(r, 30*time.Second)
	if got := b.shown.Archived.String(); got != serverA+":1" {
		t.Errorf("archived %s before the interval has passed", got)
	}
	b.look(r, 30*time.Second)
	if got := b.shown.Archived.String(); got != serverA+":1-2" {
		t.Errorf("archived %s after the interval has passed", got)
	}
}

func TestWhatIsNotAcknowledgedMayStillHaveCommitted(t *testing.T) {
	b := newBench(t, time.Second)
	waiting := b.now.Add(-5 * time.Second)
	b.logs.add(t, "", transaction(serverA, 1, 1000, 200), transaction(serverA, 2, int(waiting.UnixMicro()), 200))
	b.executed = set(t, serverA+":1")
	b.look(b.begin(), 0)
	if got, want := b.streams()[0].CaughtUpAt, waiting.Add(-time.Microsecond); !got.Equal(want) {
		t.Errorf("caught up at %v, want %v: just before what waits was written", got, want)
	}
}

func TestTheClockOfAnotherServerHidesNoLag(t *testing.T) {
	b := newBench(t, time.Second)
	b.logs.add(t, "", transaction(serverB, 1, int(b.now.Add(time.Hour).UnixMicro()), 200), transaction(serverA, 1, 1000, 200))
	b.executed = set(t, serverB+":1")
	b.doubtful = true
	r := b.begin()
	b.look(r, 0)
	if !b.shown.CaughtUp.Equal(b.now) {
		t.Errorf("caught up at %v, now it is %v", b.shown.CaughtUp, b.now)
	}
	b.doubtful = false
	b.executed = set(t, serverB+":1,"+serverA+":1")
	b.look(r, time.Second)
	b.now = b.now.Add(-time.Minute)
	b.begin()
	if b.shown.CaughtUp.After(b.now) || b.shown.RecoverableUpTo.After(b.now) {
		t.Errorf("caught up at %v, recoverable up to %v, now it is %v", b.shown.CaughtUp, b.shown.RecoverableUpTo, b.now)
	}
}

func TestOneThatMayHaveBeenReplacedIsNotCaughtUp(t *testing.T) {
	b := newBench(t, time.Second)
	b.logs.add(t, "", transaction(serverA, 1, 1000, 200))
	b.executed = set(t, serverA+":1")
	began := b.now
	b.look(b.begin(), 0)
	b.doubtful = true
	r := b.begin()
	b.look(r, time.Minute)
	if got := b.streams()[1].CaughtUpAt; !got.IsZero() || !b.shown.RecoverableUpTo.Equal(began) || !b.shown.CaughtUp.Equal(began) {
		t.Errorf("caught up at %v, recoverable up to %v: another primary may have committed more since %v", got, b.shown.RecoverableUpTo, began)
	}
	b.doubtful = false
	b.look(r, time.Minute)
	if got := b.streams()[1].CaughtUpAt; !got.Equal(b.now) || !b.shown.RecoverableUpTo.Equal(b.now) {
		t.Errorf("caught up at %v, want %v", got, b.now)
	}
}

func TestSegmentsAreEncryptedForTheRecipients(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, time.Second)
	b.cfg.Recipients = key.Recipient().String()
	b.logs.add(t, "", transaction(serverA, 1, 1000, 200))
	b.executed = set(t, serverA+":1")
	b.look(b.begin(), 0)
	page := b.streams()[0].Pages[0]
	segment := page.Segments[0]
	object, err := b.bucket.Reader(t.Context(), page.SegmentKeyOf(segment))
	if err != nil || !segment.Encrypted {
		t.Fatalf("encrypted %t: %v", segment.Encrypted, err)
	}
	reader, err := seal.NewReader(object, key.String())
	if err != nil {
		t.Fatal(err)
	}
	log, err := binlog.NewReader(reader)
	if err != nil {
		t.Fatal(err)
	}
	if one, err := log.Next(); err != nil || one.GTID() != serverA+":1" {
		t.Errorf("the first transaction is %s: %v", one.GTID(), err)
	}
}

// BenchmarkArchive measures what the archiver itself takes to archive transactions of a kilobyte that compress well.
func BenchmarkArchive(b *testing.B) {
	const count = 60_000
	t := &testing.T{}
	l := &logs{dir: b.TempDir(), sizes: map[string]int64{}}
	var all [][]byte
	for n := range count {
		all = append(all, transaction(serverA, n+1, 1000+n, 1000))
	}
	l.add(t, "", all...)
	executed := set(t, fmt.Sprintf("%s:1-%d", serverA, count))
	b.SetBytes(count * 1000)
	for b.Loop() {
		cfg := Config{
			Store:   wire.Store{Provider: wire.ProviderMemory, Bucket: b.Name()},
			Cluster: wire.ClusterKey{Namespace: "n", Name: "c", UID: fmt.Sprint(time.Now().UnixNano())}, Interval: time.Second, Epoch: 1,
			SegmentBytes: DefaultSegmentBytes, Files: l.files, Now: time.Now, NewID: func() string { return "00000000" },
			Publish:  func(Progress) {},
			Position: func(context.Context) (Position, error) { return l.position(executed), nil },
		}
		bucket, err := store.Open(b.Context(), cfg.Store)
		if err != nil {
			b.Fatal(err)
		}
		r := &run{keeper: &keeper{cfg: cfg}, bucket: bucket}
		if err := r.begin(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := r.look(b.Context(), time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
