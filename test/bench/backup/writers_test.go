// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql"
)

// writing is how many sessions write, each into a table of its own.
const writing = 16

// writers insert a row and change it, in turns, each a transaction.
type writers struct {
	endpoint mysql.Endpoint
	// rate is how many transactions per second they are to commit together; 0 is as many as they can.
	rate float64
}

// written is what writers did.
type written struct {
	elapsed time.Duration
	// latencies of the acknowledged transactions, ascending, each from the moment at which it was due.
	latencies []time.Duration
}

// perSecond is the rate of acknowledged transactions.
func (w written) perSecond() float64 { return float64(len(w.latencies)) / w.elapsed.Seconds() }

// quantile of the latencies, in milliseconds.
func (w written) quantile(q float64) float64 {
	if len(w.latencies) == 0 {
		return 0
	}
	return float64(w.latencies[int(q*float64(len(w.latencies)-1)+0.5)].Microseconds()) / 1000
}

// runFor writes for a while.
func (w writers) runFor(t *testing.T, span time.Duration) written {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stop := w.begin(ctx, t)
	timer := time.NewTimer(span)
	defer timer.Stop()
	<-timer.C
	return stop()
}

// begin begins to write. The function it returns waits for the transactions that are under way.
func (w writers) begin(ctx context.Context, t *testing.T) (stop func() written) {
	t.Helper()
	sessions := make([]*mysql.Session, writing)
	for n := range sessions {
		var err error
		if sessions[n], err = w.endpoint.Connect(ctx); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan struct{})
	latencies := make([][]time.Duration, writing)
	failures := make([]error, writing)
	var work sync.WaitGroup
	began := time.Now()
	for n, session := range sessions {
		work.Go(func() {
			defer session.Close()
			latencies[n], failures[n] = w.write(ctx, ended, session, n)
		})
	}
	return func() written {
		t.Helper()
		close(ended)
		done := written{elapsed: time.Since(began)}
		work.Wait()
		for n := range sessions {
			if failures[n] != nil {
				t.Fatalf("writing: %v", failures[n])
			}
			done.latencies = append(done.latencies, latencies[n]...)
		}
		slices.Sort(done.latencies)
		return done
	}
}

// write is one writer.
func (w writers) write(ctx context.Context, ended <-chan struct{}, session *mysql.Session, n int) (latencies []time.Duration, err error) {
	due := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ended:
			return latencies, nil
		case <-timer.C:
		}
		if w.rate == 0 {
			due = time.Now()
		}
		statement := fmt.Sprintf("UPDATE bench.t%d SET k = k + 1, c = '%s' WHERE id = LAST_INSERT_ID()", n, random(10))
		if turn%2 == 0 {
			statement = fmt.Sprintf("INSERT INTO bench.t%d (k, c, pad) VALUES (%d, '%s', '%s')", n, rand.IntN(1e6), random(10), random(5)) //nolint:gosec // ballast
		}
		if err := session.Exec(ctx, statement); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(due))
		if w.rate > 0 {
			due = due.Add(time.Duration(float64(writing) / w.rate * float64(time.Second)))
		}
		timer.Reset(time.Until(due))
	}
}

// random are groups of digits, as fill makes them.
func random(groups int) string {
	parts := make([]string, groups)
	for n := range parts {
		parts[n] = fmt.Sprintf("%011d", rand.Int64N(1e11)) //nolint:gosec // ballast
	}
	return strings.Join(parts, "-")
}
