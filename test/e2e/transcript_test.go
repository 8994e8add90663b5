// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"
)

// step is a statement of one of the sessions of a script, "A: SELECT 1". TABLE stands for the script's own table.
type step string

// play runs a script on one server, every session on a connection of its own, and returns what the server said to each
// step, one line each. Sessions wait one second for locks.
func play(ctx context.Context, t *testing.T, db *sql.DB, setup []string, steps []step) []string {
	t.Helper()
	sessions := map[string]*sql.Conn{}
	defer func() {
		for _, session := range sessions {
			// The connection must not go back into the pool with a transaction open.
			_ = session.Raw(func(any) error { return driver.ErrInvalidConn })
			_ = session.Close()
		}
	}()
	var lines []string
	for _, s := range steps {
		name, statement, _ := strings.Cut(string(s), ": ")
		if sessions[name] == nil {
			sessions[name] = must(db.Conn(ctx))(t)
			for _, text := range append([]string{"SET SESSION innodb_lock_wait_timeout=1, lock_wait_timeout=1"}, setup...) {
				must(sessions[name].ExecContext(ctx, text))(t)
			}
		}
		lines = append(lines, string(s)+" -> "+say(ctx, sessions[name], statement))
	}
	return lines
}

// say runs one statement and renders rows or the number of the error.
func say(ctx context.Context, session *sql.Conn, statement string) string {
	rows, err := session.QueryContext(ctx, statement)
	if err != nil {
		return number(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return number(err)
	}
	var out []string
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			return number(err)
		}
		var texts []string
		for _, cell := range cells {
			texts = append(texts, cell.String)
		}
		out = append(out, strings.Join(texts, ","))
	}
	if err := rows.Err(); err != nil {
		return number(err)
	}
	if len(columns) == 0 {
		return "ok"
	}
	return strings.Join(out, " ")
}

func number(err error) string {
	if server, ok := errors.AsType[*driver.MySQLError](err); ok {
		return fmt.Sprintf("error %d", server.Number)
	}
	return "connection lost"
}
