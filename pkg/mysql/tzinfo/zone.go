// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package tzinfo

import (
	"fmt"
	"slices"
	"time"
)

// Bounds of one zone in mysqld (sql/tztime.h: TZ_MAX_TIMES, TZ_MAX_TYPES); it
// refuses to load a zone that has more.
const (
	maxTransitions = 370
	maxTypes       = 20
)

// maxSteps bounds the way through the years of one zone.
const maxSteps = 1000

// maxAbbreviation is the length of a zone's short name in the table, in bytes.
const maxAbbreviation = 8

// first is before every instant that mysqld converts, in any zone; last is the
// end of the rules.
var (
	first = time.Date(1969, time.December, 25, 0, 0, 0, 0, time.UTC)
	last  = time.Date(2038, time.January, 1, 0, 0, 0, 0, time.UTC)
)

// kind is a kind of local time.
type kind struct {
	offset       int // seconds east of UTC
	dst          int // 1 for daylight saving time, else 0
	abbreviation string
}

// transition is an instant at which local time becomes another kind.
type transition struct {
	at   int64 // seconds since 1970 UTC
	kind int   // index into rules.kinds
}

// rules are what mysqld needs to know about a zone.
type rules struct {
	kinds       []kind
	transitions []transition
}

// parse reads the rules from the content of a compiled time zone file (RFC
// 9636). The footer of the file is written out as transitions.
func parse(name string, content []byte) (rules, error) {
	location, err := time.LoadLocationFromTZData(name, content)
	if err != nil {
		return rules{}, fmt.Errorf("parsing time zone %s: %w", name, err)
	}
	var r rules
	at, passed := first.In(location), time.Time{}
	for steps := 0; at.Before(last); steps++ {
		if steps == maxSteps {
			return rules{}, fmt.Errorf("parsing time zone %s: its rules change more than %d times", name, maxSteps)
		}
		start, end := at.ZoneBounds()
		if start.Before(passed) {
			// It knows the start by the footer, which began to rule later.
			start = passed
		}
		if err := r.add(start, at); err != nil {
			return rules{}, fmt.Errorf("parsing time zone %s: %w", name, err)
		}
		if end.IsZero() {
			break
		}
		passed = end
		if !end.After(at) {
			// Under the footer ZoneBounds cuts at the years, too, and on the
			// last day of a leap year it does not get any further.
			end = at.AddDate(0, 0, 1)
		}
		at = end
	}
	return r, nil
}

// add appends the kind of time in force at an instant, and the transition at
// start that began it, unless the same kind was in force before. A zone that
// never had another kind has no start.
func (r *rules) add(start, at time.Time) error {
	abbreviation, offset := at.Zone()
	next := kind{offset: offset, abbreviation: abbreviation}
	if at.IsDST() {
		next.dst = 1
	}
	if len(abbreviation) > maxAbbreviation {
		return fmt.Errorf("the abbreviation %q is longer than %d bytes", abbreviation, maxAbbreviation)
	}
	i := slices.Index(r.kinds, next)
	if i < 0 {
		i = len(r.kinds)
		r.kinds = append(r.kinds, next)
	}
	continues := len(r.transitions) > 0 && r.transitions[len(r.transitions)-1].kind == i
	if !start.IsZero() && !continues {
		r.transitions = append(r.transitions, transition{start.Unix(), i})
	}
	if len(r.kinds) > maxTypes || len(r.transitions) > maxTransitions {
		return fmt.Errorf("more than %d kinds of time or %d transitions", maxTypes, maxTransitions)
	}
	return nil
}
