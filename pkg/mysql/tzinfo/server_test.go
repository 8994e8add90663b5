// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package tzinfo_test

import (
	"archive/zip"
	"bytes"
	"context"
	"database/sql"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql/tzinfo"
	"github.com/moco-mysql/moco/test/server"
)

const (
	layout = "2006-01-02 15:04:05"
	// instantsPerZone is how many random instants are converted in each zone.
	instantsPerZone = 40
)

// database reads what comes with the Go installation that runs the tests.
func database(t *testing.T) []byte {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// zones are the zones in the database, as Go understands them, in the order of
// their names.
func zones(t *testing.T, content []byte) []*time.Location {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	var all []*time.Location
	for _, file := range archive.File {
		if file.FileInfo().IsDir() {
			continue
		}
		reader, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		var data bytes.Buffer
		if _, err := data.ReadFrom(reader); err != nil {
			t.Fatal(err)
		}
		location, err := time.LoadLocationFromTZData(file.Name, data.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, location)
	}
	slices.SortFunc(all, func(a, b *time.Location) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func TestAgainstARealServer(t *testing.T) {
	content := database(t)
	s := server.Start(t, "[mysqld]\n")
	fill := func() {
		for statement, err := range tzinfo.Statements(content) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.DB.ExecContext(t.Context(), statement); err != nil {
				t.Fatalf("%v, executing %.200s…", err, statement)
			}
		}
	}
	fill()
	fill() // again, as after a failure half-way
	all := zones(t, content)
	t.Run("every zone has a row", func(t *testing.T) {
		var n int
		if err := s.DB.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM mysql.time_zone_name").Scan(&n); err != nil || n != len(all) {
			t.Errorf("%d rows for %d zones (%v)", n, len(all), err)
		}
	})
	t.Run("instants become the local times that Go knows", func(t *testing.T) { testFromUTC(t, s.DB, all) })
	t.Run("unambiguous local times become the instants that Go knows", func(t *testing.T) { testToUTC(t, s.DB, all) })
	t.Run("a session can be in a zone", func(t *testing.T) { testSession(t, s.DB) })
}

// instants are random moments that mysqld converts, most of them from 2025 on,
// and those around the changes of the coming years.
func instants(r *rand.Rand, zone *time.Location) []time.Time {
	from := time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC).Unix()
	recent := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	until := time.Date(2037, 12, 31, 0, 0, 0, 0, time.UTC).Unix()
	var found []time.Time
	for i := range instantsPerZone {
		first := recent
		if i%3 == 0 {
			first = from
		}
		found = append(found, time.Unix(first+r.Int64N(until-first), 0))
	}
	for year := 2025; year <= 2037; year += 4 {
		_, change := time.Date(year, 1, 10, 0, 0, 0, 0, zone).ZoneBounds()
		if !change.IsZero() && change.Unix() < until {
			found = append(found, change.Add(-time.Second), change)
		}
	}
	return found
}

func testFromUTC(t *testing.T, db *sql.DB, all []*time.Location) {
	r := rand.New(rand.NewPCG(3, 5))
	compared := 0
	for _, zone := range all {
		var rows []conversion
		for _, at := range instants(r, zone) {
			rows = append(rows, conversion{at.UTC().Format(layout), "+00:00", zone.String(), at.In(zone).Format(layout)})
		}
		compared += convert(t, db, rows)
	}
	if compared < len(all)*instantsPerZone {
		t.Errorf("only %d conversions in %d zones", compared, len(all))
	}
	t.Logf("%d conversions", compared)
}

func testToUTC(t *testing.T, db *sql.DB, all []*time.Location) {
	r := rand.New(rand.NewPCG(13, 17))
	compared := 0
	for _, zone := range all {
		var rows []conversion
		for _, at := range instants(r, zone) {
			if local := at.In(zone); unambiguous(local) {
				rows = append(rows, conversion{local.Format(layout), zone.String(), "+00:00", at.UTC().Format(layout)})
			}
		}
		compared += convert(t, db, rows)
	}
	if compared < len(all)*instantsPerZone/2 {
		t.Errorf("only %d conversions in %d zones", compared, len(all))
	}
}

// unambiguous tells whether no change of the zone is near, so that the local
// time names one instant.
func unambiguous(local time.Time) bool {
	start, end := local.ZoneBounds()
	const near = 25 * time.Hour
	return (start.IsZero() || local.Sub(start) > near) && (end.IsZero() || end.Sub(local) > near)
}

// conversion is one call of CONVERT_TZ and what it must return.
type conversion struct{ at, from, to, want string }

// convert asks the server for all conversions in one statement, and returns how
// many it compared.
func convert(t *testing.T, db *sql.DB, rows []conversion) int {
	t.Helper()
	if len(rows) == 0 {
		return 0
	}
	var query strings.Builder
	var args []any
	for i, row := range rows {
		if i > 0 {
			query.WriteString(" UNION ALL ")
		}
		query.WriteString("SELECT CONVERT_TZ(?, ?, ?)")
		args = append(args, row.at, row.from, row.to)
	}
	answers, err := db.QueryContext(t.Context(), query.String(), args...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answers.Close() }()
	n := 0
	for answers.Next() {
		var got sql.NullString
		if err := answers.Scan(&got); err != nil {
			t.Fatal(err)
		}
		// The server prints six decimals for a parameter.
		if text, _, _ := strings.Cut(got.String, "."); text != rows[n].want {
			t.Errorf("%s from %s to %s: got %q, want %q", rows[n].at, rows[n].from, rows[n].to, got.String, rows[n].want)
		}
		n++
	}
	if err := answers.Err(); err != nil || n != len(rows) {
		t.Fatalf("%d answers to %d questions (%v)", n, len(rows), err)
	}
	return n
}

func testSession(t *testing.T, db *sql.DB) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, "SET time_zone = 'Europe/Berlin'"); err != nil {
		t.Fatal(err)
	}
	var got string
	// 2030-07-01 12:00:00 UTC
	if err := conn.QueryRowContext(ctx, "SELECT FROM_UNIXTIME(1909137600)").Scan(&got); err != nil || got != "2030-07-01 14:00:00" {
		t.Errorf("got %q (%v), want summer time", got, err)
	}
	if _, err := conn.ExecContext(ctx, "SET time_zone = 'Europe/Nowhere'"); err == nil {
		t.Error("a zone that does not exist was taken")
	}
}
