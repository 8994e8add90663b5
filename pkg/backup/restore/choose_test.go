// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/document"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const testServer = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

// storedPages writes a stream of three pages with one transaction in each segment, and returns their keys and contents.
func storedPages(t *testing.T, bucket *store.Bucket, cluster wire.ClusterKey) (keys []string, contents [][]byte) {
	t.Helper()
	page := archive.NewPage(archive.Header{Cluster: cluster, Epoch: 1, StreamID: "abcdefgh", ServerUUID: testServer, StartedAt: time.Unix(1, 0)})
	sum := strings.Repeat("ab", 32)
	for n := range int64(2*archive.MaxSegments + 1) {
		if page.Full() {
			page = page.Next(contents[len(contents)-1])
		}
		err := page.Add(archive.Segment{
			Number: page.NextNumber(), StoredBytes: 1, SHA256: sum, RawBytes: 200, RawSHA256: sum, File: "binlog.000001",
			Start: 1000 + n*100, End: 1100 + n*100, GTIDs: fmt.Sprintf("%s:%d", testServer, n+1), Transactions: 1, FirstCommit: n, LastCommit: n,
		})
		if err != nil {
			t.Fatal(err)
		}
		if !page.Full() && n < 2*archive.MaxSegments {
			continue
		}
		content, err := page.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Write(t.Context(), page.Key(), bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		keys, contents = append(keys, page.Key()), append(contents, content)
	}
	return keys, contents
}

func TestADamagedPageIsNoMoreThanAGap(t *testing.T) {
	cluster := wire.ClusterKey{Namespace: "n", Name: "c", UID: "u"}
	cases := map[string]struct {
		damage  int // number of the page
		bases   []string
		covered []string
	}{
		"none":            {-1, []string{""}, []string{":1-513"}},
		"the first":       {0, []string{":1-256"}, []string{":1-513"}},
		"one between":     {1, []string{"", ":1-512"}, []string{":1-256", ":1-513"}},
		"the last is off": {2, []string{""}, []string{":1-512"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bucket, err := store.Open(t.Context(), wire.Store{Provider: wire.ProviderMemory, Bucket: t.Name()})
			if err != nil {
				t.Fatal(err)
			}
			keys, contents := storedPages(t, bucket, cluster)
			var spoiled []string
			if c.damage >= 0 {
				contents[c.damage][200] ^= 1
				spoiled = keys[c.damage : c.damage+1]
				if _, err := bucket.Write(t.Context(), keys[c.damage], bytes.NewReader(contents[c.damage])); err != nil {
					t.Fatal(err)
				}
			}
			r := &Restore{archives: bucket, cfg: Config{Source: wire.Source{Cluster: cluster, Target: wire.Target{Time: time.Unix(9, 0)}}}}
			parts, err := r.streams(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var bases, covered []string
			for _, part := range parts {
				bases, covered = append(bases, strings.TrimPrefix(part.Base.String(), testServer)), append(covered, strings.TrimPrefix(part.Covered().String(), testServer))
			}
			if diff := cmp.Diff([][]string{c.bases, c.covered, spoiled}, [][]string{bases, covered, r.spoiled}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			r.cfg.Source.Target = wire.Target{Latest: true}
			var refused *Refusal
			if _, err := r.streams(t.Context(), nil); c.damage >= 0 && (!errors.As(err, &refused) || !errors.Is(err, document.ErrDamaged)) {
				t.Errorf("all there is was wanted, and a part of it cannot be known: %v", err)
			}
		})
	}
}
