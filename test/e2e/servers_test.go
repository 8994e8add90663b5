// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"database/sql"
	"fmt"
)

// variables reads all global variables of a server.
func variables(ctx context.Context, db *sql.DB) (map[string]string, error) {
	return pairs(ctx, db, "SHOW GLOBAL VARIABLES")
}

// pairs reads a result of two columns.
func pairs(ctx context.Context, db *sql.DB, query string) (map[string]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", query, err)
	}
	defer func() { _ = rows.Close() }()
	found := map[string]string{}
	for rows.Next() {
		var name string
		var value sql.NullString
		if err := rows.Scan(&name, &value); err != nil {
			return nil, fmt.Errorf("reading %s: %w", query, err)
		}
		found[name] = value.String
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", query, err)
	}
	return found, nil
}
