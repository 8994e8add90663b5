// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/server"
)

// step is something a server is told to do, and what its last transaction is then.
type step struct {
	name       string
	statements []string
	kind       binlog.Kind
}

var steps = []step{
	{"a schema", []string{"CREATE DATABASE d"}, binlog.Transactional},
	{"a table", []string{"USE d", "CREATE TABLE t (i INT PRIMARY KEY, v LONGBLOB)"}, binlog.Transactional},
	{"a row", []string{"INSERT INTO t VALUES (1, 'x')"}, binlog.Transactional},
	{"two rows in one transaction", []string{"BEGIN", "INSERT INTO t VALUES (2, 'x')", "INSERT INTO t VALUES (3, 'x')", "COMMIT"}, binlog.Transactional},
	{"a row that is larger than what is kept", []string{"INSERT INTO t VALUES (4, REPEAT(UUID(), 20000))"}, binlog.Transactional},
	{"a table made from a query", []string{"CREATE TABLE c AS SELECT * FROM t"}, binlog.Transactional},
	{"an account", []string{"CREATE USER u IDENTIFIED BY 'p'"}, binlog.Transactional},
	{"a statement with a time zone and a long list of schemas", []string{
		"SET time_zone='+03:00'", "SET NAMES latin1", "CREATE DATABASE e", "CREATE TABLE e.x (i INT)", "DROP TABLE e.x, d.c",
	}, binlog.Transactional},
	{"an empty transaction with a tag", []string{
		"SET gtid_next='11111111-2222-3333-4444-5555555555ff:moco_e7:1'", "BEGIN", "COMMIT", "SET gtid_next='AUTOMATIC'",
	}, binlog.Transactional},
	{"a row in a transaction with a tag and a large number", []string{
		"SET gtid_next='f1111111-2222-3333-4444-5555555555ff:a_tag:8223372036854775806'", "INSERT INTO t VALUES (5, 'x')", "SET gtid_next='AUTOMATIC'",
	}, binlog.Transactional},
	{"a flush", []string{"FLUSH TABLES"}, binlog.Other},
	{"the first half of a distributed transaction", []string{
		"XA START 'one'", "INSERT INTO t VALUES (6, REPEAT('x', 3000))", "XA END 'one'", "XA PREPARE 'one'",
	}, binlog.Distributed},
	{"the second half of it", []string{"XA COMMIT 'one'"}, binlog.Distributed},
	{"a distributed transaction in one phase", []string{
		"XA START 'two'", "INSERT INTO t VALUES (7, REPEAT('x', 3000))", "XA END 'two'", "XA COMMIT 'two' ONE PHASE",
	}, binlog.Distributed},
	{"a table that cannot be rolled back", []string{"CREATE TABLE m (i INT) ENGINE=MyISAM"}, binlog.Other},
	{"a row that cannot be rolled back", []string{"INSERT INTO m VALUES (1)"}, binlog.Other},
	{"the last row", []string{"INSERT INTO t VALUES (8, 'x')"}, binlog.Transactional},
}

func TestAgainstARealServer(t *testing.T) {
	for name, compression := range map[string]string{"without compression": "OFF", "with compression": "ON"} {
		t.Run(name, func(t *testing.T) {
			s := server.Start(t, "[mysqld]\n", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog",
				"--binlog-transaction-compression="+compression, "--binlog-checksum=CRC32")
			testSteps(t, s)
		})
	}
}

