// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// ErrFormat is wrapped by errors about a file that is no binary log, or one this package does not read.
var ErrFormat = errors.New("unknown format of a binary log")

// Kind says what crash recovery does with a transaction that was cut off the log.
type Kind string

const (
	// Transactional: the engine rolls it back, or it has changed nothing.
	Transactional Kind = "Transactional"
	// Distributed: a part of an XA transaction, which outlives the session that made it.
	Distributed Kind = "Distributed"
	// Other: whether it can be undone is not known.
	Other Kind = "Other"
)

// Transaction is one whole transaction.
type Transaction struct {
	// Source and Number are its GTID.
	Source gtid.Source
	Number int64
	// Start is the offset of its first event, End that of the first byte behind it.
	Start, End int64
	Kind       Kind
	// OriginalCommit is when it committed on the server that committed it first, in microseconds since 1970; replicas and
	// restores keep it. If that is not known, it is when the server committed it that wrote this file.
	OriginalCommit int64
}

// Committed is OriginalCommit as a time.
func (t Transaction) Committed() time.Time { return time.UnixMicro(t.OriginalCommit).UTC() }

// Reader reads one file from its beginning.
type Reader struct {
	events   events
	previous gtid.Set
	// preamble is how the file begins, format the event in it that describes the format; in both the flag is cleared that
	// says that mysqld is writing.
	preamble, format []byte
	inUse            bool
	ended            bool
	end              int64
	fault            error
}

// NewReader reads the preamble of a file. Errors wrap ErrFormat, ErrTorn (mysqld was killed while it began the file), or
// are those of from.
func NewReader(from io.Reader) (*Reader, error) {
	var preamble bytes.Buffer
	r := &Reader{events: events{from: bufio.NewReaderSize(from, bufferSize), copied: &preamble}}
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(r.events.from, start); err != nil {
		return nil, r.events.torn(err)
	}
	if string(start) != magic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrFormat)
	}
	r.events.offset = int64(len(magic))
	format, err := r.events.next()
	if err != nil {
		return nil, preambleError(err)
	}
	if n := len(format.body); format.kind != typeFormat || n < 58 || format.body[n-1] != checksumAlgorithm {
		return nil, fmt.Errorf("%w: no description of the format, or no checksums", ErrFormat)
	}
	r.inUse = format.flags&flagInUse != 0
	r.format = bytes.Clone(preamble.Bytes())
	previous, err := r.events.next()
	if err != nil {
		return nil, preambleError(err)
	}
	if previous.kind != typePrevious {
		return nil, fmt.Errorf("%w: event type %d instead of the previous GTIDs", ErrFormat, previous.kind)
	}
	if r.previous, err = decodePrevious(previous.body); err != nil {
		return nil, err
	}
	r.end, r.events.copied = r.events.offset, nil
	r.preamble = append([]byte(magic), preamble.Bytes()...)
	return r, nil
}

func preambleError(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends within the preamble", ErrTorn)
	}
	return err
}

// Previous is everything in the files before this one, and what was purged.
func (r *Reader) Previous() gtid.Set { return r.previous }

// InUse says that mysqld did not close the file: it is writing it, or it was killed.
func (r *Reader) InUse() bool { return r.inUse }

// Ended says that an event was read with which mysqld ends a file.
func (r *Reader) Ended() bool { return r.ended }

// End is the offset behind the last whole transaction that was read, or behind the preamble.
func (r *Reader) End() int64 { return r.end }

// Next reads the next transaction. The error is io.EOF at the end of the file, and wraps ErrTorn when the rest of the
// file is no whole transaction, or ErrFormat when it is one of a kind that GTID mode does not have. After an error it
// gives the same again.
func (r *Reader) Next() (Transaction, error) {
	if r.fault != nil {
		return Transaction{}, r.fault
	}
	t, err := r.read()
	if err != nil {
		r.fault = err
		return Transaction{}, err
	}
	r.end = t.End
	return t, nil
}

func (r *Reader) read() (Transaction, error) {
	for {
		start := r.events.offset
		e, err := r.events.next()
		if err != nil {
			return Transaction{}, err
		}
		switch e.kind {
		case typeGTID, typeGTIDTagged:
			return r.transaction(start, e)
		case typeAnonymous:
			return Transaction{}, fmt.Errorf("%w: an anonymous transaction at %d", ErrFormat, start)
		case typeStop, typeRotate:
			r.ended = true
		}
	}
}

// transaction reads the rest of a transaction whose first event is begun.
func (r *Reader) transaction(start int64, begun event) (Transaction, error) {
	decode := decodeGTID
	if begun.kind == typeGTIDTagged {
		decode = decodeTagged
	}
	id, err := decode(begun.body)
	if err != nil {
		return Transaction{}, fmt.Errorf("reading the GTID at %d: %w", start, err)
	}
	t := Transaction{Source: id.source, Number: id.number, Start: start, End: start + id.length, OriginalCommit: id.committed()}
	var content contents
	for r.events.offset < t.End {
		e, err := r.events.next()
		switch {
		case errors.Is(err, io.EOF):
			return Transaction{}, fmt.Errorf("%w: it ends within the transaction at %d", ErrTorn, start)
		case err != nil:
			return Transaction{}, err
		}
		content.add(e)
	}
	if r.events.offset != t.End {
		return Transaction{}, fmt.Errorf("%w: the transaction at %d does not end where it says", ErrTorn, start)
	}
	t.Kind = content.kind()
	return t, nil
}

// contents is what matters of the events of a transaction.
type contents struct {
	count       int
	distributed bool
	compressed  bool // one event holds all
	first, last query
	lastKind    byte
}

func (c *contents) add(e event) {
	c.count++
	c.lastKind = e.kind
	switch e.kind {
	case typeQuery:
		c.last = decodeQuery(e.body)
		if c.count == 1 {
			c.first = c.last
		}
		c.distributed = c.distributed || strings.HasPrefix(c.last.text, "XA ")
	case typeXAPrepare:
		c.distributed = true
	case typePayload:
		c.compressed = true
		c.first = firstInside(e.body)
		c.distributed = c.distributed || strings.HasPrefix(c.first.text, "XA ")
	}
}

func (c *contents) kind() Kind {
	switch {
	case c.distributed:
		return Distributed
	case c.lastKind == typeXID:
		return Transactional
	case c.compressed && c.count == 1 && c.first.text == "BEGIN":
		return Transactional // the server compresses nothing that could not be rolled back
	case c.lastKind != typeQuery:
		return Other
	case c.count == 1 && c.first.atomic:
		return Transactional // a change of the schema that the engine commits together with the log
	case c.count == 2 && c.first.text == "BEGIN" && c.last.text == "COMMIT":
		return Transactional // empty
	}
	return Other
}

// GTID is the transaction's identifier as a set of one, as the server prints it.
func (t Transaction) GTID() string {
	if t.Source.Tag == "" {
		return fmt.Sprintf("%s:%d", t.Source.UUID, t.Number)
	}
	return fmt.Sprintf("%s:%s:%d", t.Source.UUID, t.Source.Tag, t.Number)
}
