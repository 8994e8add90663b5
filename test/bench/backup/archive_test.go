// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/test/bench"
)

const (
	// paced is the rate of transactions at which the lag is measured, per second.
	paced = 2000
	// lagWindow is how long it is measured at a time, and sample how often in it.
	lagWindow, sample = 20 * time.Second, 100 * time.Millisecond
	// costWindow is how long throughput is measured at a time.
	costWindow = 8 * time.Second
	// interval of an archive by default, in seconds.
	defaultInterval = 5
)

// TestArchive measures how far the archive is behind, and what it costs those who write.
func TestArchive(t *testing.T) {
	n := bench.Times(t, variable, rounds)
	s := newSolo(t)
	s.fill(t, writing, 1)
	t.Run("lag", func(t *testing.T) {
		var all []*bench.Distribution
		for _, seconds := range []int32{defaultInterval, 1} {
			all = append(all, s.measureLag(t, n, seconds)...)
		}
		publish(t, "lag.md", all...)
	})
	t.Run("cost", func(t *testing.T) { s.measureCost(t, n) })
}

// archiveEvery sets the interval of the archive in seconds, 0 for none, and waits until it is caught up.
func (s *site) archiveEvery(t *testing.T, seconds int32) {
	t.Helper()
	target := s.Archive
	defer func() { s.Archive = target }()
	if seconds == 0 {
		s.Archive = nil
	} else {
		other := *target
		other.IntervalSeconds = seconds
		s.Archive, target = &other, &other
	}
	s.Do(s.primary, api.CommandConfigure, s.Configuration(s.primary))
	if seconds == 0 {
		await(t, s.primary, "no archive is kept", func(st *api.Status) bool { return st.Archive == nil })
		return
	}
	s.archived(t)
}

// measureLag samples how old the oldest transaction is that is not archived, as the agent says, and how old the newest is that
// is in the store, as the store says. Writers commit at a steady rate, so the second is never better than the first by much.
func (s *site) measureLag(t *testing.T, n int, seconds int32) []*bench.Distribution {
	t.Helper()
	rates := &bench.Distribution{Name: fmt.Sprintf("interval %d s: transactions written", seconds), Unit: "trx/s"}
	lags := &bench.Distribution{Name: fmt.Sprintf("interval %d s: lag in the status", seconds), Unit: "ms"}
	ages := &bench.Distribution{Name: fmt.Sprintf("interval %d s: age of the newest commit in the store", seconds), Unit: "ms"}
	s.archiveEvery(t, seconds)
	for range n {
		stop := writers{endpoint: s.endpoint(), rate: paced}.begin(t.Context(), t)
		tick := time.NewTicker(sample)
		for began := time.Now(); time.Since(began) < lagWindow; <-tick.C {
			lags.Add(float64(s.primary.Status().Archive.LagMillis))
			if time.Since(began) > time.Duration(seconds)*time.Second { // before that the newest is from before the writers began
				ages.Add(s.age(t))
			}
		}
		tick.Stop()
		rates.Add(stop().perSecond())
	}
	return []*bench.Distribution{rates, lags, ages}
}

// age is that of the newest transaction in the store, in milliseconds.
func (s *site) age(t *testing.T) float64 {
	t.Helper()
	bucket, err := store.Open(t.Context(), s.Archive.Store)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bucket.Close() }()
	var newest int64
	for object, err := range bucket.List(t.Context(), archive.Folder(s.Archive.Cluster)) {
		if err != nil {
			t.Fatal(err)
		}
		if _, _, isPage := archive.ParsePageKey(s.Archive.Cluster, object.Key); !isPage {
			continue
		}
		text, err := bucket.ReadAll(t.Context(), object.Key, archive.MaxSize)
		page, parseErr := archive.ParsePage(text)
		if err := errors.Join(err, parseErr); err != nil {
			t.Fatal(err)
		}
		for _, segment := range page.Segments {
			newest = max(newest, segment.LastCommit)
		}
	}
	return float64(time.Since(time.UnixMicro(newest)).Microseconds()) / 1000
}

// measureCost lets writers write as much as they can, with the archive of the default interval and without, in turns and
// alternately first.
func (s *site) measureCost(t *testing.T, n int) {
	with := &bench.Distribution{Name: "with an archive", Unit: "trx/s"}
	without := &bench.Distribution{Name: "without an archive", Unit: "trx/s"}
	ratio := &bench.Distribution{Name: "with to without", Unit: "1"}
	w := writers{endpoint: s.endpoint()}
	// An archive that is switched on again has to catch up, which is waited for and not measured.
	measure := func(seconds int32) float64 {
		s.archiveEvery(t, seconds)
		return w.runFor(t, costWindow).perSecond()
	}
	measure(defaultInterval) // warms up
	for round := range n {
		order := []int32{defaultInterval, 0}
		if round%2 == 1 {
			order = []int32{0, defaultInterval}
		}
		rate := map[int32]float64{}
		for _, seconds := range order {
			rate[seconds] = measure(seconds)
		}
		with.Add(rate[defaultInterval])
		without.Add(rate[0])
		ratio.Add(rate[defaultInterval] / rate[0])
	}
	publish(t, "archive-cost.md", with, without, ratio)
	t.Log(ratio.Confidence())
}
