// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// stream writes a stream whose segments hold one transaction each, from first on, and returns its name.
func stream(t *testing.T, j *job, epoch, first int64, segments int, caughtUp time.Time) archive.StreamName {
	t.Helper()
	base := gtid.Set{}
	if first > 1 {
		base = set(t, fmt.Sprintf("%s:1-%d", testUUID, first-1))
	}
	page := archive.NewPage(archive.Header{
		Cluster: testCluster, Epoch: epoch, StreamID: "abcdefgh", ServerUUID: testUUID, StartedAt: noon.Add(time.Duration(epoch) * time.Hour), Base: base,
	})
	sum := strings.Repeat("ab", 32)
	for n := range int64(segments) {
		if page.Full() {
			page = page.Next(writePage(t, j, page))
		}
		s := archive.Segment{
			Number: page.NextNumber(), StoredBytes: 1, SHA256: sum, RawBytes: 200, RawSHA256: sum, File: "binlog.000001",
			Start: 1000 + n*100, End: 1100 + n*100, GTIDs: fmt.Sprintf("%s:%d", testUUID, first+n), Transactions: 1,
		}
		if err := page.Add(s); err != nil {
			t.Fatal(err)
		}
		if _, err := j.bucket.Write(t.Context(), page.SegmentKeyOf(s), strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	page.CaughtUpAt = caughtUp
	writePage(t, j, page)
	return page.Name()
}

func set(t *testing.T, text string) gtid.Set {
	t.Helper()
	parsed, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func writePage(t *testing.T, j *job, page *archive.Page) []byte {
	t.Helper()
	text, err := page.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.bucket.Write(t.Context(), page.Key(), bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return text
}

// heldOf says what is left of a stream: its pages, and its segments from the first to the last.
func heldOf(t *testing.T, j *job, name archive.StreamName) string {
	t.Helper()
	var pages, segments []string
	for _, key := range keysBelow(t, j) {
		rest, ok := strings.CutPrefix(key, "archive/"+name.String()+"/")
		switch {
		case !ok:
		case strings.HasPrefix(rest, "page-"):
			pages = append(pages, rest[len("page-"):len("page-")+8])
		default:
			segments = append(segments, rest[len("seg-"):len("seg-")+8])
		}
	}
	if len(segments) == 0 {
		return fmt.Sprintf("pages %v, no segments", pages)
	}
	slices.Sort(segments)
	return fmt.Sprintf("pages %v, %d segments from %s to %s", pages, len(segments), segments[0], segments[len(segments)-1])
}

func TestPruneArchive(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		// executed by the backup, which was made at noon; the window begins then, if not said otherwise.
		executed  string
		keepAfter time.Duration
		// caughtUp is when the first stream ended, after noon.
		caughtUp time.Duration
		want     [2]string
	}{
		"a backup that holds nothing lets everything stay": {
			executed: "", want: [2]string{"pages [00000000 00000001 00000002], 600 segments from 00000000 to 00000599", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
		"a page goes only when all of it is held": {
			executed: testUUID + ":1-511", want: [2]string{"pages [00000001 00000002], 344 segments from 00000256 to 00000599", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
		"pages go from the begin": {
			executed: testUUID + ":1-512", want: [2]string{"pages [00000002], 88 segments from 00000512 to 00000599", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
		"a hole in what is held ends it": {
			executed: testUUID + ":1-255:257-600", want: [2]string{"pages [00000000 00000001 00000002], 600 segments from 00000000 to 00000599", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
		"a stream that is held goes whole": {
			executed: testUUID + ":1-600", want: [2]string{"pages [], no segments", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
		"a stream that proves a time after the backup keeps its end": {
			executed: testUUID + ":1-600", caughtUp: time.Hour, want: [2]string{"pages [00000002], 88 segments from 00000512 to 00000599", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
		"the end of the newest stream stays even when it is held": {
			executed: testUUID + ":1-700", want: [2]string{"pages [], no segments", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
		"without a backup before the window everything stays": {
			executed: testUUID + ":1-700", keepAfter: -time.Hour,
			want: [2]string{"pages [00000000 00000001 00000002], 600 segments from 00000000 to 00000599", "pages [00000000], 10 segments from 00000000 to 00000009"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := site(t, wire.Store{Provider: wire.ProviderMemory, Bucket: t.Name()}, noon)
			lay(t, j.cfg.work("data"), map[string]int{"ibdata1": 10})
			m := backupOf(t, j, tc.executed, noon)
			streams := [2]archive.StreamName{stream(t, j, 1, 1, 600, noon.Add(tc.caughtUp)), stream(t, j, 2, 601, 10, noon.Add(2*time.Hour))}
			j.in.Archive, j.in.KeepAfter = &j.in.Store, noon.Add(tc.keepAfter)
			if err := j.prune(t.Context()); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, [2]string{heldOf(t, j, streams[0]), heldOf(t, j, streams[1])}); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if _, err := j.bucket.ReadAll(t.Context(), manifest.Key(testCluster, m.ID), manifest.MaxSize); err != nil {
				t.Errorf("the backup: %v", err)
			}
		})
	}
}

func TestPruneRemovesGarbageOnly(t *testing.T) {
	t.Parallel()
	// What is written now is a day and an hour old for the job.
	j := site(t, inDirectory(t.TempDir()), time.Now().Add(25*time.Hour))
	lay(t, j.cfg.work("data"), map[string]int{"ibdata1": 10})
	m := backupOf(t, j, testUUID+":1-5", noon)
	other := "20260101T000000Z-00000001"
	j.in.Attempt = "running"
	for _, key := range []string{
		manifest.ObjectKey(testCluster, other, "failed", "pack-000000.tar.zst"),
		manifest.ObjectKey(testCluster, other, "running", "pack-000000.tar.zst"),
		manifest.ObjectKey(testCluster, m.ID, "failed", "pack-000000.tar.zst"),
		archive.Folder(testCluster) + "0000000000000001-abandoned/seg-00000000.binlog.zst",
		manifest.Folder(testCluster) + "somebody-elses/file",
	} {
		if _, err := j.bucket.Write(t.Context(), key, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	j.in.Archive, j.in.KeepAfter = &j.in.Store, noon
	if err := j.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"backups/" + other + "/running/pack-000000.tar.zst", "backups/" + m.ID + "/manifest.json", "backups/" + m.ID + "/one/pack-000000.tar.zst",
		"backups/somebody-elses/file",
	}
	if diff := cmp.Diff(want, keysBelow(t, j)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	young := site(t, j.in.Store, time.Now())
	key := manifest.ObjectKey(testCluster, other, "young", "pack-000000.tar.zst")
	if _, err := young.bucket.Write(t.Context(), key, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := young.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(keysBelow(t, young), "backups/"+other+"/young/pack-000000.tar.zst") {
		t.Error("what was written just now was taken for garbage")
	}
}

func TestADamagedManifestKeepsItsObjects(t *testing.T) {
	t.Parallel()
	j := site(t, inDirectory(t.TempDir()), time.Now().Add(48*time.Hour))
	lay(t, j.cfg.work("data"), map[string]int{"ibdata1": 10})
	m := backupOf(t, j, testUUID+":1-5", noon)
	if _, err := j.bucket.Write(t.Context(), manifest.Key(testCluster, m.ID), strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	j.in.Attempt = "other"
	before := keysBelow(t, j)
	if err := j.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, keysBelow(t, j)); diff != "" {
		t.Errorf("objects changed (-before +after):\n%s", diff)
	}
}

func TestNeededBase(t *testing.T) {
	t.Parallel()
	at := func(hours int) time.Time { return noon.Add(time.Duration(hours) * time.Hour) }
	summary := func(id string, hours int, method manifest.Method) manifest.Summary {
		return manifest.Summary{ID: id, Method: method, ConsistentAt: at(hours)}
	}
	tests := map[string]struct {
		backups []manifest.Summary
		want    string
	}{
		"the newest that is not younger than the window": {[]manifest.Summary{
			summary("old", -5, manifest.Physical), summary("base", -1, manifest.Physical), summary("young", 1, manifest.Physical),
		}, "base"},
		"one of the very moment counts": {[]manifest.Summary{summary("now", 0, manifest.Physical)}, "now"},
		"a dump is no base":             {[]manifest.Summary{summary("base", -2, manifest.Physical), summary("dump", -1, manifest.Logical)}, "base"},
		"younger ones are none":         {[]manifest.Summary{summary("young", 1, manifest.Physical)}, ""},
		"there is none":                 {nil, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, found := neededBase(tc.backups, noon)
			if base.ID != tc.want || found != (tc.want != "") {
				t.Errorf("base %q (%t), want %q", base.ID, found, tc.want)
			}
		})
	}
}

func TestRunRefusesNonsense(t *testing.T) {
	t.Parallel()
	memory := wire.Store{Provider: wire.ProviderMemory, Bucket: "nonsense"}
	tests := map[string]*wire.JobInput{
		"an operation that is not known": {Operation: "Nonsense", Store: memory},
		"a trial of nothing":             {Operation: wire.OperationVerify, Store: memory},
		"a backup without a cluster":     {Operation: wire.OperationBackup, Store: memory, Backup: "20260101T000000Z-00000001", Attempt: "a"},
		"a backup with a path for an id": {Operation: wire.OperationBackup, Store: memory, Cluster: testCluster, Backup: "../x", Attempt: "a"},
		"a deletion of everything":       {Operation: wire.OperationDelete, Store: memory, Cluster: testCluster},
		"recipients that are no keys": {
			Operation: wire.OperationBackup, Store: memory, Cluster: testCluster, Backup: "20260101T000000Z-00000001", Attempt: "a", Recipients: "x",
		},
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := Run(t.Context(), Config{WorkDir: t.TempDir(), RunDir: "/tmp", Mysqld: "false"}, in)
			if r.Succeeded || r.Reason != wire.ReasonRefused || r.Message == "" {
				t.Errorf("result %+v", r)
			}
		})
	}
}
