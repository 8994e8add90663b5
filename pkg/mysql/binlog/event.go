// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrTorn is wrapped by errors about a file that ends within an event or a transaction, or holds something that is no
// whole event.
var ErrTorn = errors.New("the binary log is torn")

// magic begins every file.
const magic = "\xfebin"

const (
	headerSize   = 19
	checksumSize = 4
	// maxKept bounds what is kept of an event in memory: the fixed parts and the beginning of the statement of a query, or
	// the first block of a compressed transaction. The set of previous GTIDs is needed whole.
	maxKept     = 256 << 10
	maxPrevious = 64 << 20
	bufferSize  = 64 << 10
)

// Types of events, of those that matter here.
const (
	typeQuery         = 2
	typeStop          = 3
	typeRotate        = 4
	typeFormat        = 15
	typeXID           = 16
	typeGTID          = 33
	typeAnonymous     = 34
	typePrevious      = 35
	typeXAPrepare     = 38
	typePayload       = 40
	typeGTIDTagged    = 42
	flagInUse         = 0x01
	flagIgnorable     = 0x80
	checksumAlgorithm = 1 // CRC32
)

// event is one event, whose checksum is right.
type event struct {
	kind  byte
	flags uint16
	// body follows the header, without the checksum; it may be cut after maxKept bytes.
	body []byte
	size int64
}

// events reads events one after the other.
type events struct {
	from *bufio.Reader
	// offset of the next event.
	offset int64
	// copied takes a copy of every event that is read; nil for none.
	copied *bytes.Buffer
}

// next reads one event. At the end of the file the error is io.EOF; it wraps ErrTorn when there is something that is no
// whole event.
func (e *events) next() (event, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(e.from, header[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return event{}, io.EOF
		}
		return event{}, e.torn(err)
	}
	found := event{
		kind: header[4], size: int64(binary.LittleEndian.Uint32(header[9:])), flags: binary.LittleEndian.Uint16(header[17:]),
	}
	rest := found.size - headerSize - checksumSize
	if rest < 0 {
		return event{}, fmt.Errorf("%w: an event of %d bytes at %d", ErrTorn, found.size, e.offset)
	}
	if found.kind == typeFormat {
		header[17] &^= flagInUse // the flag is cleared in place when the file is closed, and the checksum is of that
	}
	sum := crc32.NewIEEE()
	_, _ = sum.Write(header[:]) // never fails
	var err error
	if found.body, err = e.body(found.kind, rest, sum); err != nil {
		return event{}, err
	}
	var footer [checksumSize]byte
	if _, err := io.ReadFull(e.from, footer[:]); err != nil {
		return event{}, e.torn(err)
	}
	if binary.LittleEndian.Uint32(footer[:]) != sum.Sum32() {
		return event{}, fmt.Errorf("%w: the checksum at %d is wrong", ErrTorn, e.offset)
	}
	e.offset += found.size
	if e.copied != nil {
		e.copied.Write(header[:])
		e.copied.Write(found.body)
		e.copied.Write(footer[:])
	}
	return found, nil
}

// body reads what follows the header and returns the beginning of it.
func (e *events) body(kind byte, size int64, sum io.Writer) ([]byte, error) {
	limit := int64(maxKept)
	if kind == typePrevious {
		limit = maxPrevious
	}
	both := io.TeeReader(e.from, sum)
	// The size may be garbage: memory grows with what is there.
	kept, err := io.ReadAll(io.LimitReader(both, min(size, limit)))
	if err != nil {
		return nil, e.torn(err)
	}
	if int64(len(kept)) < min(size, limit) {
		return nil, e.torn(io.ErrUnexpectedEOF)
	}
	if _, err := io.CopyN(io.Discard, both, size-int64(len(kept))); err != nil {
		return nil, e.torn(err)
	}
	return kept, nil
}

// torn is the error of a file that ended too early; other errors of reading stay what they are.
func (e *events) torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends within the event at %d", ErrTorn, e.offset)
	}
	return fmt.Errorf("reading the event at %d: %w", e.offset, err)
}
