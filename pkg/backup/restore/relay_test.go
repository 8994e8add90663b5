// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
)

// event makes an event of a binary log.
func event(kind byte, serverID uint32, body []byte) []byte {
	size := headerSize + len(body) + checksumSize
	e := make([]byte, headerSize, size)
	e[typeAt] = kind
	binary.LittleEndian.PutUint32(e[serverIDAt:], serverID)
	binary.LittleEndian.PutUint32(e[sizeAt:], uint32(size))
	e = append(e, body...)
	return binary.LittleEndian.AppendUint32(e, crc32.ChecksumIEEE(e))
}

// format is the body of a description of the format with checksums.
func format() []byte { return append(make([]byte, 60), 1) }

// transaction is an empty one: its GTID event says that it has no more than itself.
func transaction(number byte) []byte {
	body := make([]byte, 42+7+1)
	body[17] = number
	body[49] = byte(headerSize + len(body) + checksumSize)
	return event(33, 7, body)
}

// segment is a binary log with transactions.
func segment(numbers ...byte) []byte {
	log := append([]byte(magic), event(typeFormat, 7, format())...)
	log = append(log, event(typePrevious, 7, make([]byte, 8))...)
	for _, n := range numbers {
		log = append(log, transaction(n)...)
	}
	return log
}

func write(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// TestJoinedSegmentsAreOneBinaryLog reads what was joined as a binary log, whose checksums are right, and finds every
// transaction once, behind one description of the format that is of no server here.
func TestJoinedSegmentsAreOneBinaryLog(t *testing.T) {
	joined := &relayFile{file: write(t, nil)}
	for _, content := range [][]byte{segment(1, 2), segment(3), segment(4, 5, 6)} {
		if err := joined.append(write(t, content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(joined.file.Name())
	if err != nil || int64(len(content)) != joined.size {
		t.Fatalf("%d bytes, counted %d: %v", len(content), joined.size, err)
	}
	if id := binary.LittleEndian.Uint32(content[len(magic)+serverIDAt:]); id != formatServerID || id == replayServerID {
		t.Errorf("the description of the format is of server %d", id)
	}
	log, err := binlog.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var numbers []int64
	for {
		one, err := log.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, one.Number)
	}
	if diff := cmp.Diff([]int64{1, 2, 3, 4, 5, 6}, numbers); diff != "" {
		t.Errorf("transactions (-want +got):\n%s", diff)
	}
}

func TestWhatIsNoBinaryLogIsNotJoined(t *testing.T) {
	whole := segment(1)
	for name, content := range map[string][]byte{
		"nothing":                           {},
		"another magic":                     append([]byte("moco"), whole[len(magic):]...),
		"a preamble that is cut off":        whole[:40],
		"no description of the format":      append([]byte(magic), transaction(1)...),
		"no previous GTIDs":                 append(append([]byte(magic), event(typeFormat, 7, format())...), transaction(1)...),
		"a size that is larger than a file": append([]byte(magic), 0, 0, 0, 0, typeFormat, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			joined := &relayFile{file: write(t, nil)}
			if err := joined.append(write(t, content), int64(len(content))); !errors.Is(err, errDamaged) {
				t.Errorf("got %v, want damage", err)
			}
		})
	}
}

func TestThePositionOfTheApplier(t *testing.T) {
	for name, c := range map[string]struct {
		file, pos string
		done      int64
		through   bool
	}{
		"at the beginning":            {"relay-c.000001", "4", 104, false},
		"in the second file":          {"relay-c.000002", "7", 137, false},
		"at the end of the last":      {"relay-c.000003", "50", 200, true},
		"in the file of mysqld's own": {"relay-c.000004", "4", 200, true},
		"with no file yet":            {"", "", 100, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &position{meter: &meter{}, base: "relay-c", sizes: []int64{30, 20, 50}, before: 100}
			through := p.note(map[string]string{"Relay_Log_File": c.file, "Relay_Log_Pos": c.pos})
			if through != c.through || p.meter.done.Load() != c.done {
				t.Errorf("done %d, through %t; want %d, %t", p.meter.done.Load(), through, c.done, c.through)
			}
		})
	}
}
