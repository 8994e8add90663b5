// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package gtid

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// MaxNumber is the largest transaction number, 2^63 - 2 (GNO_END - 1 in the server's sql/rpl_gtid.h).
const MaxNumber = 1<<63 - 2

// Source is one line of history: the UUID of the server that committed, and the tag, "" for untagged transactions.
type Source struct {
	UUID string
	Tag  string
}

// Interval of transaction numbers, both ends included; 1 <= First <= Last <= MaxNumber.
type Interval struct {
	First, Last int64
}

// Set is a set of GTIDs. The zero value is the empty set.
type Set struct {
	// sources maps each line of history to sorted intervals that neither touch nor overlap; no list is empty.
	sources map[Source][]Interval
}

// Empty reports whether s holds nothing.
func (s Set) Empty() bool { return len(s.sources) == 0 }

// Count is the number of transactions, at most 2^63 - 1 (more are counted as that).
func (s Set) Count() int64 {
	var n int64
	for _, list := range s.sources {
		for _, i := range list {
			n += i.Last - i.First + 1
			if n < 0 {
				return 1<<63 - 1
			}
		}
	}
	return n
}

// Sources returns the lines of history, sorted.
func (s Set) Sources() []Source {
	return slices.SortedFunc(maps.Keys(s.sources), func(a, b Source) int {
		return cmp.Or(cmp.Compare(a.UUID, b.UUID), cmp.Compare(a.Tag, b.Tag))
	})
}

// Intervals returns a copy of the intervals of one line of history.
func (s Set) Intervals(source Source) []Interval { return slices.Clone(s.sources[source]) }

// Union is everything in s or t.
func (s Set) Union(t Set) Set {
	result := s.clone()
	for source, list := range t.sources {
		result.sources[source] = merge(append(slices.Clone(result.sources[source]), list...))
	}
	return result
}

// Subtract is everything in s that is not in t.
func (s Set) Subtract(t Set) Set {
	result := Set{sources: make(map[Source][]Interval, len(s.sources))}
	for source, list := range s.sources {
		if left := without(list, t.sources[source]); len(left) > 0 {
			result.sources[source] = left
		}
	}
	return result
}

// Intersect is everything in both.
func (s Set) Intersect(t Set) Set { return s.Subtract(s.Subtract(t)) }

// Contains reports whether everything in t is in s.
func (s Set) Contains(t Set) bool { return t.Subtract(s).Empty() }

// Equal reports whether both hold the same.
func (s Set) Equal(t Set) bool {
	return maps.EqualFunc(s.sources, t.sources, slices.Equal[[]Interval])
}

// WithoutTagPrefix is s without the transactions whose tag begins with prefix.
func (s Set) WithoutTagPrefix(prefix string) Set {
	result := s.clone()
	maps.DeleteFunc(result.sources, func(source Source, _ []Interval) bool {
		return source.Tag != "" && strings.HasPrefix(source.Tag, prefix)
	})
	return result
}

// OfUUID is the part of s that the server with that UUID committed, tagged or not.
func (s Set) OfUUID(uuid string) Set {
	result := s.clone()
	maps.DeleteFunc(result.sources, func(source Source, _ []Interval) bool { return source.UUID != strings.ToLower(uuid) })
	return result
}

// MarkerTagPrefix begins the tag of every marker; the epoch follows in decimal.
const MarkerTagPrefix = "moco_e"

// HighestMarkerEpoch is the highest epoch of which s holds a marker of the cluster, `<cluster uuid>:moco_e<epoch>:<n>`;
// 0 without any.
func (s Set) HighestMarkerEpoch(clusterUUID string) int64 {
	var highest int64
	for source := range s.sources {
		digits, marked := strings.CutPrefix(source.Tag, MarkerTagPrefix)
		if !marked || source.UUID != strings.ToLower(clusterUUID) {
			continue
		}
		if epoch, err := strconv.ParseInt(digits, 10, 64); err == nil {
			highest = max(highest, epoch)
		}
	}
	return highest
}

func (s Set) clone() Set {
	result := Set{sources: make(map[Source][]Interval, len(s.sources))}
	maps.Copy(result.sources, s.sources)
	return result
}

// merge sorts intervals and joins those that touch or overlap. It changes list.
func merge(list []Interval) []Interval {
	slices.SortFunc(list, func(a, b Interval) int { return cmp.Compare(a.First, b.First) })
	merged := list[:0]
	for _, next := range list {
		if n := len(merged); n > 0 && next.First <= merged[n-1].Last+1 {
			merged[n-1].Last = max(merged[n-1].Last, next.Last)
			continue
		}
		merged = append(merged, next)
	}
	return merged
}

// without returns list less minus; both are sorted and disjoint.
func without(list, minus []Interval) []Interval {
	var left []Interval
	at := 0
	for _, whole := range list {
		for at < len(minus) && minus[at].Last < whole.First {
			at++
		}
		for n := at; n < len(minus) && minus[n].First <= whole.Last && whole.First <= whole.Last; n++ {
			if minus[n].First > whole.First {
				left = append(left, Interval{whole.First, minus[n].First - 1})
			}
			whole.First = minus[n].Last + 1
		}
		if whole.First <= whole.Last {
			left = append(left, whole)
		}
	}
	return left
}
