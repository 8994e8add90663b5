// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Check reads a table back from one instance and reports every acknowledged id that is missing or there twice, and every
// refused id that is there.
func Check(ctx context.Context, db *sql.DB, table string, h History) error {
	counts, err := read(ctx, db, table)
	if err != nil {
		return err
	}
	var problems []error
	for _, id := range h.Acknowledged {
		if n := counts[id]; n != 1 {
			problems = append(problems, fmt.Errorf("acknowledged row %d is there %d times", id, n))
		}
	}
	for _, id := range h.Refused {
		if n := counts[id]; n != 0 {
			problems = append(problems, fmt.Errorf("refused row %d is there %d times", id, n))
		}
	}
	if len(problems) > maxProblems {
		problems = append(problems[:maxProblems], fmt.Errorf("and %d more", len(problems)-maxProblems))
	}
	return errors.Join(problems...)
}

// maxProblems bounds what Check reports.
const maxProblems = 10

func read(ctx context.Context, db *sql.DB, table string) (map[int64]int, error) {
	rows, err := db.QueryContext(ctx, "SELECT id, COUNT(*) FROM "+table+" GROUP BY id")
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", table, err)
	}
	defer func() { _ = rows.Close() }()
	counts := map[int64]int{}
	for rows.Next() {
		var id int64
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, fmt.Errorf("reading %s: %w", table, err)
		}
		counts[id] = n
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", table, err)
	}
	return counts, nil
}
