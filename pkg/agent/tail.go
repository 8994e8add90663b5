// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// logFiles are the files of a binary or relay log in the data directory, the oldest first, as its index lists them. There
// are none when there is no index.
func (c *Config) logFiles(name string) ([]string, error) {
	index, err := os.Open(filepath.Join(c.dataDir(), name+".index"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the index of a log: %w", err)
	}
	defer func() { _ = index.Close() }() // only read
	var files []string
	lines := bufio.NewScanner(index)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			files = append(files, filepath.Join(c.dataDir(), filepath.Base(line)))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the index of a log: %w", err)
	}
	return files, nil
}

// tail is what the last binary log file holds beyond a history.
type tail struct {
	// file is the path of the last file, size its length.
	file string
	size int64
	// cut is the offset from which on everything is extra; 0 when nothing is.
	cut   int64
	extra gtid.Set
	// obstacle says why it cannot be cut off, "" when it can.
	obstacle string
}

// judge says what of the tail of the last binary log is beyond a history.
type judge struct {
	executed gtid.Set
	// own is the UUID under which this instance committed as a primary, cluster the one of markers. Whatever else is in the
	// log was executed by the applier, waited for nobody and cannot be rolled back.
	own, cluster string
	// lines are the intervals of executed, by line of history: a file may hold millions of transactions.
	lines map[gtid.Source][]gtid.Interval
}

// newJudge makes a judge of a history.
func newJudge(executed gtid.Set, own, cluster string) judge {
	j := judge{executed: executed, own: own, cluster: strings.ToLower(cluster), lines: map[gtid.Source][]gtid.Interval{}}
	for _, source := range executed.Sources() {
		j.lines[source] = executed.Intervals(source)
	}
	return j
}

// has says whether a transaction is in the history.
func (j judge) has(one binlog.Transaction) bool {
	line := j.lines[one.Source]
	_, found := slices.BinarySearchFunc(line, one.Number, func(i gtid.Interval, number int64) int {
		switch {
		case i.Last < number:
			return -1
		case i.First > number:
			return 1
		}
		return 0
	})
	return found
}

// last judges the last binary log file of a data directory whose mysqld is down.
func (j judge) last(c *Config) (tail, error) {
	files, err := c.logFiles(mycnf.LogBin)
	if err != nil {
		return tail{}, err
	}
	if len(files) == 0 {
		return tail{obstacle: "there is no binary log"}, nil
	}
	path := files[len(files)-1]
	file, err := os.Open(path)
	if err != nil {
		return tail{}, fmt.Errorf("opening the last binary log: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return tail{}, fmt.Errorf("opening the last binary log: %w", err)
	}
	found := tail{file: path, size: info.Size()}
	err = j.read(file, &found)
	return found, err
}

// read fills in what the file holds beyond the history. Only faults of the disk are errors.
func (j judge) read(file io.Reader, found *tail) error {
	log, err := binlog.NewReader(file)
	switch {
	case errors.Is(err, binlog.ErrTorn) || errors.Is(err, binlog.ErrFormat):
		found.obstacle = err.Error()
		return nil
	case err != nil:
		return err
	case !j.executed.Contains(log.Previous().WithoutTagPrefix(gtid.MarkerTagPrefix)):
		found.obstacle = "what is beyond the history of the primary begins in an earlier file"
	}
	for {
		one, err := log.Next()
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, binlog.ErrTorn):
			if found.cut > 0 && (!log.InUse() || log.Ended()) {
				found.obstruct("mysqld had closed the log: it may have committed everything in it")
			}
			return nil
		case errors.Is(err, binlog.ErrFormat):
			found.obstruct(err.Error())
			return nil
		case err != nil:
			return err
		}
		if err := j.weigh(one, found); err != nil {
			return err
		}
	}
}

// weigh looks at one transaction. A marker alone is no reason to cut: one of an epoch that was never opened may be on some
// instances for ever, and holds nothing.
func (j judge) weigh(one binlog.Transaction, found *tail) error {
	marker := one.Source.UUID == j.cluster && strings.HasPrefix(one.Source.Tag, gtid.MarkerTagPrefix)
	if marker && found.cut == 0 {
		return nil
	}
	if j.has(one) {
		if found.cut > 0 {
			found.obstruct(one.GTID() + " is in the history, behind something that is not")
		}
		return nil
	}
	id, err := gtid.Parse(one.GTID())
	if err != nil {
		return fmt.Errorf("reading the last binary log: %w", err)
	}
	if found.cut == 0 {
		found.cut = one.Start
	}
	found.extra = found.extra.Union(id)
	switch {
	case one.Source.UUID != j.own && !marker:
		found.obstruct(one.GTID() + " was not committed here")
	case one.Kind != binlog.Transactional:
		found.obstruct(fmt.Sprintf("%s cannot be rolled back: %s", one.GTID(), one.Kind))
	}
	return nil
}

// obstruct notes the first obstacle.
func (t *tail) obstruct(reason string) {
	if t.obstacle == "" {
		t.obstacle = reason
	}
}

// ownUUID is the server UUID of the data directory, "" when it has none yet.
func (c *Config) ownUUID() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.dataDir(), fileAuto))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the server UUID: %w", err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, found := strings.CutPrefix(strings.TrimSpace(line), "server-uuid="); found {
			return strings.ToLower(value), nil
		}
	}
	return "", nil
}

// fileAuto holds the server UUID; mysqld makes a new one when it is missing.
const fileAuto = "auto.cnf"
