// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

func TestKeepTriesAgainUntilItIsToldToEnd(t *testing.T) {
	b := newBench(t, time.Second)
	b.logs.add(t, "", many(1, 3)...)
	b.executed = set(t, serverA+":1-3")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var shown Progress
		var tries []time.Duration
		began := time.Now()
		cfg := b.cfg
		cfg.Now = time.Now
		cfg.Files = func() ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			if tries = append(tries, time.Since(began)); len(tries) < 8 {
				return nil, errors.New("the index is not there")
			}
			return b.logs.files()
		}
		cfg.Publish = func(p Progress) {
			mu.Lock()
			defer mu.Unlock()
			shown = p
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Keep(ctx, cfg)
		}()
		<-time.After(time.Minute)
		synctest.Wait()
		mu.Lock()
		if shown.Error != "the index is not there" {
			t.Errorf("progress %+v", shown)
		}
		mu.Unlock()
		<-time.After(2 * time.Minute)
		synctest.Wait()
		mu.Lock()
		seconds := func(n ...int) (spans []time.Duration) {
			for _, s := range n {
				spans = append(spans, time.Duration(s)*time.Second)
			}
			return spans
		}
		if diff := cmp.Diff(seconds(0, 1, 3, 7, 15, 31, 61, 91), tries[:min(8, len(tries))]); diff != "" {
			t.Errorf("tries (-want +got):\n%s", diff)
		}
		if shown.Error != "" || !shown.Archived.Equal(b.executed) {
			t.Errorf("progress %+v", shown)
		}
		mu.Unlock()
		cancel()
		<-ended
	})
}

func TestAPageIsWrittenAgainAsItWas(t *testing.T) {
	b := newBench(t, time.Second)
	b.cfg.Store = wire.Store{Provider: wire.ProviderVolume, Directory: t.TempDir()}
	var err error
	if b.bucket, err = store.Open(t.Context(), b.cfg.Store); err != nil {
		t.Fatal(err)
	}
	b.logs.add(t, "", many(1, 1)...)
	b.executed = set(t, serverA+":1")
	r := b.begin()
	obstacle := filepath.Join(b.cfg.Store.Directory, archive.PageKey(b.cfg.Cluster, r.page.Name(), 0))
	if err := os.MkdirAll(filepath.Join(obstacle, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	var faults []string
	r.cfg.Publish = func(p Progress) {
		b.shown = p
		if faults = append(faults, p.Error); p.Error != "" {
			if err := os.RemoveAll(obstacle); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.look(r, 0)
	if len(faults) != 2 || faults[0] == "" || faults[1] != "" || !b.shown.Archived.Equal(b.executed) {
		t.Errorf("errors %q, archived %s", faults, b.shown.Archived)
	}
	stored, err := b.bucket.ReadAll(t.Context(), r.page.Key(), archive.MaxSize)
	if err != nil || !slices.Equal(stored, r.stored) || !strings.Contains(string(stored), serverA+":1") {
		t.Errorf("the stored page is %s: %v", stored, err)
	}
}
