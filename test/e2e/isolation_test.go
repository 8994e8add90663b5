// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// anomaly is a history of two sessions that an isolation level allows or prevents.
type anomaly struct {
	steps []step
	// evidence are the answers that, all together, show the anomaly.
	evidence []string
	// allowed are the levels at which MySQL lets it happen.
	allowed []string
}

const (
	readUncommitted = "READ UNCOMMITTED"
	readCommitted   = "READ COMMITTED"
	repeatableRead  = "REPEATABLE READ"
	serializable    = "SERIALIZABLE"
)

var levels = []string{readUncommitted, readCommitted, repeatableRead, serializable}

// anomalies begin with the rows (1,10) and (2,20).
var anomalies = map[string]anomaly{
	"dirty write": {
		steps: []step{
			"A: BEGIN", "A: UPDATE TABLE SET v=11 WHERE id=1", "B: UPDATE TABLE SET v=12 WHERE id=1", "A: ROLLBACK", "A: SELECT v FROM TABLE WHERE id=1",
		},
		evidence: []string{"B: UPDATE TABLE SET v=12 WHERE id=1 -> ok"},
	},
	"dirty read": {
		steps: []step{
			"A: BEGIN", "A: UPDATE TABLE SET v=11 WHERE id=1", "B: BEGIN", "B: SELECT v FROM TABLE WHERE id=1", "A: ROLLBACK", "B: COMMIT",
		},
		evidence: []string{"B: SELECT v FROM TABLE WHERE id=1 -> 11"},
		allowed:  []string{readUncommitted},
	},
	"non-repeatable read": {
		steps: []step{
			"A: BEGIN", "A: SELECT v FROM TABLE WHERE id=1", "B: UPDATE TABLE SET v=11 WHERE id=1", "A: SELECT v FROM TABLE WHERE id=1", "A: COMMIT",
		},
		evidence: []string{"A: SELECT v FROM TABLE WHERE id=1 -> 10", "A: SELECT v FROM TABLE WHERE id=1 -> 11"},
		allowed:  []string{readUncommitted, readCommitted},
	},
	"phantom": {
		steps: []step{
			"A: BEGIN", "A: SELECT COUNT(*) FROM TABLE WHERE v>=10", "B: INSERT INTO TABLE VALUES (3,30)", "A: SELECT COUNT(*) FROM TABLE WHERE v>=10", "A: COMMIT",
		},
		evidence: []string{"A: SELECT COUNT(*) FROM TABLE WHERE v>=10 -> 3"},
		allowed:  []string{readUncommitted, readCommitted},
	},
	"read skew": {
		steps: []step{
			"A: BEGIN", "A: SELECT v FROM TABLE WHERE id=1", "B: UPDATE TABLE SET v=v+5", "A: SELECT v FROM TABLE WHERE id=2", "A: COMMIT",
		},
		evidence: []string{"A: SELECT v FROM TABLE WHERE id=1 -> 10", "A: SELECT v FROM TABLE WHERE id=2 -> 25"},
		allowed:  []string{readUncommitted, readCommitted},
	},
	"lost update": {
		steps: []step{
			"A: BEGIN", "B: BEGIN", "A: SELECT v FROM TABLE WHERE id=1", "B: SELECT v FROM TABLE WHERE id=1", "A: UPDATE TABLE SET v=10+1 WHERE id=1", "A: COMMIT",
			"B: UPDATE TABLE SET v=10+5 WHERE id=1", "B: COMMIT", "A: SELECT v FROM TABLE WHERE id=1",
		},
		evidence: []string{"A: UPDATE TABLE SET v=10+1 WHERE id=1 -> ok", "A: SELECT v FROM TABLE WHERE id=1 -> 15"},
		allowed:  []string{readUncommitted, readCommitted, repeatableRead},
	},
	"write skew": {
		steps: []step{
			"A: BEGIN", "B: BEGIN", "A: SELECT SUM(v) FROM TABLE", "B: SELECT SUM(v) FROM TABLE", "A: UPDATE TABLE SET v=v-30 WHERE id=1",
			"B: UPDATE TABLE SET v=v-30 WHERE id=2", "A: COMMIT", "B: COMMIT", "A: SELECT SUM(v) FROM TABLE",
		},
		evidence: []string{"A: SELECT SUM(v) FROM TABLE -> -30"},
		allowed:  []string{readUncommitted, readCommitted, repeatableRead},
	},
	"a locking read sees what is new": {
		steps: []step{
			"A: BEGIN", "A: SELECT v FROM TABLE WHERE id=1", "B: UPDATE TABLE SET v=11 WHERE id=1", "A: SELECT v FROM TABLE WHERE id=1 FOR UPDATE", "A: COMMIT",
		},
		evidence: []string{"A: SELECT v FROM TABLE WHERE id=1 FOR UPDATE -> 11"},
		allowed:  []string{readUncommitted, readCommitted, repeatableRead},
	},
}

// isolation plays every anomaly at every level on the cluster and on a bare server: both must give the same answers, and
// the anomaly must be there exactly where MySQL's manual has it (InnoDB Transaction Isolation Levels).
func isolation(t *testing.T, cluster, bare *sql.DB) {
	for _, level := range levels {
		t.Run(strings.ToLower(level), func(t *testing.T) {
			t.Parallel()
			for name, a := range anomalies {
				got, want := onBoth(t, cluster, bare, level, name, a)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-bare +cluster):\n%s", name, diff)
				}
				if seen := shows(got, a.evidence); seen != slices.Contains(a.allowed, level) {
					t.Errorf("%s: seen is %t:\n%s", name, seen, strings.Join(got, "\n"))
				}
			}
		})
	}
}

func onBoth(t *testing.T, cluster, bare *sql.DB, level, name string, a anomaly) (got, want []string) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { want = a.play(t.Context(), t, bare, level, name) })
	got = a.play(t.Context(), t, cluster, level, name)
	wg.Wait()
	return got, want
}

func (a anomaly) play(ctx context.Context, t *testing.T, db *sql.DB, level, name string) []string {
	t.Helper()
	table := strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(level) + "_" + name)
	for _, statement := range []string{
		"DROP TABLE IF EXISTS " + table, "CREATE TABLE " + table + " (id INT PRIMARY KEY, v INT NOT NULL)", "INSERT INTO " + table + " VALUES (1,10), (2,20)",
	} {
		must(db.ExecContext(ctx, statement))(t)
	}
	var steps []step
	for _, s := range a.steps {
		steps = append(steps, step(strings.ReplaceAll(string(s), "TABLE", table)))
	}
	lines := play(ctx, t, db, []string{fmt.Sprintf("SET SESSION TRANSACTION ISOLATION LEVEL %s", level)}, steps)
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], table, "TABLE")
	}
	return lines
}

func shows(lines, evidence []string) bool {
	for _, e := range evidence {
		if !slices.Contains(lines, e) {
			return false
		}
	}
	return true
}
