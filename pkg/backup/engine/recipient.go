// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// schemaPrefix begins the names of all schemas that a restore makes for itself.
	schemaPrefix = "moco_restore_"
	// pendingTable in the schema of a restore becomes doneTable by the statement that puts the restored tables into their
	// places. So an attempt that was lost right after it is known to have succeeded, also by another primary.
	pendingTable, doneTable = "pending", "done"
	// takeTimeout is how long another attempt of the same restore may take to end, in seconds.
	takeTimeout = 30
	// swapTries is how often the statement is tried that puts tables into their places, swapPause the time between. It gives
	// up after a second each time when a table is in use: whoever comes meanwhile waits behind it.
	swapTries = 60
	swapPause = 2 * time.Second
	// clearTimeout bounds removing what was loaded when the attempt has failed: the Pod may have been told to stop.
	clearTimeout = 20 * time.Second
	// errLockWaitTimeout is ER_LOCK_WAIT_TIMEOUT.
	errLockWaitTimeout uint16 = 1205
	// idleSeconds is how long the session may be idle, while tables are loaded by others.
	idleSeconds = 7 * 24 * 3600
)

// schemaOf is the schema in which a restore keeps its state; the names of its others go on behind it.
func schemaOf(restore string) string { return schemaPrefix + restore[:8] }

// recipient is the primary of the cluster that gets tables.
type recipient struct {
	session *mysql.Session
	schema  string
	replace bool
}

// occupants are the quoted names of tables that have to give way.
type occupants map[string]bool

// reach logs in to the primary and keeps other attempts away as long as the session lives.
func (j *job) reach(ctx context.Context) (*recipient, error) {
	j.stage(ctx, "asking the primary")
	session, err := j.connect(ctx, j.in.Primary)
	if err != nil {
		return nil, fmt.Errorf("asking the primary: %w", err)
	}
	r := &recipient{session: session, schema: schemaOf(j.in.Tables.Restore), replace: j.in.Tables.Replace}
	var closed, taken bool
	err = session.Row(ctx, []any{&closed}, "SELECT @@GLOBAL.super_read_only")
	if err == nil && closed {
		err = errors.New("it takes no writes now")
	}
	if err == nil {
		err = session.Exec(ctx, "SET SESSION wait_timeout="+strconv.Itoa(idleSeconds))
	}
	if err == nil {
		err = session.Row(ctx, []any{&taken}, "SELECT COALESCE(GET_LOCK(?, ?), 0)", r.schema, takeTimeout)
	}
	if err == nil && !taken {
		err = errors.New("another attempt of this restore has not ended")
	}
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("asking the primary: %w", err)
	}
	return r, nil
}

func (r *recipient) close() { r.session.Close() }

// own is a quoted name in the schema of the restore.
func (r *recipient) own(name string) string {
	return mysql.Identifier(r.schema) + "." + mysql.Identifier(name)
}

