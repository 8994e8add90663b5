// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

const (
	serverA = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
	serverB = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
)

// event makes an event with a right checksum.
func event(kind byte, body []byte) []byte {
	e := make([]byte, 19, 19+len(body)+4)
	e[4] = kind
	binary.LittleEndian.PutUint32(e[9:], uint32(cap(e)))
	e = append(e, body...)
	return binary.LittleEndian.AppendUint32(e, crc32.ChecksumIEEE(e))
}

// transaction makes one of a certain size, at least 100 bytes, that committed at a time in microseconds.
func transaction(server string, number, commit, size int) []byte {
	uuid, _ := hex.DecodeString(strings.ReplaceAll(server, "-", ""))
	body := append([]byte{0}, uuid...)
	body = binary.LittleEndian.AppendUint64(body, uint64(number))
	body = append(body, make([]byte, 17)...)
	body = append(body, binary.LittleEndian.AppendUint64(nil, uint64(commit))[:7]...)
	body = append(body, 253, byte(size), byte(size>>8), byte(size>>16))
	first := event(33, body)
	return append(first, event(16, make([]byte, size-len(first)-23))...)
}

// preamble is how a file begins that mysqld is writing.
func preamble(t *testing.T, previous string) []byte {
	t.Helper()
	format := make([]byte, 60)
	format[59] = 1
	empty := append(append([]byte("\xfebin"), event(15, format)...), event(35, make([]byte, 8))...)
	reader, err := binlog.NewReader(bytes.NewReader(empty))
	if err != nil {
		t.Fatal(err)
	}
	begin := bytes.Clone(reader.PreambleAt(set(t, previous)))
	begin[inUseAt] |= 1
	return begin
}

