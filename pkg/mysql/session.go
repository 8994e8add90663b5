// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// maxRows bounds every result.
const maxRows = 10_000

// Session is one connection to a mysqld.
type Session struct {
	endpoint Endpoint
	password string // the one that was accepted
	db       *sql.DB
	conn     *sql.Conn
	id       int64
}

// ID is the connection's id in the server's process list.
func (s *Session) ID() int64 { return s.id }

// Close closes the connection. A statement that still runs in the server goes on: see Kill.
func (s *Session) Close() {
	_ = s.conn.Close()
	_ = s.db.Close()
}

// Exec runs one statement. When ctx ends first, the connection is killed in the server and the session is of no more use.
// Placeholders are filled in by the driver, so they may stand wherever a string literal may.
func (s *Session) Exec(ctx context.Context, statement string, args ...any) error {
	_, err := s.conn.ExecContext(ctx, statement, args...)
	return s.ended(ctx, err)
}

// Script runs statements separated by semicolons, in order, up to the first that fails.
func (s *Session) Script(ctx context.Context, script string) error { return s.Exec(ctx, script) }

// Row reads the one row of a query into dest. Without a row the error is sql.ErrNoRows.
func (s *Session) Row(ctx context.Context, dest []any, query string, args ...any) error {
	return s.ended(ctx, s.conn.QueryRowContext(ctx, query, args...).Scan(dest...))
}

// Pairs reads a query with two columns, name and value, into a map. NULL is the empty string.
func (s *Session) Pairs(ctx context.Context, query string, args ...any) (map[string]string, error) {
	pairs := map[string]string{}
	err := s.each(ctx, query, args, func(row []sql.NullString) {
		if len(row) >= 2 {
			pairs[row[0].String] = row[1].String
		}
	})
	return pairs, err
}

// Column reads the first column of a query.
func (s *Session) Column(ctx context.Context, query string, args ...any) ([]string, error) {
	var column []string
	err := s.each(ctx, query, args, func(row []sql.NullString) { column = append(column, row[0].String) })
	return column, err
}

// Record reads the first row of a query by the names of its columns, nil when there is none. NULL is absent.
func (s *Session) Record(ctx context.Context, query string, args ...any) (map[string]string, error) {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.ended(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, s.ended(ctx, err)
	}
	var record map[string]string
	if rows.Next() {
		values, pointers := buffers(len(names))
		if err := rows.Scan(pointers...); err != nil {
			return nil, s.ended(ctx, err)
		}
		record = map[string]string{}
		for i, name := range names {
			if values[i].Valid {
				record[name] = values[i].String
			}
		}
	}
	return record, s.ended(ctx, rows.Err())
}

func (s *Session) each(ctx context.Context, query string, args []any, take func([]sql.NullString)) error {
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return s.ended(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return s.ended(ctx, err)
	}
	for n := 0; n < maxRows && rows.Next(); n++ {
		values, pointers := buffers(len(names))
		if err := rows.Scan(pointers...); err != nil {
			return s.ended(ctx, err)
		}
		take(values)
	}
	return s.ended(ctx, rows.Err())
}

func buffers(n int) ([]sql.NullString, []any) {
	values, pointers := make([]sql.NullString, n), make([]any, n)
	for i := range values {
		pointers[i] = &values[i]
	}
	return values, pointers
}

// ended kills the connection in the server when a statement was given up, and returns the statement's error.
func (s *Session) ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return errors.Join(err, s.Kill(context.WithoutCancel(ctx)))
}

// Kill ends the session in the server from a second connection. It takes its own short time, whatever ctx's deadline.
// A session that waits for an acknowledgement does not end by it.
func (s *Session) Kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	second, err := s.endpoint.connect(ctx, s.password)
	if err != nil {
		return fmt.Errorf("connecting to kill a session: %w", err)
	}
	defer second.Close()
	_, err = second.conn.ExecContext(ctx, fmt.Sprintf("KILL %d", s.id))
	if err != nil && Number(err) != ErrUnknownThread {
		return fmt.Errorf("killing a session: %w", err)
	}
	return nil
}

// Identifier quotes a name of a schema or table.
func Identifier(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
