// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/server"
)

const (
	testCluster = "11111111-2222-3333-4444-555555555555"
	otherUUID   = "99999999-2222-3333-4444-555555555555"
)

// logsOfAServer are the closed and the open binary log of a server with the given UUID: transactions 1 to 3 in the first,
// 4, a marker, 5 and 6 in the second.
func logsOfAServer(t *testing.T) (uuid string, closed, open []byte) {
	t.Helper()
	s := server.Start(t, "[mysqld]\n", "--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-bin=binlog")
	conn, err := s.DB.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range []string{
		"CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (3)", "FLUSH BINARY LOGS",
		"INSERT INTO d.t VALUES (4)", "SET gtid_next='" + testCluster + ":moco_e3:1'", "BEGIN", "COMMIT", "SET gtid_next='AUTOMATIC'",
		"INSERT INTO d.t VALUES (5)", "INSERT INTO d.t VALUES (6)",
	} {
		if _, err := conn.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := conn.QueryRowContext(t.Context(), "SELECT @@server_uuid").Scan(&uuid); err != nil {
		t.Fatal(err)
	}
	var contents [2][]byte
	for n, name := range []string{"binlog.000001", "binlog.000002"} {
		if contents[n], err = os.ReadFile(filepath.Join(s.Dir, "data", name)); err != nil {
			t.Fatal(err)
		}
	}
	return uuid, contents[0], contents[1]
}

func TestJudge(t *testing.T) {
	uuid, closed, open := logsOfAServer(t)
	marker := "," + testCluster + ":moco_e3:1"
	cases := map[string]struct {
		log      []byte
		executed string // of the server's own UUID, and more
		own      string
		extra    string // of the server's own UUID, and more; "" when nothing is
		obstacle string // a part of it
	}{
		"everything is in the history":                     {log: open, executed: ":1-6" + marker, own: uuid},
		"the last transaction is extra":                    {log: open, executed: ":1-5" + marker, own: uuid, extra: ":6"},
		"a marker alone is no reason to cut":               {log: open, executed: ":1-4", own: uuid, extra: ":5-6"},
		"a marker behind what is extra is extra, too":      {log: open, executed: ":1-3", own: uuid, extra: ":4-6" + marker},
		"a torn transaction behind is nothing":             {log: open[:len(open)-10], executed: ":1-5" + marker, own: uuid},
		"a torn transaction behind what is extra":          {log: open[:len(open)-10], executed: ":1-4" + marker, own: uuid, extra: ":5"},
		"something of the history is behind what is extra": {log: open, executed: ":1-4:6" + marker, own: uuid, extra: ":5", obstacle: "behind something"},
		"an earlier file holds more than the history":      {log: open, executed: ":1-2:4-6" + marker, own: uuid, obstacle: "earlier file"},
		"what is extra was committed somewhere else":       {log: open, executed: ":1-5" + marker, own: otherUUID, extra: ":6", obstacle: "was not committed here"},
		"a marker that others have may be missing":         {log: open, executed: ":1-6", own: otherUUID},
		"a closed file without anything extra":             {log: closed, executed: ":1-3", own: uuid},
		"a closed file":                                    {log: closed, executed: ":1-2", own: uuid, extra: ":3", obstacle: "had closed"},
		"a file that was hardly begun":                     {log: open[:50], executed: ":1-3", own: uuid, obstacle: "torn"},
		"something else":                                   {log: []byte("something else"), executed: ":1-3", own: uuid, obstacle: "unknown format"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			of := func(text string) gtid.Set {
				if strings.HasPrefix(text, ":") {
					text = uuid + text
				}
				set, err := gtid.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				return set
			}
			var found tail
			if err := newJudge(of(c.executed), c.own, testCluster).read(bytes.NewReader(c.log), &found); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(of(c.extra).String(), found.extra.String()); diff != "" {
				t.Errorf("extra (-want +got):\n%s", diff)
			}
			if (found.cut > 0) != (c.extra != "") || !strings.Contains(found.obstacle, c.obstacle) || (found.obstacle == "") != (c.obstacle == "") {
				t.Errorf("cut at %d, obstacle %q, want one with %q", found.cut, found.obstacle, c.obstacle)
			}
		})
	}
}
