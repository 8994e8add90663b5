// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// CheckPrefix reads back a table that one writer filled and that was restored to an earlier moment. What is there must be
// what the writer had written until some moment, without a hole; with a moment given, it must be that one: every row that
// was acknowledged by then, and none that was sent later. Rows of other writers are left out.
func CheckPrefix(ctx context.Context, db *sql.DB, table string, h History, moment time.Time) error {
	counts, err := read(ctx, db, table)
	if err != nil {
		return err
	}
	last := int64(0)
	for id, n := range counts {
		if n != 1 {
			return fmt.Errorf("row %d is there %d times", id, n)
		}
		if slices.Contains(h.Acknowledged, id) {
			last = max(last, id)
		}
	}
	var problems []error
	for n, id := range h.Acknowledged {
		span, there := h.Spans[n], counts[id] == 1
		switch {
		case id < last && !there:
			problems = append(problems, fmt.Errorf("row %d is missing, row %d is there", id, last))
		case moment.IsZero():
		case span.Ended.Before(moment) && !there:
			problems = append(problems, fmt.Errorf("row %d is missing, it was acknowledged %s before", id, moment.Sub(span.Ended)))
		case span.Began.After(moment) && there:
			problems = append(problems, fmt.Errorf("row %d is there, it was sent %s later", id, span.Began.Sub(moment)))
		}
	}
	for _, id := range h.Refused {
		if counts[id] != 0 {
			problems = append(problems, fmt.Errorf("refused row %d is there", id))
		}
	}
	if last == 0 && len(h.Acknowledged) > 0 && !moment.IsZero() && h.Spans[0].Ended.Before(moment) {
		problems = append(problems, errors.New("there is not one row"))
	}
	if len(problems) > maxProblems {
		problems = append(problems[:maxProblems], fmt.Errorf("and %d more", len(problems)-maxProblems))
	}
	return errors.Join(problems...)
}
