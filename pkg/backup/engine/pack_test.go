// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/restore"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const testUUID = "11111111-2222-3333-4444-555555555555"

var testCluster = wire.ClusterKey{Namespace: "ns", Name: "db", UID: "0123abcd-0000-0000-0000-000000000000"}

func TestPlanPacks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		sizes       []int64
		pack, part  int64
		wantLengths [][]int64
	}{
		"nothing makes no pack":                            {nil, 10, 5, nil},
		"an empty file has one empty part":                 {[]int64{0}, 10, 5, [][]int64{{0}}},
		"small files share a pack":                         {[]int64{3, 4, 3}, 10, 5, [][]int64{{3, 4, 3}}},
		"a pack that would become too large is closed":     {[]int64{3, 4, 4}, 10, 5, [][]int64{{3, 4}, {4}}},
		"a large file is divided, the rest is the last":    {[]int64{12}, 10, 5, [][]int64{{5, 5}, {2}}},
		"a file of exactly one part is not divided":        {[]int64{5}, 10, 5, [][]int64{{5}}},
		"a part larger than a pack has a pack of its own":  {[]int64{1, 20, 1}, 10, 20, [][]int64{{1}, {20}, {1}}},
		"an empty file after a full pack opens no new one": {[]int64{10, 0, 1}, 10, 10, [][]int64{{10, 0}, {1}}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var files []manifest.File
			for n, size := range tc.sizes {
				files = append(files, manifest.File{Path: fmt.Sprint(n), Size: size})
			}
			var lengths [][]int64
			for _, pack := range planPacks(files, tc.pack, tc.part) {
				var of []int64
				for _, entry := range pack {
					of = append(of, entry.Length)
				}
				lengths = append(lengths, of)
			}
			if diff := cmp.Diff(tc.wantLengths, lengths); diff != "" {
				t.Errorf("lengths (-want +got):\n%s", diff)
			}
		})
	}
}

func inDirectory(directory string) wire.Store {
	return wire.Store{Provider: wire.ProviderVolume, Directory: directory}
}

// site is a job with a store and a work directory.
func site(t *testing.T, in wire.Store, at time.Time) *job {
	t.Helper()
	j := &job{
		cfg: Config{WorkDir: t.TempDir(), RunDir: t.TempDir(), Workers: 3, PackBytes: 1000, PartBytes: 400, Now: func() time.Time { return at }},
		in: &wire.JobInput{
			Store: in, Cluster: testCluster, Attempt: "one",
			Backup: manifest.NewID(at, "0123abcd"),
		},
	}
	if err := j.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	bucket, err := store.Open(t.Context(), j.in.Store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bucket.Close() })
	j.bucket = bucket
	return j
}

// lay writes files of random content and returns it by path.
func lay(t *testing.T, dir string, sizes map[string]int) map[string]string {
	t.Helper()
	content := map[string]string{}
	for path, size := range sizes {
		text := make([]byte, size)
		_, _ = rand.Read(text)
		whole := filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(whole), 0o750), os.WriteFile(whole, text, 0o640)); err != nil { //nolint:gosec // as mysqld does
			t.Fatal(err)
		}
		content[path] = string(text)
	}
	return content
}

// backupOf makes a backup of the directory data of a job, as if mysqld had made that.
func backupOf(t *testing.T, j *job, gtids string, at time.Time) *manifest.Manifest {
	t.Helper()
	c := &copying{
		donor: donorFacts{uuid: testUUID}, at: at,
		copied: &copied{gtids: gtids, version: "9.7.4", fixed: map[string]string{"lower_case_table_names": "0"}},
	}
	m, err := j.sendCopy(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if m, err = j.findManifest(t.Context()); err != nil || m == nil {
		t.Fatalf("manifest %v, %v", m, err)
	}
	return m
}

func TestWhatIsPackedIsRestored(t *testing.T) {
	t.Parallel()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ recipients, identity string }{
		"in clear":  {},
		"encrypted": {identity.Recipient().String(), identity.String()},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := site(t, inDirectory(t.TempDir()), time.Now())
			j.in.Recipients = tc.recipients
			sizes := map[string]int{"ibdata1": 5000, "mysql.ibd": 399, "d/empty": 0, "d/t.ibd": 400, "d/u.ibd": 401, "#innodb_redo/#ib_redo1": 3, "undo_001": 1200}
			want := lay(t, j.cfg.work("data"), sizes)
			lay(t, j.cfg.work("data"), map[string]int{"auto.cnf": 5, "binlog.000001": 9, "relay.000001": 9, "server-key.pem": 3, "#clone/status": 1, "#innodb_temp/t": 1})
			m := backupOf(t, j, testUUID+":1-5", time.Now())
			got := restored(t, j, m, tc.identity)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error("what was restored differs from what was packed")
			}
			if done, total := j.cfg.Progress.Read(time.Time{}).BytesDone, m.Bytes; j.result.Bytes != total || done > total {
				t.Errorf("progress %d of %d, result %+v", done, total, j.result)
			}
		})
	}
}