// placed is how many tables were put into their places; 0 before that. It is the comment of the table that says so.
func (r *recipient) placed(ctx context.Context) (int64, error) {
	found, err := r.session.Column(ctx, "SELECT table_comment FROM information_schema.tables WHERE table_schema=? AND table_name=?", r.schema, doneTable)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	n, err := strconv.ParseInt(found[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading how many tables were restored: %w", err)
	}
	return n, nil
}

// kindOf is BASE TABLE or VIEW, "" when there is none of that name.
func (r *recipient) kindOf(ctx context.Context, schema, name string) (string, error) {
	found, err := r.session.Column(ctx, "SELECT table_type FROM information_schema.tables WHERE table_schema=? AND table_name=?", schema, name)
	if err != nil {
		return "", fmt.Errorf("looking for table %s: %w", mysql.Identifier(schema)+"."+mysql.Identifier(name), err)
	}
	if len(found) == 0 {
		return "", nil
	}
	return found[0], nil
}

// occupied finds the tables that exist where others are to go, and refuses those that may not or cannot give way.
func (r *recipient) occupied(ctx context.Context, tables []*chosen) (occupants, error) {
	found := occupants{}
	for _, c := range tables {
		kind, err := r.kindOf(ctx, c.into, c.name)
		switch {
		case err != nil:
			return nil, err
		case kind == "":
			continue
		case kind != "BASE TABLE":
			return nil, fail(wire.ReasonRefused, fmt.Errorf("%s exists in the cluster as a %s, which no table can replace", c.target(), strings.ToLower(kind)))
		case !r.replace:
			return nil, fail(wire.ReasonRefused, fmt.Errorf("table %s exists in the cluster; restore into another schema (spec.into), or let it be replaced (spec.replace)", c.target()))
		}
		found[c.target()] = true
	}
	for _, c := range tables {
		if !found[c.target()] {
			continue
		}
		if err := r.movable(ctx, c, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// movable refuses a table that cannot be taken away: with triggers RENAME TABLE does not move it into another schema, and a
// foreign key of a table that stays would follow it.
func (r *recipient) movable(ctx context.Context, c *chosen, leaving occupants) error {
	triggers, err := r.session.Column(ctx, "SELECT trigger_name FROM information_schema.triggers"+
		" WHERE event_object_schema=? AND event_object_table=?", c.into, c.name)
	if err != nil {
		return fmt.Errorf("reading the triggers of %s: %w", c.target(), err)
	}
	if len(triggers) > 0 {
		return fail(wire.ReasonRefused, fmt.Errorf("table %s cannot be replaced while it has triggers (%s): drop them first, or restore into another schema",
			c.target(), list(triggers)))
	}
	children, err := r.session.Column(ctx, "SELECT "+quotedPair("constraint_schema", "table_name")+
		" FROM information_schema.referential_constraints WHERE unique_constraint_schema=? AND referenced_table_name=?", c.into, c.name)
	if err != nil {
		return fmt.Errorf("reading the foreign keys to %s: %w", c.target(), err)
	}
	children = slices.DeleteFunc(children, func(child string) bool { return leaving[child] })
	if len(children) > 0 {
		return fail(wire.ReasonRefused, fmt.Errorf("table %s cannot be replaced while foreign keys of other tables (%s) refer to it: "+
			"restore those, too, or restore into another schema", c.target(), list(children)))
	}
	return nil
}

// clear drops all schemas of this restore, the one with its state last.
func (r *recipient) clear(ctx context.Context) error {
	names, err := r.session.Column(ctx, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = ? OR LEFT(schema_name, ?) = ? ORDER BY schema_name DESC",
		r.schema, len(r.schema)+1, r.schema+"_")
	if err != nil {
		return fmt.Errorf("looking for what earlier attempts left: %w", err)
	}
	for _, name := range names {
		if err := r.session.Exec(ctx, "DROP DATABASE "+mysql.Identifier(name)); err != nil {
			return fmt.Errorf("dropping schema %s: %w", mysql.Identifier(name), err)
		}
	}
	return nil
}

// giveUp removes what was loaded, so that it does not fill the volumes of the cluster until the next attempt. It is not for a
// statement of swap that failed: whether that was carried out may be unknown, and only what is there tells it.
func (r *recipient) giveUp(ctx context.Context) {
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearTimeout)
	defer cancel()
	if err := r.clear(patience); err != nil {
		klog.FromContext(ctx).Info("What was loaded stays until the next attempt", "err", err)
	}
}

// begin removes what an earlier attempt left and makes the schemas to load into.
func (r *recipient) begin(ctx context.Context, from *mysql.Session, tables []*chosen) error {
	if err := r.clear(ctx); err != nil {
		return err
	}
	statements := []string{
		"CREATE DATABASE " + mysql.Identifier(r.schema), "CREATE DATABASE " + mysql.Identifier(r.retired()),
		fmt.Sprintf("CREATE TABLE %s (id INT PRIMARY KEY) COMMENT '%d'", r.own(pendingTable), len(tables)),
	}
	made := map[string]bool{}
	for _, c := range tables {
		if made[c.draft] {
			continue
		}
		made[c.draft] = true
		defaults, err := schemaDefaults(ctx, from, c.schema)
		if err != nil {
			return err
		}
		statements = append(statements, "CREATE DATABASE "+mysql.Identifier(c.draft)+defaults, "CREATE DATABASE IF NOT EXISTS "+mysql.Identifier(c.into)+defaults)
	}
	for _, statement := range statements {
		if err := r.session.Exec(ctx, statement); err != nil {
			return fmt.Errorf("preparing the cluster (%s): %w", statement, err)
		}
	}
	return nil
}

// retired is the schema for tables that gave way.
func (r *recipient) retired() string { return r.schema + "_old" }

// schemaDefaults are the character set and collation of a schema of the backup, as options of CREATE DATABASE.
func schemaDefaults(ctx context.Context, from *mysql.Session, schema string) (string, error) {
	var options string
	err := from.Row(ctx, []any{&options}, "SELECT CONCAT(' CHARACTER SET ', default_character_set_name, ' COLLATE ', default_collation_name)"+
		" FROM information_schema.schemata WHERE schema_name=?", schema)
	if err != nil {
		return "", fmt.Errorf("reading the character set of schema %s: %w", mysql.Identifier(schema), err)
	}
	return options, nil
}

// compare reads a loaded table and compares it with what was read from the backup.
func (r *recipient) compare(ctx context.Context, c *chosen) error {
	loaded := *c.table
	loaded.schema = c.draft
	if err := count(ctx, r.session, &loaded); err != nil {
		return fmt.Errorf("table %s: comparing what was loaded: %w", c.quoted(), err)
	}
	switch {
	case loaded.rows != c.rows:
		return fmt.Errorf("table %s: %d rows were loaded, the backup has %d", c.quoted(), loaded.rows, c.rows)
	case loaded.checksum != c.checksum && !c.uncertain:
		return fmt.Errorf("table %s: what was loaded has the checksum %d, the backup has %d", c.quoted(), loaded.checksum, c.checksum)
	}
	return nil
}

// swap puts all tables into their places, takes away those that are there, and notes it, in one statement: all of it happens
// or nothing.
func (r *recipient) swap(ctx context.Context, tables []*chosen) error {
	pause := time.NewTicker(swapPause)
	defer pause.Stop()
	for try := 1; ; try++ {
		leaving, err := r.occupied(ctx, tables) // it may be another answer than at the begin
		if err != nil {
			return err
		}
		err = r.session.Exec(ctx, r.renames(tables, leaving))
		if err == nil {
			return nil
		}
		if mysql.Number(err) != errLockWaitTimeout || try == swapTries {
			return fmt.Errorf("putting the tables into their places: %w", err)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// renames is the statement.
func (r *recipient) renames(tables []*chosen, leaving occupants) string {
	var moves []string
	for n, c := range tables {
		if leaving[c.target()] {
			moves = append(moves, fmt.Sprintf("%s TO %s.`%d`", c.target(), mysql.Identifier(r.retired()), n))
		}
	}
	for _, c := range tables {
		moves = append(moves, c.loaded()+" TO "+c.target())
	}
	moves = append(moves, r.own(pendingTable)+" TO "+r.own(doneTable))
	return "RENAME TABLE " + strings.Join(moves, ", ")
}
