// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// tablesOrigin is a cluster with a backup, into which tables of it are brought back.
type tablesOrigin struct {
	*origin
	session *mysql.Session
	// before are the checksums at the time of the backup.
	before map[string]string
}

func newTablesOrigin(t *testing.T) *tablesOrigin {
	t.Helper()
	target := newArchive(t)
	s := newSolo(t, target)
	execAll(t, s.root(), "CREATE DATABASE e",
		"CREATE TABLE d.parent (i INT PRIMARY KEY, v LONGBLOB, s VARCHAR(20) COLLATE utf8mb4_bin)", "INSERT INTO d.parent SELECT 1, RANDOM_BYTES(1000), 'é\\\\\\n;'",
		"INSERT INTO d.parent SELECT 2, REPEAT('x', 9000000), '`'",
		"CREATE TABLE d.child (i INT PRIMARY KEY, p INT, g INT AS (p + 1) STORED, CONSTRAINT leads FOREIGN KEY (p) REFERENCES d.parent (i), CONSTRAINT small CHECK (i < 100))",
		"INSERT INTO d.child (i, p) VALUES (1, 1), (2, 2)",
		"CREATE TABLE d.`we``ird; -- \\! é` (i INT PRIMARY KEY, f FLOAT, v TEXT, FULLTEXT (v))", "INSERT INTO d.`we``ird; -- \\! é` VALUES (1, 1.23456789, 'some words')",
		"CREATE TABLE d.parts (i INT PRIMARY KEY) PARTITION BY HASH (i) PARTITIONS 3", "INSERT INTO d.parts VALUES (1), (2), (3), (4)",
		"CREATE TRIGGER d.trig BEFORE INSERT ON d.parts FOR EACH ROW SET NEW.i = NEW.i", "CREATE VIEW d.seen AS SELECT i FROM d.parts",
		"CREATE TABLE e.other (i INT PRIMARY KEY)", "INSERT INTO e.other VALUES (7)", "CREATE TABLE e.parent (i INT PRIMARY KEY)", "CREATE TABLE d.bare (i INT)")
	o := &tablesOrigin{origin: &origin{solo: s, site: newBackupSite(t, pair{Cluster: s.Cluster, primary: s.i, replica: s.i})}}
	o.site.store = target.Store.Directory
	o.session = s.root()
	o.before = checksums(t, o.session)
	o.takeBackup(t, backupID)
	return o
}

// root is one session for all: the server takes few.
func (o *tablesOrigin) root() *mysql.Session { return o.session }

// input asks for tables as they were in the backup.
func (o *tablesOrigin) input(uid string, names ...string) *wire.JobInput {
	in := o.site.input(wire.OperationRestoreTables, "one")
	source := o.source(wire.Target{})
	source.Backup = backupID
	in.Restore, in.User, in.Password, in.Donors = &source, agent.AccountRoot, o.Passwords[agent.AccountRoot], nil
	in.Tables = &wire.Tables{Restore: uid + "-1111-2222-3333-444455556666", Names: names}
	return in
}

// bring runs a restore of tables with the client of the root file system.
func (o *tablesOrigin) bring(t *testing.T, in *wire.JobInput) wire.JobResult {
	t.Helper()
	return o.site.run(t.Context(), in)
}

