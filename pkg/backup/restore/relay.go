// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A segment is a binary log file by itself: magic, description of the format, previous GTIDs, whole transactions. A relay log
// file is the same, so segments of one original file are joined by leaving out the preamble of all but the first.
const (
	magic          = "\xfebin"
	headerSize     = 19
	checksumSize   = 4
	serverIDAt     = 5
	sizeAt         = 9
	flagsAt        = 17
	typeAt         = 4
	typeFormat     = 15
	typePrevious   = 35
	flagInUse      = 0x01
	maxFormat      = 4 << 10
	maxPreamble    = 64 << 20
	formatServerID = 4294967294
	// replayServerID is the server_id of a mysqld that replays. It must not be that of a description of the format: the applier
	// takes a description of its own for something within a transaction and does not wait for the transactions before it, but
	// the logical clock by which it runs transactions side by side begins anew with every original file.
	replayServerID = 4294967295
)

// preamble is the beginning of a segment up to its first transaction.
type preamble struct {
	// format is the event with the description of the format, made one of formatServerID.
	format []byte
	// size of the whole preamble, with magic and previous GTIDs.
	size int64
}

// readPreamble reads the beginning of a segment.
func readPreamble(from io.ReaderAt) (preamble, error) {
	start := make([]byte, len(magic))
	if _, err := from.ReadAt(start, 0); err != nil || string(start) != magic {
		return preamble{}, fmt.Errorf("%w: it does not begin as a binary log", errDamaged)
	}
	size, err := eventSize(from, int64(len(magic)), typeFormat, maxFormat)
	if err != nil {
		return preamble{}, err
	}
	p := preamble{format: make([]byte, size), size: int64(len(magic)) + size}
	if _, err := from.ReadAt(p.format, int64(len(magic))); err != nil {
		return preamble{}, fmt.Errorf("%w: reading its preamble: %w", errDamaged, err)
	}
	binary.LittleEndian.PutUint32(p.format[serverIDAt:], formatServerID)
	p.format[flagsAt] &^= flagInUse
	body := p.format[:size-checksumSize]
	binary.LittleEndian.PutUint32(p.format[size-checksumSize:], crc32.ChecksumIEEE(body))
	previous, err := eventSize(from, p.size, typePrevious, maxPreamble)
	if err != nil {
		return preamble{}, err
	}
	p.size += previous
	return p, nil
}

// eventSize is the size of the event at an offset, which must be of the given type.
func eventSize(from io.ReaderAt, at int64, kind byte, limit int64) (int64, error) {
	var header [headerSize]byte
	if _, err := from.ReadAt(header[:], at); err != nil {
		return 0, fmt.Errorf("%w: reading its preamble: %w", errDamaged, err)
	}
	size := int64(binary.LittleEndian.Uint32(header[sizeAt:]))
	if header[typeAt] != kind || size < headerSize+checksumSize || size > limit {
		return 0, fmt.Errorf("%w: event type %d with %d bytes in its preamble", errDamaged, header[typeAt], size)
	}
	return size, nil
}

// relayFile is a relay log that is being joined.
type relayFile struct {
	file *os.File
	size int64
}

// append adds a segment up to an offset, its whole content when end is its size. The first one brings the preamble.
func (f *relayFile) append(segment *os.File, end int64) error {
	p, err := readPreamble(segment)
	if err != nil {
		return err
	}
	from := p.size
	if f.size == 0 {
		if _, err := f.file.Write(append([]byte(magic), p.format...)); err != nil {
			return fmt.Errorf("writing a relay log: %w", err)
		}
		f.size = int64(len(magic) + len(p.format))
		from = f.size
	}
	if _, err := segment.Seek(from, io.SeekStart); err != nil {
		return fmt.Errorf("reading a segment: %w", err)
	}
	// Between two files the kernel copies.
	n, err := f.file.ReadFrom(io.LimitReader(segment, end-from))
	f.size += n
	if err == nil && n != end-from {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("writing a relay log: %w", err)
	}
	return nil
}
