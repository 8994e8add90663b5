// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// tablePage is how many tables are listed at once; a session returns a bounded number of rows.
const tablePage = 2000

// listTables lists a page of all tables that hold data. performance_schema holds none, and views have none of their own.
const listTables = `SELECT JSON_OBJECT('schema', TABLE_SCHEMA, 'name', TABLE_NAME, 'engine', COALESCE(ENGINE, ''),
 'bytes', COALESCE(DATA_LENGTH + INDEX_LENGTH, 0))
 FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('performance_schema', 'information_schema')
 ORDER BY TABLE_SCHEMA, TABLE_NAME LIMIT ? OFFSET ?`

// systemSchemas belong to the server: their tables are checked, but what they hold differs from start to start.
var systemSchemas = []string{"mysql", "sys"}

// table is one table of a copy and what was found in it.
type table struct {
	schema, name, engine string
	bytes                int64
	rows                 int64
	checksum             int64
}

func (t *table) quoted() string { return mysql.Identifier(t.schema) + "." + mysql.Identifier(t.name) }

// counted says whether rows and checksum of the table are recorded.
func (t *table) counted() bool { return !slices.Contains(systemSchemas, t.schema) }

// listedTable is a row of listTables.
type listedTable struct {
	Schema, Name, Engine string
	Bytes                int64
}

// tablesOf lists all tables of a server, in order.
func tablesOf(ctx context.Context, session *mysql.Session) ([]*table, error) {
	var tables []*table
	for {
		rows, err := session.Column(ctx, listTables, tablePage, len(tables))
		if err != nil {
			return nil, fmt.Errorf("listing tables: %w", err)
		}
		for _, row := range rows {
			var t listedTable
			if err := json.Unmarshal([]byte(row), &t); err != nil {
				return nil, fmt.Errorf("listing tables: %w", err)
			}
			tables = append(tables, &table{schema: t.Schema, name: t.Name, engine: t.Engine, bytes: t.Bytes})
		}
		if len(rows) < tablePage {
			return tables, nil
		}
	}
}

// examination is what is done with one table.
type examination func(ctx context.Context, session *mysql.Session, t *table) error