// drafts are the schemas that restores made for themselves.
func (o *tablesOrigin) drafts(t *testing.T) []string {
	t.Helper()
	names, err := o.root().Column(t.Context(), "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'moco\\_restore\\_%'")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// as compares tables with how they were.
func (o *tablesOrigin) as(t *testing.T, now, before string) {
	t.Helper()
	if got := checksums(t, o.root())[now]; got != o.before[before] || got == "" {
		t.Errorf("table %s has the checksum %s, want %s of %s", now, got, o.before[before], before)
	}
}

// drop removes what a restore left beside its tables.
func (o *tablesOrigin) drop(t *testing.T, in *wire.JobInput) {
	t.Helper()
	last := *in
	last.Operation, last.Restore = wire.OperationDropRestore, nil
	last.Tables = &wire.Tables{Restore: in.Tables.Restore}
	if r := o.bring(t, &last); !r.Succeeded {
		t.Errorf("dropping: %+v", r)
	}
	if left := o.drafts(t); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// TestTablesAreBroughtIntoARunningCluster restores tables of a backup into the cluster it was made of.
func TestTablesAreBroughtIntoARunningCluster(t *testing.T) {
	t.Parallel()
	o := newTablesOrigin(t)
	t.Run("what cannot be is refused before anything is changed", o.refuses)
	t.Run("dropped tables come back with their keys, whatever an earlier attempt left", o.bringsBack)
	t.Run("a table that exists is replaced when that is asked for", o.replaces)
	t.Run("a schema goes into another", o.goesElsewhere)
	t.Run("what cannot be loaded is removed at once, and the table is named", o.givesUp)
}

func (o *tablesOrigin) refuses(t *testing.T) {
	execAll(t, o.root(), "CREATE TABLE d.asks (p INT, FOREIGN KEY (p) REFERENCES d.parent (i))", "CREATE VIEW e.parts AS SELECT 1 AS i")
	defer execAll(t, o.root(), "DROP TABLE d.asks", "DROP VIEW e.parts")
	const uid = "0a0a0a0a"
	for name, c := range map[string]struct {
		in    *wire.JobInput
		alter func(*wire.JobInput)
		words []string
	}{
		"a table that exists":            {in: o.input(uid, "e.other"), words: []string{"`e`.`other`", "spec.replace", "spec.into"}},
		"a table that is in no backup":   {in: o.input(uid, "d.later"), words: []string{"d.later"}},
		"a schema of the server":         {in: o.input(uid, "MySQL.user"), words: []string{"`MySQL`"}},
		"a child without its parent":     {in: o.input(uid, "d.child"), alter: into("copies"), words: []string{"`d`.`child`", "`d`.`parent`"}},
		"two tables of one name":         {in: o.input(uid, "d.parent", "e.parent"), alter: into("copies"), words: []string{"`d`.`parent`", "`e`.`parent`"}},
		"a view in the place":            {in: o.input(uid, "d.parts"), alter: into("e"), words: []string{"`e`.`parts`", "view"}},
		"a table with a trigger":         {in: o.input(uid, "d.parts"), alter: replace, words: []string{"`d`.`parts`", "trig"}},
		"a parent of a table that stays": {in: o.input(uid, "d.parent", "d.child"), alter: replace, words: []string{"`d`.`parent`", "`d`.`asks`"}},
		"another backup":                 {in: o.input(uid, "d.t"), alter: func(in *wire.JobInput) { into("copies")(in); in.Restore.Backup = "20200101T000000Z-00000000" }, words: []string{"20200101T000000Z-00000000"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.alter != nil {
				c.alter(c.in)
			}
			before := checksums(t, o.root())
			r := o.bring(t, c.in)
			if r.Succeeded {
				t.Fatalf("result %+v", r)
			}
			for _, word := range c.words {
				if !strings.Contains(r.Message, word) {
					t.Errorf("%q does not name %s", r.Message, word)
				}
			}
			if diff := cmp.Diff(before, checksums(t, o.root())); diff != "" || len(o.drafts(t)) != 0 {
				t.Errorf("it changed (-before +after):\n%s%v", diff, o.drafts(t))
			}
		})
	}
}

func into(schema string) func(*wire.JobInput) {
	return func(in *wire.JobInput) { in.Tables.Into = schema }
}

func replace(in *wire.JobInput) { in.Tables.Replace = true }

func (o *tablesOrigin) bringsBack(t *testing.T) {
	execAll(t, o.root(), "DROP TABLE d.child, d.parent, d.`we``ird; -- \\! é`",
		"CREATE DATABASE moco_restore_0b0b0b0b", "CREATE TABLE moco_restore_0b0b0b0b.pending (i INT)", "CREATE DATABASE moco_restore_0b0b0b0b_0", "CREATE TABLE moco_restore_0b0b0b0b_0.child (i INT)")
	in := o.input("0b0b0b0b", "d.child", "d.parent", "d.we`ird; -- \\! é")
	if r := o.bring(t, in); !r.Succeeded || r.Tables != 3 {
		t.Fatalf("result %+v", r)
	}
	o.as(t, "`d`.`child`", "`d`.`child`")
	o.as(t, "`d`.`parent`", "`d`.`parent`")
	if err := o.root().Exec(t.Context(), "INSERT INTO d.child (i, p) VALUES (9, 9)"); err == nil {
		t.Error("the foreign key leads nowhere")
	}
	rows, err := o.root().Column(t.Context(), "SELECT v FROM d.`we``ird; -- \\! é` WHERE MATCH (v) AGAINST ('words')")
	if err != nil || len(rows) != 1 {
		t.Errorf("the odd table has %v, %v", rows, err)
	}
	// An attempt that does not know that an earlier one succeeded says the same, and overwrites nothing.
	execAll(t, o.root(), "INSERT INTO d.child (i, p) VALUES (3, 1)")
	replace(in)
	if r := o.bring(t, in); !r.Succeeded || r.Tables != 3 {
		t.Errorf("once more: %+v", r)
	}
	if rows, err := o.root().Column(t.Context(), "SELECT i FROM d.child"); err != nil || len(rows) != 3 {
		t.Errorf("after another attempt there are %v, %v", rows, err)
	}
	o.drop(t, in)
}

func (o *tablesOrigin) replaces(t *testing.T) {
	execAll(t, o.root(), "UPDATE d.parent SET v = ''", "DELETE FROM d.child")
	in := o.input("0c0c0c0c", "d.child", "d.parent", "e.other")
	replace(in)
	user := o.solo.root()
	execAll(t, user, "BEGIN", "SELECT * FROM e.other")
	ended := make(chan wire.JobResult)
	go func() { ended <- o.site.run(t.Context(), in) }()
	awaitSQL(t, o.root(), "1", "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'RENAME TABLE%' AND state LIKE 'Waiting%'")
	execAll(t, user, "DO SLEEP(2)", "COMMIT")
	if r := <-ended; !r.Succeeded || r.Tables != 3 {
		t.Fatalf("result %+v", r)
	}
	o.as(t, "`d`.`child`", "`d`.`child`")
	o.as(t, "`d`.`parent`", "`d`.`parent`")
	o.as(t, "`e`.`other`", "`e`.`other`")
	o.drop(t, in)
}

func (o *tablesOrigin) goesElsewhere(t *testing.T) {
	in := o.input("0d0d0d0d", "d")
	into("co`pies")(in)
	r := o.bring(t, in)
	if !r.Succeeded || r.Tables != 6 || !strings.Contains(r.Message, "trigger trig") {
		t.Fatalf("result %+v", r)
	}
	o.as(t, "`co``pies`.`parts`", "`d`.`parts`")
	o.as(t, "`co``pies`.`child`", "`d`.`child`")
	o.drop(t, in)
}

// givesUp cannot load a table that the options of the cluster allow no more.
func (o *tablesOrigin) givesUp(t *testing.T) {
	execAll(t, o.adminSession(), "SET GLOBAL sql_require_primary_key = ON")
	in := o.input("0e0e0e0e", "d")
	into("copies")(in)
	if r := o.bring(t, in); r.Succeeded || !strings.Contains(r.Message, "`d`.`bare`") {
		t.Errorf("result %+v", r)
	}
	if left := o.drafts(t); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}
