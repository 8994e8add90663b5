// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

var (
	// ErrInvalid is wrapped by errors about a page that says something impossible. The text names the field.
	ErrInvalid = errors.New("invalid index page")
	// ErrChain is wrapped by errors about pages that do not belong together: one is missing, or is of another stream.
	ErrChain = errors.New("broken chain of index pages")
)

var (
	streamIDPattern = regexp.MustCompile(`^[0-9a-z]{8,64}$`)
	sumPattern      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	uuidPattern     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	filePattern     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.[0-9]{6,10}$`)
)

const (
	// minPreamble is less than any preamble of a binary log has.
	minPreamble = 4 + 19 + 19
	// maxBytes bounds sizes and offsets.
	maxBytes = 1 << 50
	// maxNumber bounds the numbers of pages, so that those of segments have eight digits.
	maxNumber = 99_999_999 / MaxSegments
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func (p *Page) check() error {
	if err := p.checkHead(); err != nil {
		return err
	}
	return p.checkSegments()
}

func (p *Page) checkHead() error {
	first := p.Number == 0
	switch {
	case p.Version != Version:
		return invalid("version %d is not known, only %d is", p.Version, Version)
	case !manifest.ValidCluster(p.Cluster):
		return invalid("cluster %q", p.Cluster)
	case p.Epoch < 1:
		return invalid("epoch %d", p.Epoch)
	case !streamIDPattern.MatchString(p.StreamID):
		return invalid("streamID %q", p.StreamID)
	case !uuidPattern.MatchString(p.ServerUUID):
		return invalid("serverUUID %q", p.ServerUUID)
	case p.Number < 0 || p.Number > maxNumber:
		return invalid("number %d", p.Number)
	case first != (p.PreviousSHA256 == "") || !first && !sumPattern.MatchString(p.PreviousSHA256):
		return invalid("previousSHA256 %q of page %d", p.PreviousSHA256, p.Number)
	case first != (p.PreviousChain == "") || !first && !sumPattern.MatchString(p.PreviousChain):
		return invalid("previousChain %q of page %d", p.PreviousChain, p.Number)
	case !plainTime(p.StartedAt):
		return invalid("startedAt %v", p.StartedAt)
	case !p.CaughtUpAt.IsZero() && !plainTime(p.CaughtUpAt):
		return invalid("caughtUpAt %v", p.CaughtUpAt)
	case p.Segments == nil || len(p.Segments) > MaxSegments:
		return invalid("segments: %d of them", len(p.Segments))
	}
	return nil
}

// plainTime reports whether a time is written in one way only: UTC, microseconds, years of four digits.
func plainTime(t time.Time) bool {
	return t.Location() == time.UTC && t.Equal(t.Truncate(time.Microsecond)) && t.Year() >= 1970 && t.Year() <= 9999
}

// checkSegments also demands that no transaction is listed twice.
func (p *Page) checkSegments() error {
	covered, err := plainSet("base", p.Base)
	if err != nil {
		return err
	}
	gap, err := plainSet("gap", p.Gap)
	if err != nil {
		return err
	}
	if !covered.Contains(gap) {
		return invalid("gap %s is no part of the base", gap.Subtract(covered).Shorten(200))
	}
	for n := range p.Segments {
		s := &p.Segments[n]
		set, err := plainSet(fmt.Sprintf("segments[%d].gtids", n), s.GTIDs)
		if err != nil {
			return err
		}
		switch {
		case set.Empty() || set.Count() != s.Transactions:
			return invalid("segments[%d].transactions %d, the set has %d", n, s.Transactions, set.Count())
		case !covered.Intersect(set).Empty():
			return invalid("segments[%d].gtids: %s was there before", n, covered.Intersect(set).Shorten(200))
		}
		if err := s.check(n); err != nil {
			return err
		}
		covered = covered.Union(set)
	}
	return p.checkChain()
}

func plainSet(field, text string) (gtid.Set, error) {
	set, err := gtid.Parse(text)
	if err != nil || set.String() != text {
		return gtid.Set{}, invalid("%s is no set of GTIDs as a server prints it", field)
	}
	return set, nil
}

// check looks at what one entry says of itself.
func (s *Segment) check(n int) error {
	switch {
	case s.StoredBytes < 1 || s.StoredBytes > maxBytes || !sumPattern.MatchString(s.SHA256):
		return invalid("segments[%d].storedBytes %d, or sha256", n, s.StoredBytes)
	case s.RawBytes > maxBytes || !sumPattern.MatchString(s.RawSHA256):
		return invalid("segments[%d].rawBytes %d, or rawSHA256", n, s.RawBytes)
	case !filePattern.MatchString(s.File):
		return invalid("segments[%d].file %q", n, s.File)
	case s.Start < minPreamble || s.End <= s.Start || s.End > maxBytes || s.Preamble() < minPreamble:
		return invalid("segments[%d]: %d to %d in %d bytes", n, s.Start, s.End, s.RawBytes)
	case s.FirstCommit < 0 || s.LastCommit < s.FirstCommit:
		return invalid("segments[%d]: commits from %d to %d", n, s.FirstCommit, s.LastCommit)
	}
	return nil
}

// checkChain looks at what entries say of each other.
func (p *Page) checkChain() error {
	before := p.PreviousChain
	for n := range p.Segments {
		s := &p.Segments[n]
		if s.Number != int64(p.Number)*MaxSegments+int64(n) {
			return invalid("segments[%d].number %d", n, s.Number)
		}
		if n > 0 && !behind(s, &p.Segments[n-1]) {
			return invalid("segments[%d]: %s at %d is not behind %s up to %d", n, s.File, s.Start, p.Segments[n-1].File, p.Segments[n-1].End)
		}
		if link(before, s) != s.Chain {
			return invalid("segments[%d].chain: it does not follow from the entries before", n)
		}
		before = s.Chain
	}
	return nil
}

// behind reports whether a segment can come behind another one: further on in the same file, or in another.
func behind(s, before *Segment) bool { return s.File != before.File || s.Start >= before.End }
