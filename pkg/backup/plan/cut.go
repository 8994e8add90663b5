// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

var (
	// ErrTooYoung is wrapped by the error about a backup that holds a transaction behind the cut: the point cannot be reached
	// from it.
	ErrTooYoung = errors.New("the backup holds transactions behind the point")
	// ErrNoCut is wrapped by the error about a binary log in which the cut is not found, though the index says it is there.
	ErrNoCut = errors.New("the archived binary log does not hold the point that its index promises")
)

// Kept is what a cut leaves of a file.
type Kept struct {
	// End is the offset behind the last transaction to keep, in the stream that was read; behind the preamble if none is.
	End int64
	// GTIDs and Transactions that are kept, those that the backup holds included.
	GTIDs        gtid.Set
	Transactions int64
	// Last is the latest original time of commit of what is kept; zero when nothing is.
	Last time.Time
}

// Find reads the last file of a plan, its segments joined into one binary log, and says where to cut it. held is what the
// backup holds: nothing of it may lie behind the cut, else the error wraps ErrTooYoung. Errors also wrap ErrNoCut or those
// of package binlog.
func (c Cut) Find(joined io.Reader, held gtid.Set) (Kept, error) {
	reader, err := binlog.NewReader(joined)
	if err != nil {
		return Kept{}, fmt.Errorf("reading the preamble of an archived binary log: %w", err)
	}
	result := Kept{End: reader.End()}
	kept, behind := collection{}, collection{}
	found := false
	for {
		one, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Kept{}, fmt.Errorf("reading an archived binary log: %w", err)
		}
		found = found || c.before(one)
		if found {
			behind.add(one)
			continue
		}
		kept.add(one)
		result.End, result.Transactions = one.End, result.Transactions+1
		if at := one.Committed(); at.After(result.Last) {
			result.Last = at
		}
		found = c.after(one)
	}
	if !found && c.Kind != CutNone {
		return Kept{}, ErrNoCut
	}
	if extra := behind.set().Intersect(held); !extra.Empty() {
		return Kept{}, fmt.Errorf("%w: %s", ErrTooYoung, extra.Shorten(200))
	}
	result.GTIDs = kept.set()
	return result, nil
}

// before says that the cut lies before a transaction.
func (c Cut) before(one binlog.Transaction) bool {
	switch c.Kind {
	case CutTime:
		return one.OriginalCommit > c.Time.UnixMicro()
	case CutBeforeGTID:
		return c.GTID.String() == one.GTID()
	case CutNone, CutGTID:
	}
	return false
}

// after says that the cut lies behind a transaction.
func (c Cut) after(one binlog.Transaction) bool {
	return c.Kind == CutGTID && c.GTID.String() == one.GTID()
}

// collection gathers the GTIDs of many transactions, which mostly follow each other.
type collection map[gtid.Source][]gtid.Interval

func (c collection) add(one binlog.Transaction) {
	list := c[one.Source]
	if n := len(list); n > 0 && list[n-1].Last+1 == one.Number {
		list[n-1].Last++
		return
	}
	c[one.Source] = append(list, gtid.Interval{First: one.Number, Last: one.Number})
}

// maxPiece bounds the text of which a set is made at a time, so that no set is too long to be read.
const maxPiece = 1 << 20

func (c collection) set() gtid.Set {
	var whole gtid.Set
	var text strings.Builder
	flush := func() {
		whole = whole.Union(parsed(text.String()))
		text.Reset()
	}
	for source, list := range c {
		name := source.UUID
		if source.Tag != "" {
			name += ":" + source.Tag
		}
		for _, interval := range list {
			text.WriteString("," + name + ":" + interval.String())
			if text.Len() > maxPiece {
				flush()
			}
		}
	}
	flush()
	return whole
}

// parsed reads a set that was checked before.
func parsed(text string) gtid.Set {
	set, err := gtid.Parse(text)
	if err != nil {
		panic(fmt.Sprintf("a set that was not checked: %v", err))
	}
	return set
}
