// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

const (
	// pace is the time between two writes; two cores also have to run the servers.
	pace = 10 * time.Millisecond
	// patience is how long an answer is waited for.
	patience = 2 * time.Second
)

// Options of a Writer.
type Options struct {
	// Table that Create made.
	Table string
	// First id that is written; later ones grow by one. Writers of one table need ranges of their own.
	First int64
	// Pace is the time between two writes, Patience how long an answer is waited for, connecting included.
	Pace, Patience time.Duration
}

// Span is an acknowledged write: when it was sent and when the answer came, by the client's monotonic clock.
type Span struct{ Began, Ended time.Time }

// History is what a Writer was told.
type History struct {
	// Acknowledged, Refused and Unknown are the ids written, by what the client was told: OK; an error that says that
	// nothing was done; anything else, a broken connection above all.
	Acknowledged, Refused, Unknown []int64
	// Spans of the acknowledged writes, in the order of Acknowledged.
	Spans []Span
	// LongestGap is the longest time between two acknowledgements, the first and the last moment included.
	LongestGap time.Duration
	// LastError of a write that was not acknowledged, or nil.
	LastError error
}

// String is the history in one line.
func (h History) String() string {
	return fmt.Sprintf("%d acknowledged, %d refused, %d unknown, longest gap between two acknowledgements %s",
		len(h.Acknowledged), len(h.Refused), len(h.Unknown), h.LongestGap.Round(time.Millisecond))
}

// Writer inserts increasing ids until it is stopped.
type Writer struct {
	db      *sql.DB
	options Options
	cancel  context.CancelFunc
	done    chan struct{}

	mu      sync.Mutex
	history History
	last    time.Time
}

// Start makes the table if it is missing and begins to write to it.
func Start(ctx context.Context, db *sql.DB, table string) (*Writer, error) {
	if err := Create(ctx, db, table); err != nil {
		return nil, err
	}
	return Begin(ctx, db, Options{Table: table, First: 1, Pace: pace, Patience: patience}), nil
}

// Create makes a table for writers if it is missing.
func Create(ctx context.Context, db *sql.DB, table string) error {
	// The id is no key: the checker must be able to see one twice.
	if _, err := db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS "+table+" (seq BIGINT AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL, INDEX (id))"); err != nil {
		return fmt.Errorf("making the table: %w", err)
	}
	return nil
}

// Begin begins to write to a table that Create made.
func Begin(ctx context.Context, db *sql.DB, options Options) *Writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &Writer{db: db, options: options, cancel: cancel, done: make(chan struct{}), last: time.Now()}
	go w.run(ctx)
	return w
}

func (w *Writer) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(w.options.Pace)
	defer tick.Stop()
	for id := w.options.First; ; id++ {
		select {
		case <-tick.C:
			began := time.Now()
			w.note(id, began, w.write(ctx, id))
		case <-ctx.Done():
			return
		}
	}
}

// write does not end with the writer's context: a write that was begun is waited for.
func (w *Writer) write(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.options.Patience)
	defer cancel()
	_, err := w.db.ExecContext(ctx, "INSERT INTO "+w.options.Table+" (id) VALUES (?)", id)
	return err
}

func (w *Writer) note(id int64, began time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.history.Acknowledged = append(w.history.Acknowledged, id)
		now := time.Now()
		w.history.Spans = append(w.history.Spans, Span{Began: began, Ended: now})
		w.history.LongestGap = max(w.history.LongestGap, now.Sub(w.last))
		w.last = now
		return
	case refused(err):
		w.history.Refused = append(w.history.Refused, id)
	default:
		w.history.Unknown = append(w.history.Unknown, id)
	}
	w.history.LastError = err
}

// History returns what is known so far.
func (w *Writer) History() History {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.history
	h.Acknowledged, h.Refused, h.Unknown = slices.Clone(h.Acknowledged), slices.Clone(h.Refused), slices.Clone(h.Unknown)
	h.Spans = slices.Clone(h.Spans)
	h.LongestGap = max(h.LongestGap, time.Since(w.last))
	return h
}

// Stop ends the writing and returns the whole history.
func (w *Writer) Stop() History {
	h := w.History() // before the wait, which is no gap
	w.cancel()
	<-w.done
	after := w.History()
	after.LongestGap = max(h.LongestGap, w.history.LongestGap)
	return after
}

// definite are the errors with which the server says that it has not begun: read only, offline, and the like.
var definite = []uint16{1044, 1045, 1142, 1146, 1205, 1213, 1290, 1792, 1836, 3032}

// refused reports whether the error says that nothing was done.
func refused(err error) bool {
	if server, ok := errors.AsType[*driver.MySQLError](err); ok {
		return slices.Contains(definite, server.Number)
	}
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op == "dial"
}
