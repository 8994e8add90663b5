// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// place is where to read on: an offset in a file, 0 for its beginning.
type place struct {
	file   string // path
	offset int64
}

// stretch are whole transactions that lie one behind the other in one file, none of which is archived.
type stretch struct {
	file string
	// header is the beginning of the file, up to its first transaction.
	header     []byte
	start, end int64
	gtids      collection
	count      int64
	// first and last are the earliest and the latest original time of commit.
	first, last int64
}

func (s *stretch) empty() bool { return s.count == 0 }

func (s *stretch) add(one binlog.Transaction) {
	if s.empty() {
		s.start, s.first, s.last = one.Start, one.OriginalCommit, one.OriginalCommit
	}
	s.end = one.End
	s.first, s.last = min(s.first, one.OriginalCommit), max(s.last, one.OriginalCommit)
	s.gtids.add(one)
	s.count++
}

// halt says why a scan has ended.
type halt int

const (
	haltMore    halt = iota // there may be more to archive behind it
	haltEnd                 // everything flushed was read
	haltWaiting             // the next transaction is not committed
)

// scan is the outcome of reading a piece of the log.
type scan struct {
	stretch stretch
	halt    halt
	// waiting is the original time of commit of the transaction that is not committed, in microseconds.
	waiting int64
	// next is where to read on.
	next place
}

// scanner reads the binary log.
type scanner struct {
	files func() ([]string, error)
	// limit is the size in bytes beyond which a stretch takes no more transactions.
	limit int64
	// known are the transactions that the stream does not hold.
	known members
}

// errLost says that the file to read on in is gone.
var errLost = errors.New("a binary log that was not archived is gone")

// read returns the next stretch from a place up to what was flushed. Only what was executed is taken.
func (s *scanner) read(ctx context.Context, from place, until Position, executed members) (scan, error) {
	for {
		found, err := s.readFile(ctx, from, until, executed)
		if err != nil {
			return scan{}, fmt.Errorf("reading %s: %w", filepath.Base(from.file), err)
		}
		if !found.stretch.empty() || found.halt != haltMore {
			return found, nil
		}
		from = found.next
	}
}

// readFile returns the next stretch within one file. If there is none, next is the following file.
func (s *scanner) readFile(ctx context.Context, from place, until Position, executed members) (scan, error) {
	file, err := openLog(from.file)
	if err != nil {
		return scan{}, err
	}
	defer func() { _ = file.Close() }() // only read
	header, err := readHeader(file)
	if err != nil {
		return scan{}, err
	}
	last := filepath.Base(from.file) == until.File
	end := int64(-1)
	if last {
		end = until.Offset
	}
	from.offset = max(from.offset, int64(len(header)))
	reader, err := resume(ctx, file, header, from.offset, end)
	if err != nil {
		return scan{}, err
	}
	found, err := s.take(reader, from, executed, scan{stretch: stretch{file: from.file, header: header, gtids: collection{}}})
	if !errors.Is(err, io.EOF) {
		return found, err
	}
	if last {
		found.halt = haltEnd
		return found, nil
	}
	following, err := s.following(from.file)
	found.next = place{file: following}
	return found, err
}

// take reads transactions until one does not belong to the stretch. The error is io.EOF at the end of the file.
func (s *scanner) take(reader *resumed, from place, executed members, found scan) (scan, error) {
	part := &found.stretch
	found.next = from
	for {
		one, err := reader.next()
		switch {
		case err != nil:
			return found, err
		case s.known.has(one):
			if !part.empty() {
				return found, nil
			}
		case !executed.has(one):
			found.halt, found.waiting = haltWaiting, one.OriginalCommit
			return found, nil
		case !part.empty() && one.End-part.start > s.limit:
			return found, nil
		default:
			part.add(one)
		}
		found.next.offset = one.End
	}
}

// following is the file after one that was read to its end.
func (s *scanner) following(path string) (string, error) {
	files, err := s.files()
	if err != nil {
		return "", err
	}
	for i, file := range files[:max(0, len(files)-1)] {
		if file == path {
			return files[i+1], nil
		}
	}
	return "", fmt.Errorf("%w: there is nothing behind %s in the index", errLost, filepath.Base(path))
}

func openLog(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return file, err
}

// inUseAt is where the flag lies which says that mysqld is writing a file. Its checksum is that of a file without it.
const inUseAt = 21

// readHeader reads what precedes the first transaction of a file, with the flag cleared.
func readHeader(file *os.File) ([]byte, error) {
	reader, err := binlog.NewReader(file)
	if err != nil {
		return nil, err
	}
	header := make([]byte, reader.End())
	if _, err := file.ReadAt(header, 0); err != nil {
		return nil, err
	}
	header[inUseAt] &^= 1
	return header, nil
}

// previousGTIDs are the transactions before a file.
func previousGTIDs(path string) (gtid.Set, error) {
	file, err := openLog(path)
	if err != nil {
		return gtid.Set{}, err
	}
	defer func() { _ = file.Close() }() // only read
	reader, err := binlog.NewReader(file)
	if err != nil {
		return gtid.Set{}, fmt.Errorf("reading %s: %w", filepath.Base(path), err)
	}
	return reader.Previous(), nil
}

// resumed reads a file from a place within it.
type resumed struct {
	reader *binlog.Reader
	shift  int64
}

// resume reads on at an offset, up to end, or up to the end of the file when that is negative.
func resume(ctx context.Context, file *os.File, header []byte, offset, end int64) (*resumed, error) {
	if end < 0 {
		end = 1<<63 - 1
	}
	rest := io.NewSectionReader(file, offset, max(0, end-offset))
	reader, err := binlog.NewReader(io.MultiReader(bytes.NewReader(header), &bounded{ctx: ctx, from: rest}))
	if err != nil {
		return nil, err
	}
	return &resumed{reader: reader, shift: offset - int64(len(header))}, nil
}

// next is the next transaction with its place in the file.
func (r *resumed) next() (binlog.Transaction, error) {
	one, err := r.reader.Next()
	one.Start += r.shift
	one.End += r.shift
	return one, err
}

// bounded reads until a context ends.
type bounded struct {
	ctx  context.Context
	from io.Reader
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.from.Read(p)
}
