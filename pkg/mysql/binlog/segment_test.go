// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/server"
)

// printed finds what mysqlbinlog prints of a transaction: its original time of commit, and its GTID some lines below.
var printed = regexp.MustCompile(`(?s)original_committed_timestamp=(\d+).*?GTID_NEXT= '([^']+)'`)

// stamped is a transaction as somebody tells of it.
type stamped struct {
	GTID     string
	OriginAt string
}

// mysqlbinlog prints files, with their checksums verified.
func mysqlbinlog(t *testing.T, files ...string) []stamped {
	t.Helper()
	like := server.Command(t.Context(), t)
	program := filepath.Join(filepath.Dir(filepath.Dir(like.Args[3])), "bin", "mysqlbinlog")
	args := append([]string{like.Args[1], like.Args[2], program, "--no-defaults", "--verify-binlog-checksum"}, files...)
	command := exec.CommandContext(t.Context(), like.Path, args...) //nolint:gosec // the test's own program
	command.Stderr = t.Output()
	text, err := command.Output()
	if err != nil {
		t.Fatalf("mysqlbinlog: %v", err)
	}
	var found []stamped
	for _, match := range printed.FindAllStringSubmatch(string(text), -1) {
		found = append(found, stamped{GTID: match[2], OriginAt: match[1]})
	}
	return found
}

// stampsOf are the transactions as the Reader tells of them.
func stampsOf(list []binlog.Transaction) []stamped {
	var found []stamped
	for _, one := range list {
		found = append(found, stamped{GTID: one.GTID(), OriginAt: strconv.FormatInt(one.Committed().UnixMicro(), 10)})
	}
	return found
}

// TestASegmentIsReadByMysqlbinlog compares times of commit, untagged and tagged, of this server and of another one, and reads
// a segment from the middle of the file that mysqld is writing.
func TestASegmentIsReadByMysqlbinlog(t *testing.T) {
	for name, compression := range map[string]string{"without compression": "OFF", "with compression": "ON"} {
		t.Run(name, func(t *testing.T) {
			s := server.Start(t, "[mysqld]\n", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog",
				"--binlog-transaction-compression="+compression, "--binlog-checksum=CRC32")
			conn := connection(t, s)
			for _, statement := range []string{
				"CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY, v TEXT)", "INSERT INTO d.t VALUES (1, REPEAT('x', 9000))",
				"SET gtid_next='11111111-2222-3333-4444-5555555555ff:moco_e7:1'", "INSERT INTO d.t VALUES (2, 'x')", "SET gtid_next='AUTOMATIC'",
				"SET gtid_next='AUTOMATIC:a_tag'", "INSERT INTO d.t VALUES (3, 'x')", "SET gtid_next='AUTOMATIC'",
				"SET original_commit_timestamp=1600000000123456",
				"SET gtid_next='21111111-2222-3333-4444-5555555555ff:5'", "INSERT INTO d.t VALUES (4, 'x')",
				"SET original_commit_timestamp=1600000000123456",
				"SET gtid_next='21111111-2222-3333-4444-5555555555ff:tag:6'", "INSERT INTO d.t VALUES (5, 'x')",
			} {
				execute(t, conn, statement)
			}
			file := logs(t, s)[0]
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			reader, found := readAll(t, content)
			if diff := cmp.Diff(mysqlbinlog(t, file), stampsOf(found)); diff != "" {
				t.Errorf("times of commit (-mysqlbinlog +reader):\n%s", diff)
			}
			if at := found[len(found)-1].OriginalCommit; at != 1600000000123456 || found[0].OriginalCommit <= at {
				t.Errorf("the last one committed at %d, the first at %d", at, found[0].OriginalCommit)
			}
			testSegments(t, reader, content, found)
		})
	}
}

// testSegments cuts the file into a segment before and one behind each transaction.
func testSegments(t *testing.T, reader *binlog.Reader, content []byte, found []binlog.Transaction) {
	before := reader.Previous()
	path := filepath.Join(t.TempDir(), "segment")
	for n, one := range found {
		segment := append(bytes.Clone(reader.PreambleAt(before)), content[one.Start:reader.End()]...)
		if n == 0 {
			segment = append(bytes.Clone(reader.Preamble()), content[one.Start:reader.End()]...)
		}
		if err := os.WriteFile(path, segment, 0o600); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stampsOf(found[n:]), mysqlbinlog(t, path)); diff != "" {
			t.Errorf("the segment from transaction %d on (-want +mysqlbinlog):\n%s", n, diff)
		}
		again, rest := readAll(t, segment)
		if !again.Previous().Equal(before) || again.InUse() || len(rest) != len(found)-n {
			t.Errorf("the segment from transaction %d on: previous %s, want %s; in use %t; %d transactions", n, again.Previous(), before, again.InUse(), len(rest))
		}
		set, err := gtid.Parse(strings.ToLower(one.GTID()))
		if err != nil {
			t.Fatal(err)
		}
		before = before.Union(set)
	}
}
