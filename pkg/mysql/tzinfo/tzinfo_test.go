// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package tzinfo

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// zoneinfo is the database of the Go installation that runs the tests.
func zoneinfo(t testing.TB) []byte {
	t.Helper()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func archive(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range files {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEveryZoneIsCoveredAndBounded(t *testing.T) {
	db, err := read(zoneinfo(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(db.zones) < 400 || len(db.rules) >= len(db.zones) {
		t.Errorf("%d zones with %d different rules", len(db.zones), len(db.rules))
	}
	for _, z := range db.zones {
		r := db.rules[z.rules]
		if len(r.kinds) == 0 {
			t.Errorf("%s has no kind of time", z.name)
		}
		for i := 1; i < len(r.transitions); i++ {
			if r.transitions[i].at <= r.transitions[i-1].at {
				t.Errorf("%s: transition %d is not after the one before", z.name, i)
			}
		}
	}
}

// locations are the zones of the database as Go reads them.
func locations(t testing.TB, db *database) map[string]*time.Location {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zoneinfo.zip")
	if err := os.WriteFile(path, zoneinfo(t), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZONEINFO", path)
	found := make(map[string]*time.Location, len(db.zones))
	for _, z := range db.zones {
		location, err := time.LoadLocation(z.name)
		if err != nil {
			t.Fatal(err)
		}
		found[z.name] = location
	}
	return found
}

// TestRulesAgreeWithGo looks at each zone every 127 hours, and around each transition.
func TestRulesAgreeWithGo(t *testing.T) {
	db, err := read(zoneinfo(t))
	if err != nil {
		t.Fatal(err)
	}
	known := locations(t, db)
	for _, z := range db.zones {
		r := db.rules[z.rules]
		for _, at := range instants(r) {
			_, offset := at.In(known[z.name]).Zone()
			if got := r.offset(at.Unix()); got != offset {
				t.Fatalf("%s at %s: offset %d, want %d", z.name, at, got, offset)
			}
		}
	}
}

// instants are where the rules are compared.
func instants(r rules) []time.Time {
	var all []time.Time
	for at := time.Unix(0, 0).UTC(); at.Before(last); at = at.Add(127 * time.Hour) {
		all = append(all, at)
	}
	for _, tr := range r.transitions {
		if tr.at > 0 {
			at := time.Unix(tr.at, 0).UTC()
			all = append(all, at.Add(-time.Second), at, at.Add(time.Second))
		}
	}
	return all
}

// offset is how mysqld finds the offset of an instant.
func (r rules) offset(at int64) int {
	current := 0
	for _, t := range r.transitions {
		if t.at <= at {
			current = t.kind
		}
	}
	return r.kinds[current].offset
}

func TestStatementsAreBoundedAndInOrder(t *testing.T) {
	var tables []string
	for statement, err := range Statements(zoneinfo(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if len(statement) > MaxStatementBytes {
			t.Errorf("a statement has %d bytes", len(statement))
		}
		head, _, _ := strings.Cut(statement, " (")
		if len(tables) == 0 || tables[len(tables)-1] != head {
			tables = append(tables, head)
		}
	}
	want := []string{
		"DELETE FROM mysql.time_zone", "DELETE FROM mysql.time_zone_name", "DELETE FROM mysql.time_zone_transition",
		"DELETE FROM mysql.time_zone_transition_type", "DELETE FROM mysql.time_zone_leap_second",
		"INSERT INTO mysql.time_zone", "INSERT INTO mysql.time_zone_transition_type", "INSERT INTO mysql.time_zone_transition",
		"INSERT INTO mysql.time_zone_name",
	}
	if diff := cmp.Diff(want, tables); diff != "" {
		t.Error(diff)
	}
}

func TestStatementsStopWhenTheReaderHasEnough(t *testing.T) {
	for stopAfter := 1; stopAfter < 8; stopAfter++ {
		seen := 0
		for range Statements(zoneinfo(t)) {
			if seen++; seen == stopAfter {
				break
			}
		}
		if seen != stopAfter {
			t.Errorf("%d statements, want %d", seen, stopAfter)
		}
	}
}

func TestDamagedDatabasesAreRefused(t *testing.T) {
	good := zoneinfo(t)
	tests := map[string][]byte{
		"not an archive":                       []byte("hello"),
		"a truncated archive":                  good[:len(good)/2],
		"an empty archive":                     archive(t, nil),
		"a file that is no time zone":          archive(t, map[string]string{"Europe/Nowhere": "TZif?"}),
		"a name that would leave its literal":  archive(t, map[string]string{"a',1); DROP TABLE t; --": ""}),
		"a file of more than the largest size": archive(t, map[string]string{"Big": strings.Repeat("x", maxZoneBytes+1)}),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			for statement, err := range Statements(content) {
				if err == nil {
					t.Errorf("yielded %.40q", statement)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	archive, err := zip.NewReader(bytes.NewReader(zoneinfo(f)), int64(len(zoneinfo(f))))
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(archive.File); i += 40 {
		content, err := contentOf(archive.File[i])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := parse("Fuzz", content)
		if err == nil && (len(r.kinds) == 0 || len(r.kinds) > maxTypes || len(r.transitions) > maxTransitions) {
			t.Errorf("%d kinds, %d transitions", len(r.kinds), len(r.transitions))
		}
	})
}
