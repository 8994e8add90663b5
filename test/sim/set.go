// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// maxTransactions bounds the transactions of one run.
const maxTransactions = 512

// set is a set of transactions by number; the zero value is empty. Two transactions may carry the same GTID: that is
// what a server does which has forgotten a part of its past, and the truth must tell them apart where MySQL cannot.
type set [maxTransactions / 64]uint64

func (s *set) add(x int)     { s[x/64] |= 1 << (x % 64) }
func (s *set) remove(x int)  { s[x/64] &^= 1 << (x % 64) }
func (s set) has(x int) bool { return s[x/64]&(1<<(x%64)) != 0 }
func (s set) empty() bool    { return s == set{} }

func (s set) union(t set) set {
	for i := range s {
		s[i] |= t[i]
	}
	return s
}

func (s set) minus(t set) set {
	for i := range s {
		s[i] &^= t[i]
	}
	return s
}

func (s set) count() int {
	n := 0
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// list returns the members in order.
func (s set) list() []int {
	var members []int
	for i, word := range s {
		for word != 0 {
			members = append(members, i*64+bits.TrailingZeros64(word))
			word &= word - 1
		}
	}
	return members
}

// transaction is one write.
type transaction struct {
	// source, tag and number are its GTID.
	source gtid.Source
	number int64
	// name is the number of the first transaction that carried this GTID: MySQL cannot tell the two apart.
	name int
}

func (t transaction) String() string {
	if t.source.Tag != "" {
		return fmt.Sprintf("%s:%s:%d", t.source.UUID, t.source.Tag, t.number)
	}
	return fmt.Sprintf("%s:%d", t.source.UUID, t.number)
}

// history holds every transaction that was ever begun, and the texts of sets of them.
type history struct {
	all []transaction
	// again are the transactions whose GTID was used before.
	again []int
	texts map[set]string
	sets  map[string]set
}

func newHistory() *history {
	return &history{texts: map[set]string{}, sets: map[string]set{"": {}}}
}

// begin makes a transaction and returns its number.
func (h *history) begin(source gtid.Source, number int64) int {
	t := transaction{source: source, number: number, name: len(h.all)}
	for n, other := range h.all {
		if other.source == source && other.number == number {
			t.name = n
			h.again = append(h.again, len(h.all))
			break
		}
	}
	h.all = append(h.all, t)
	return len(h.all) - 1
}

// names is s as MySQL sees it: by GTID.
func (h *history) names(s set) set {
	for _, x := range h.again {
		if s.has(x) {
			s.remove(x)
			s.add(h.all[x].name)
		}
	}
	return s
}

// text is the GTID set of s as a server prints it.
func (h *history) text(s set) string {
	s = h.names(s)
	if found, ok := h.texts[s]; ok {
		return found
	}
	members := s.list()
	slices.SortFunc(members, func(a, b int) int {
		x, y := h.all[a], h.all[b]
		return cmp.Or(cmp.Compare(x.source.UUID, y.source.UUID), cmp.Compare(x.source.Tag, y.source.Tag), cmp.Compare(x.number, y.number))
	})
	var b strings.Builder
	previous := gtid.Source{}
	for i := 0; i < len(members); {
		first := h.all[members[i]]
		last := first.number
		for i++; i < len(members) && h.all[members[i]].source == first.source && h.all[members[i]].number == last+1; i++ {
			last++
		}
		b.WriteString(separator(previous, first.source))
		b.WriteString(":" + strconv.FormatInt(first.number, 10))
		if last > first.number {
			b.WriteString("-" + strconv.FormatInt(last, 10))
		}
		previous = first.source
	}
	h.texts[s] = b.String()
	h.sets[b.String()] = s
	return b.String()
}

// separator is what a server prints between an interval of one line of history and one of the next.
func separator(previous, next gtid.Source) string {
	text := ""
	switch {
	case previous.UUID == "":
		text = next.UUID
	case previous.UUID != next.UUID:
		text = "," + next.UUID
	case previous.Tag == next.Tag:
		return ""
	}
	if next.Tag != "" {
		text += ":" + next.Tag
	}
	return text
}

// parse returns the transactions, by GTID, that a text names and that exist. Text that is no GTID set names none.
func (h *history) parse(text string) set {
	if found, ok := h.sets[text]; ok {
		return found
	}
	var found set
	whole, err := gtid.Parse(text)
	if err != nil {
		return found
	}
	for n, t := range h.all {
		if t.name != n {
			continue
		}
		for _, i := range whole.Intervals(t.source) {
			if i.First <= t.number && t.number <= i.Last {
				found.add(n)
			}
		}
	}
	return found
}