// connection is one session: what a step sets must hold for its next statement.
func connection(t *testing.T, s *server.Server) *sql.Conn {
	t.Helper()
	conn, err := s.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func testSteps(t *testing.T, s *server.Server) {
	conn := connection(t, s)
	for n, step := range steps {
		if n == len(steps)/2 {
			execute(t, conn, "FLUSH BINARY LOGS")
		}
		before := executed(t, conn)
		for _, statement := range step.statements {
			execute(t, conn, statement)
		}
		_, found := readLast(t, s)
		last := found[len(found)-1]
		after := executed(t, conn)
		if !after.Contains(setOf(t, last)) || before.Contains(setOf(t, last)) || last.Kind != step.kind {
			t.Errorf("%s: the last transaction is %+v; executed %s, before %s; want kind %s", step.name, last, after, before, step.kind)
		}
	}
	reader, found := readLast(t, s)
	whole := reader.Previous()
	for _, one := range found {
		whole = whole.Union(setOf(t, one))
	}
	if diff := cmp.Diff(executed(t, conn).String(), whole.String()); diff != "" {
		t.Errorf("what the last file and its previous GTIDs hold (-server +file):\n%s", diff)
	}
	if !reader.InUse() || reader.Ended() {
		t.Errorf("the file that mysqld is writing: in use %t, ended %t", reader.InUse(), reader.Ended())
	}
	comparePositions(t, conn, found)
	testCuts(t, s, found)
	execute(t, conn, "FLUSH BINARY LOGS")
	earlier, err := os.ReadFile(logs(t, s)[1])
	if err != nil {
		t.Fatal(err)
	}
	if closed, _ := readAll(t, earlier); closed.InUse() || !closed.Ended() {
		t.Errorf("a closed file: in use %t, ended %t", closed.InUse(), closed.Ended())
	}
}

// comparePositions demands that transactions begin and end where the server says.
func comparePositions(t *testing.T, conn *sql.Conn, found []binlog.Transaction) {
	t.Helper()
	rows, err := conn.QueryContext(t.Context(), "SHOW BINLOG EVENTS IN 'binlog.000002'")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var want, got []int64
	var end int64
	for rows.Next() {
		var log, kind, info string
		var start, id int64
		if err := rows.Scan(&log, &start, &kind, &id, &end, &info); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(kind, "Gtid") {
			want = append(want, start)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, one := range found {
		got = append(got, one.Start)
	}
	got, want = append(got, found[len(found)-1].End), append(want, end)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("positions (-server +file):\n%s", diff)
	}
}

// testCuts cuts the file everywhere: what is left of it is read as whole transactions and a torn rest.
func testCuts(t *testing.T, s *server.Server, whole []binlog.Transaction) {
	files := logs(t, s)
	content, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	for size := whole[0].Start; size < int64(len(content)); size++ {
		reader, err := binlog.NewReader(bytes.NewReader(content[:size]))
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		for ; ; count++ {
			if _, err = reader.Next(); err != nil {
				break
			}
		}
		want := 0
		for want < len(whole) && whole[want].End <= size {
			want++
		}
		atEdge := size == whole[0].Start || want > 0 && whole[want-1].End == size
		if count != want || errors.Is(err, io.EOF) != atEdge || errors.Is(err, binlog.ErrTorn) == atEdge || reader.End() > size {
			t.Fatalf("cut at %d: %d transactions and %v, want %d", size, count, err, want)
		}
	}
	for _, damaged := range []int64{whole[1].Start + 30, whole[len(whole)-1].End - 1} {
		flipped := bytes.Clone(content)
		flipped[damaged] ^= 1
		reader, err := binlog.NewReader(bytes.NewReader(flipped))
		for err == nil {
			_, err = reader.Next()
		}
		if !errors.Is(err, binlog.ErrTorn) {
			t.Errorf("a wrong byte at %d: %v", damaged, err)
		}
	}
}

func execute(t *testing.T, conn *sql.Conn, statement string) {
	t.Helper()
	if _, err := conn.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func executed(t *testing.T, conn *sql.Conn) gtid.Set {
	t.Helper()
	var text string
	if err := conn.QueryRowContext(t.Context(), "SELECT @@GLOBAL.gtid_executed").Scan(&text); err != nil {
		t.Fatal(err)
	}
	set, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func setOf(t *testing.T, one binlog.Transaction) gtid.Set {
	t.Helper()
	text := one.Source.UUID
	if one.Source.Tag != "" {
		text += ":" + one.Source.Tag
	}
	set, err := gtid.Parse(fmt.Sprintf("%s:%d", text, one.Number))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func logs(t *testing.T, s *server.Server) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Dir, "data", "binlog.[0-9]*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("binary logs: %v, %v", files, err)
	}
	return files
}

func readLast(t *testing.T, s *server.Server) (*binlog.Reader, []binlog.Transaction) {
	t.Helper()
	files := logs(t, s)
	content, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	return readAll(t, content)
}

func readAll(t *testing.T, content []byte) (*binlog.Reader, []binlog.Transaction) {
	t.Helper()
	reader, err := binlog.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var found []binlog.Transaction
	for {
		one, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return reader, found
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, one)
	}
}