func set(t *testing.T, text string) gtid.Set {
	t.Helper()
	s, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logs are the files of a binary log.
type logs struct {
	dir   string
	names []string
	sizes map[string]int64
}

func newLogs(t *testing.T) *logs {
	t.Helper()
	return &logs{dir: t.TempDir(), sizes: map[string]int64{}}
}

// add writes the next file.
func (l *logs) add(t *testing.T, previous string, transactions ...[]byte) *logs {
	t.Helper()
	path := filepath.Join(l.dir, fmt.Sprintf("binlog.%06d", len(l.names)+1))
	content := append(preamble(t, previous), bytes.Join(transactions, nil)...)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l.names, l.sizes[path] = append(l.names, path), int64(len(content))
	return l
}

func (l *logs) files() ([]string, error) { return l.names, nil }

// position is the end of the last file.
func (l *logs) position(executed gtid.Set) Position {
	last := l.names[len(l.names)-1]
	return Position{File: filepath.Base(last), Offset: l.sizes[last], Executed: executed, ServerUUID: serverA}
}

// seen is what a test wants of one scan.
type seen struct {
	File, GTIDs string
	Bytes       int64
	Halt        halt
	Waiting     int64
}

func TestRead(t *testing.T) {
	one := func(number, size int) []byte { return transaction(serverA, number, 1000+number, size) }
	cases := map[string]struct {
		logs            func(*testing.T) *logs
		executed, known string
		want            []seen
	}{
		"nothing is there": {
			logs: func(t *testing.T) *logs { return newLogs(t).add(t, "") },
			want: []seen{{Halt: haltEnd}},
		},
		"several files, one of them empty": {
			logs: func(t *testing.T) *logs {
				return newLogs(t).add(t, "", one(1, 100), one(2, 100)).add(t, serverA+":1-2").add(t, serverA+":1-2", one(3, 100))
			},
			executed: serverA + ":1-3",
			want: []seen{
				{File: "binlog.000001", GTIDs: serverA + ":1-2", Bytes: 200},
				{File: "binlog.000003", GTIDs: serverA + ":3", Bytes: 100, Halt: haltEnd},
			},
		},
		"what is not committed ends it": {
			logs:     func(t *testing.T) *logs { return newLogs(t).add(t, "", one(1, 100), one(2, 100), one(3, 100)) },
			executed: serverA + ":1:3",
			want:     []seen{{File: "binlog.000001", GTIDs: serverA + ":1", Bytes: 100, Halt: haltWaiting, Waiting: 1002}},
		},
		"a segment is full, and a transaction larger than one is alone": {
			logs: func(t *testing.T) *logs {
				return newLogs(t).add(t, "", one(1, 400), one(2, 600), one(3, 100), one(4, 5000), one(5, 100))
			},
			executed: serverA + ":1-5",
			want: []seen{
				{File: "binlog.000001", GTIDs: serverA + ":1-2", Bytes: 1000},
				{File: "binlog.000001", GTIDs: serverA + ":3", Bytes: 100},
				{File: "binlog.000001", GTIDs: serverA + ":4", Bytes: 5000},
				{File: "binlog.000001", GTIDs: serverA + ":5", Bytes: 100, Halt: haltEnd},
			},
		},
		"what is archived already is left out": {
			logs: func(t *testing.T) *logs {
				return newLogs(t).add(t, "", one(1, 100), one(2, 100), transaction(serverB, 1, 5, 100), one(3, 100), one(4, 100))
			},
			executed: serverA + ":1-4," + serverB + ":1", known: serverA + ":1:3",
			want: []seen{
				{File: "binlog.000001", GTIDs: serverA + ":2," + serverB + ":1", Bytes: 200},
				{File: "binlog.000001", GTIDs: serverA + ":4", Bytes: 100, Halt: haltEnd},
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := c.logs(t)
			executed := set(t, c.executed)
			s := scanner{files: l.files, limit: 1000, known: newMembers(set(t, c.known))}
			at := place{file: l.names[0]}
			var got []seen
			for len(got) == 0 || got[len(got)-1].Halt == haltMore {
				found, err := s.read(t.Context(), at, l.position(executed), newMembers(executed))
				if err != nil {
					t.Fatal(err)
				}
				taken, err := found.stretch.gtids.set()
				if err != nil {
					t.Fatal(err)
				}
				next := seen{GTIDs: taken.String(), Bytes: found.stretch.end - found.stretch.start, Halt: found.halt, Waiting: found.waiting}
				if !found.stretch.empty() {
					next.File = filepath.Base(found.stretch.file)
				}
				got, at = append(got, next), found.next
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadGoesOnWhereItWas(t *testing.T) {
	l := newLogs(t).add(t, "", transaction(serverA, 1, 1, 100))
	s := scanner{files: l.files, limit: 1000}
	executed := set(t, serverA+":1-2")
	found, err := s.read(t.Context(), place{file: l.names[0]}, l.position(executed), newMembers(executed))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(l.names[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(append(transaction(serverA, 2, 2, 150), "torn"...)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	before := found.stretch
	l.sizes[l.names[0]] += 150
	found, err = s.read(t.Context(), found.next, l.position(executed), newMembers(executed))
	if err != nil {
		t.Fatal(err)
	}
	if p := found.stretch; p.start != before.end || p.end != before.end+150 || p.count != 1 || found.halt != haltEnd {
		t.Errorf("got %+v behind %+v", p, before)
	}
	if found.stretch.header[inUseAt]&1 != 0 {
		t.Error("the segment says that mysqld is writing it")
	}
}

func TestReadFailsWhenFilesAreGone(t *testing.T) {
	l := newLogs(t).add(t, "", transaction(serverA, 1, 1, 100)).add(t, serverA+":1")
	s := scanner{files: func() ([]string, error) { return l.names[1:], nil }, limit: 1000, known: newMembers(set(t, serverA+":1"))}
	at := place{file: l.names[0]}
	if _, err := s.read(t.Context(), at, l.position(gtid.Set{}), nil); !errors.Is(err, errLost) {
		t.Errorf("a file that is no longer in the index: %v", err)
	}
	if err := os.Remove(l.names[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := s.read(t.Context(), at, l.position(gtid.Set{}), nil); !errors.Is(err, errLost) {
		t.Errorf("a file that is no longer there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.read(ctx, place{file: l.names[1]}, l.position(gtid.Set{}), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}
