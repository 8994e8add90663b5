// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package tzinfo

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"
	"strings"
)

// Bounds of the database.
const (
	// maxZones is the number of files; the database has some 600.
	maxZones = 2000
	// maxZoneBytes is the size of one file; the largest has 4 KiB.
	maxZoneBytes = 64 << 10
)

// MaxStatementBytes is the size that no statement exceeds.
const MaxStatementBytes = 64 << 10

// namePattern is what the name of a zone looks like; the table takes 64 bytes.
var namePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+/-]{0,63}$`)

// abbreviationPattern is what short names look like (RFC 9636, section 4).
var abbreviationPattern = regexp.MustCompile(`^[A-Za-z0-9+-]+$`)

// zone is one name with its rules.
type zone struct {
	name  string
	rules int // index
}

// database is what the archive holds.
type database struct {
	zones []zone
	rules []rules
}

// Statements yields the SQL statements that replace the content of the time
// zone tables, in the order in which they have to be executed, some 30 of
// them. zoneinfo is the content of lib/time/zoneinfo.zip of a Go installation.
// The statements name the schema mysql, need no session state, and are to be
// executed in one session that may write those tables; a failure leaves the
// tables incomplete, and the statements may be executed again. mysqld knows a
// zone as soon as they are done, unless somebody asked for it before.
//
// When the archive cannot be read, the only thing yielded is the error.
func Statements(zoneinfo []byte) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		db, err := read(zoneinfo)
		if err != nil {
			yield("", fmt.Errorf("reading the time zone database: %w", err))
			return
		}
		for _, table := range []string{"time_zone", "time_zone_name", "time_zone_transition", "time_zone_transition_type", "time_zone_leap_second"} {
			if !yield("DELETE FROM mysql."+table, nil) {
				return
			}
		}
		db.inserts(yield)
	}
}

// read reads the archive, whose files are the zones under their names.
func read(zoneinfo []byte) (*database, error) {
	archive, err := zip.NewReader(bytes.NewReader(zoneinfo), int64(len(zoneinfo)))
	if err != nil {
		return nil, err
	}
	if len(archive.File) > maxZones {
		return nil, fmt.Errorf("%d files are more than %d", len(archive.File), maxZones)
	}
	db := &database{}
	seen := map[string]int{}
	for _, file := range archive.File {
		if file.FileInfo().IsDir() {
			continue
		}
		if err := db.add(file, seen); err != nil {
			return nil, fmt.Errorf("file %q: %w", file.Name, err)
		}
	}
	if len(db.zones) == 0 {
		return nil, errors.New("there is no time zone in it")
	}
	return db, nil
}

// add reads one zone; seen maps the content of a file to its rules.
func (db *database) add(file *zip.File, seen map[string]int) error {
	if !namePattern.MatchString(file.Name) {
		return errors.New("this is not the name of a time zone")
	}
	content, err := contentOf(file)
	if err != nil {
		return err
	}
	i, known := seen[string(content)]
	if !known {
		r, err := parse(file.Name, content)
		if err != nil {
			return err
		}
		for _, k := range r.kinds {
			if !abbreviationPattern.MatchString(k.abbreviation) {
				return fmt.Errorf("%q is not an abbreviation", k.abbreviation)
			}
		}
		i = len(db.rules)
		seen[string(content)] = i
		db.rules = append(db.rules, r)
	}
	db.zones = append(db.zones, zone{file.Name, i})
	return nil
}

func contentOf(file *zip.File) ([]byte, error) {
	reader, err := file.Open()
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(reader, maxZoneBytes+1))
	if err := errors.Join(err, reader.Close()); err != nil {
		return nil, err
	}
	if len(content) > maxZoneBytes {
		return nil, fmt.Errorf("it has more than %d bytes", maxZoneBytes)
	}
	return content, nil
}

// inserts yields the statements that fill the empty tables. The names come
// last: until then a zone is not found, rather than found incomplete.
func (db *database) inserts(yield func(string, error) bool) {
	w := &inserter{yield: yield}
	w.begin("time_zone (Time_zone_id, Use_leap_seconds)")
	for id := range db.rules {
		w.row("(%d,'N')", id+1)
	}
	w.begin("time_zone_transition_type (Time_zone_id, Transition_type_id, Offset, Is_DST, Abbreviation)")
	for id, r := range db.rules {
		for i, k := range r.kinds {
			w.row("(%d,%d,%d,%d,'%s')", id+1, i, k.offset, k.dst, k.abbreviation)
		}
	}
	w.begin("time_zone_transition (Time_zone_id, Transition_time, Transition_type_id)")
	for id, r := range db.rules {
		for _, t := range r.transitions {
			w.row("(%d,%d,%d)", id+1, t.at, t.kind)
		}
	}
	w.begin("time_zone_name (Name, Time_zone_id)")
	for _, z := range db.zones {
		w.row("('%s',%d)", z.name, z.rules+1)
	}
	w.flush()
}

// inserter gathers rows into statements of bounded size.
type inserter struct {
	yield   func(string, error) bool
	head    string
	text    strings.Builder
	stopped bool // the reader of the statements has enough
}

// begin ends the statement under way; the next rows go into another table.
func (w *inserter) begin(table string) {
	w.flush()
	w.head = "INSERT INTO mysql." + table + " VALUES "
}

func (w *inserter) row(format string, values ...any) {
	row := fmt.Sprintf(format, values...)
	if w.text.Len()+1+len(row) > MaxStatementBytes {
		w.flush()
	}
	if w.text.Len() == 0 {
		w.text.WriteString(w.head)
	} else {
		w.text.WriteByte(',')
	}
	w.text.WriteString(row)
}

func (w *inserter) flush() {
	if w.text.Len() > 0 && !w.stopped {
		w.stopped = !w.yield(w.text.String(), nil)
	}
	w.text.Reset()
}