// eachTable examines all tables, several at a time. The first that fails ends it.
func (j *job) eachTable(ctx context.Context, server *private, tables []*table, examine examination) error {
	total := int64(0)
	for _, t := range tables {
		total += t.bytes
	}
	j.cfg.Progress.set(0, total)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan *table)
	var workers sync.WaitGroup
	for range j.cfg.Workers {
		workers.Go(func() {
			if err := j.examineQueue(ctx, server, queue, examine); err != nil {
				cancel(err)
			}
		})
	}
	for _, t := range tables {
		select {
		case queue <- t:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

func (j *job) examineQueue(ctx context.Context, server *private, queue <-chan *table, examine examination) error {
	session, err := server.endpoint.Connect(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	for t := range queue {
		if err := examine(ctx, session, t); err != nil {
			return fmt.Errorf("table %s: %w", t.quoted(), j.whetherEnded(ctx, server, err))
		}
		j.cfg.Progress.add(t.bytes)
	}
	return nil
}

// whetherEnded makes damage of a failure by which mysqld itself ended: InnoDB aborts when it reads a page that is no page.
func (j *job) whetherEnded(ctx context.Context, server *private, err error) error {
	if ctx.Err() != nil || mysql.Number(err) != 0 {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	select {
	case <-server.ended:
		return fail(wire.ReasonCheck, fmt.Errorf("mysqld ended while it read the table (%w): %s", exitOf(server.err), server.output.complaints()))
	case <-patience.Done():
		return err
	}
}

// check has the server look through every page of the table and all its indexes.
func check(ctx context.Context, session *mysql.Session, t *table) error {
	row, err := session.Record(ctx, "CHECK TABLE "+t.quoted())
	if err != nil {
		return fail(damageOf(err), fmt.Errorf("checking: %w", err))
	}
	return verdict(row["Msg_type"], row["Msg_text"])
}

// damageOf says whether an error of the server means that a table cannot be read.
func damageOf(err error) wire.JobReason {
	if mysql.Number(err) != 0 {
		return wire.ReasonCheck
	}
	return wire.ReasonInternal
}

// verdict judges the first row of CHECK TABLE, which of a sound table is also the last: status OK. Of an engine that knows no
// check it is a note; such tables are left to be read.
func verdict(kind, text string) error {
	switch {
	case kind == "status" && (text == "OK" || text == "Table is already up to date"), kind == "note":
		return nil
	}
	return fail(wire.ReasonCheck, fmt.Errorf("CHECK TABLE found it damaged: %s: %s", kind, text))
}

// count reads all rows of the table: how many they are, and their checksum.
func count(ctx context.Context, session *mysql.Session, t *table) error {
	if !t.counted() {
		return nil
	}
	if err := session.Row(ctx, []any{&t.rows}, "SELECT COUNT(*) FROM "+t.quoted()); err != nil {
		return fail(damageOf(err), fmt.Errorf("counting rows: %w", err))
	}
	var name string
	var checksum *int64
	if err := session.Row(ctx, []any{&name, &checksum}, "CHECKSUM TABLE "+t.quoted()+" EXTENDED"); err != nil {
		return fail(damageOf(err), fmt.Errorf("reading all rows: %w", err))
	}
	if checksum == nil {
		return fail(wire.ReasonCheck, errors.New("reading all rows: the server gives no checksum"))
	}
	t.checksum = *checksum
	return nil
}

// copied is what a copy is.
type copied struct {
	// gtids it has executed, without line breaks; version of the mysqld that booted it.
	gtids, version string
	fixed          map[string]string
	tables         []*table
}

// boot starts mysqld on a copy and lets it recover.
func (j *job) boot(ctx context.Context, dir string) (*private, error) {
	server, err := j.startPrivate(ctx, j.cfg.arguments(dir, readOnly...), initialUser, "")
	if err != nil {
		return nil, fmt.Errorf("starting mysqld on the copy: %w", j.orFull(err))
	}
	return server, nil
}

// facts reads what the copy is.
func (j *job) facts(ctx context.Context, session *mysql.Session) (*copied, error) {
	c := &copied{}
	err := session.Row(ctx, []any{&c.gtids, &c.version}, "SELECT @@GLOBAL.gtid_executed, @@GLOBAL.version")
	if err != nil {
		return nil, fmt.Errorf("reading what was executed: %w", err)
	}
	c.gtids = strings.ReplaceAll(c.gtids, "\n", "")
	c.fixed, err = session.Pairs(ctx, "SELECT variable_name, variable_value FROM performance_schema.global_variables WHERE variable_name IN (?"+
		strings.Repeat(",?", len(manifest.FixedSettings)-1)+")", anyOf(manifest.FixedSettings)...)
	if err != nil {
		return nil, fmt.Errorf("reading the settings of the data directory: %w", err)
	}
	c.tables, err = tablesOf(ctx, session)
	return c, err
}

func anyOf(names []string) []any {
	values := make([]any, len(names))
	for i, name := range names {
		values[i] = name
	}
	return values
}

// inspect reads all of a booted copy.
func (j *job) inspect(ctx context.Context, server *private) (*copied, error) {
	session, err := server.endpoint.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	c, err := j.facts(ctx, session)
	if err != nil {
		return nil, err
	}
	j.stage(ctx, "checking every table")
	if err := j.eachTable(ctx, server, c.tables, check); err != nil {
		return nil, fmt.Errorf("checking the copy: %w", err)
	}
	j.stage(ctx, "counting rows and computing checksums")
	if err := j.eachTable(ctx, server, c.tables, count); err != nil {
		return nil, fmt.Errorf("checking the copy: %w", err)
	}
	return c, nil
}
