// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package gtid

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// MaxText bounds what Parse reads, in bytes; a set of a hundred thousand gaps fits.
const MaxText = 4 << 20

var (
	uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	tagPattern  = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

	// ErrSyntax is wrapped by every error about text that is not a GTID set.
	ErrSyntax = errors.New("not a GTID set")
)

// Parse reads a set as a server prints it or as the manual allows it to be written: white space and empty parts are
// passed over, letters may be large. Errors wrap ErrSyntax.
func Parse(text string) (Set, error) {
	if len(text) > MaxText {
		return Set{}, fmt.Errorf("%w: %d bytes are too long", ErrSyntax, len(text))
	}
	result := Set{sources: map[Source][]Interval{}}
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		if err := result.read(part); err != nil {
			return Set{}, err
		}
	}
	for source, list := range result.sources {
		result.sources[source] = merge(list)
	}
	return result, nil
}

// read adds one part, `uuid:1-3:tag:5:7-8`, to a set under construction.
func (s Set) read(part string) error {
	fields := strings.Split(part, ":")
	source := Source{UUID: strings.TrimSpace(fields[0])}
	if !uuidPattern.MatchString(source.UUID) {
		return fmt.Errorf("%w: %q is no UUID", ErrSyntax, clip(fields[0]))
	}
	if len(fields) == 1 {
		return fmt.Errorf("%w: %s has no intervals", ErrSyntax, source.UUID)
	}
	bare := false // a tag was read, its intervals must follow
	for _, field := range fields[1:] {
		field = strings.TrimSpace(field)
		if tagPattern.MatchString(field) {
			if bare {
				return fmt.Errorf("%w: tag %q has no intervals", ErrSyntax, source.Tag)
			}
			source.Tag, bare = field, true
			continue
		}
		interval, err := parseInterval(field)
		if err != nil {
			return err
		}
		s.sources[source], bare = append(s.sources[source], interval), false
	}
	if bare {
		return fmt.Errorf("%w: tag %q has no intervals", ErrSyntax, source.Tag)
	}
	return nil
}

func parseInterval(field string) (Interval, error) {
	first, last, ranged := strings.Cut(field, "-")
	if !ranged {
		last = first
	}
	i := Interval{}
	var errFirst, errLast error
	i.First, errFirst = parseNumber(strings.TrimSpace(first))
	i.Last, errLast = parseNumber(strings.TrimSpace(last))
	if errFirst != nil || errLast != nil || i.First < 1 || i.Last > MaxNumber || i.First > i.Last {
		return Interval{}, fmt.Errorf("%w: %q is no interval", ErrSyntax, clip(field))
	}
	return i, nil
}

// parseNumber reads decimal digits; a sign is no digit.
func parseNumber(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err
}

// String is the set as a server prints it, with "," between the UUIDs; "" for the empty set.
func (s Set) String() string {
	var b strings.Builder
	previous := Source{}
	for _, source := range s.Sources() {
		switch {
		case source.UUID != previous.UUID && previous.UUID != "":
			b.WriteString("," + source.UUID)
		case source.UUID != previous.UUID:
			b.WriteString(source.UUID)
		}
		if source.Tag != "" {
			b.WriteString(":" + source.Tag)
		}
		for _, i := range s.sources[source] {
			b.WriteString(":" + i.String())
		}
		previous = source
	}
	return b.String()
}

// String is the interval as a server prints it.
func (i Interval) String() string {
	if i.First == i.Last {
		return strconv.FormatInt(i.First, 10)
	}
	return strconv.FormatInt(i.First, 10) + "-" + strconv.FormatInt(i.Last, 10)
}

// Shorten is the set for people, in at most limit bytes (at least 32): what does not fit is counted instead of shown.
func (s Set) Shorten(limit int) string {
	whole := s.String()
	if len(whole) <= limit {
		return whole
	}
	note := fmt.Sprintf("… (%d transactions)", s.Count())
	return whole[:max(0, limit-len(note))] + note
}

// clip bounds text that goes into an error.
func clip(text string) string {
	if len(text) > 64 {
		return text[:64] + "…"
	}
	return text
}