// restored fetches a backup and reads its files.
func restored(t *testing.T, j *job, m *manifest.Manifest, identity string) map[string]string {
	t.Helper()
	dir := j.cfg.work("restored")
	r, err := restore.Open(t.Context(), restore.Config{
		Source: wire.Source{Store: j.in.Store, Cluster: m.Cluster, Backup: m.ID, Identity: identity}, Dir: dir, Scratch: j.cfg.work("fetched"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := r.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		content[strings.TrimPrefix(path, dir+"/")] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestAFileThatShrinksFailsThePack(t *testing.T) {
	t.Parallel()
	j := site(t, inDirectory(t.TempDir()), time.Now())
	lay(t, j.cfg.work("data"), map[string]int{"t.ibd": 100})
	surveyed := &tree{files: []manifest.File{{Path: "t.ibd", Size: 200}}, bytes: 200}
	if _, err := j.sendPacks(t.Context(), j.cfg.work("data"), surveyed); err == nil || !strings.Contains(err.Error(), "t.ibd") {
		t.Errorf("error %v", err)
	}
	if left := keysBelow(t, j); len(left) > 0 {
		t.Errorf("in the store: %v", left)
	}
}

func keysBelow(t *testing.T, j *job) []string {
	t.Helper()
	var keys []string
	for object, err := range j.bucket.List(t.Context(), testCluster.Root()+"/") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, strings.TrimPrefix(object.Key, testCluster.Root()+"/"))
	}
	return keys
}

func TestASymbolicLinkIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "t.ibd")); err != nil {
		t.Fatal(err)
	}
	if _, err := survey(dir); err == nil {
		t.Error("a link was taken for a file")
	}
}

// TestOneAttemptWins has a second attempt of a backup publish after the first.
func TestOneAttemptWins(t *testing.T) {
	t.Parallel()
	directory, at := inDirectory(t.TempDir()), time.Now()
	first, second := site(t, directory, at), site(t, directory, at)
	second.in.Attempt = "two"
	for _, j := range []*job{first, second} {
		lay(t, j.cfg.work("data"), map[string]int{"ibdata1": 3000})
	}
	a := backupOf(t, first, testUUID+":1-5", at)
	b := backupOf(t, second, testUUID+":1-6", at)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the second attempt replaced the first (-first +second):\n%s", diff)
	}
	for _, key := range keysBelow(t, first) {
		if strings.Contains(key, "/two/") {
			t.Errorf("left behind: %s", key)
		}
	}
	if second.result.GTIDExecuted != testUUID+":1-5" {
		t.Errorf("the second attempt tells of itself: %+v", second.result)
	}
}

func TestSendEndsWithItsProducer(t *testing.T) {
	t.Parallel()
	j := site(t, inDirectory(t.TempDir()), time.Now())
	broken := errors.New("broken")
	_, err := j.send(t.Context(), testCluster.Root()+"/x", func(_ context.Context, w io.Writer, moved func(int64)) error {
		_, err := w.Write(bytes.Repeat([]byte("x"), 1<<20))
		moved(1 << 20)
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) || len(keysBelow(t, j)) > 0 {
		t.Errorf("error %v, in the store %v", err, keysBelow(t, j))
	}
}
