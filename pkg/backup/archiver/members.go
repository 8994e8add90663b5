// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// members tells quickly whether a transaction is in a set.
type members map[gtid.Source][]gtid.Interval

func newMembers(set gtid.Set) members {
	m := members{}
	for _, source := range set.Sources() {
		m[source] = set.Intervals(source)
	}
	return m
}

func (m members) has(one binlog.Transaction) bool {
	_, found := slices.BinarySearchFunc(m[one.Source], one.Number, func(i gtid.Interval, number int64) int {
		switch {
		case i.Last < number:
			return -1
		case i.First > number:
			return 1
		}
		return 0
	})
	return found
}

// collection gathers transactions that mostly follow one another.
type collection map[gtid.Source][]gtid.Interval

func (c collection) add(one binlog.Transaction) {
	list := c[one.Source]
	if n := len(list); n > 0 && list[n-1].Last+1 == one.Number {
		list[n-1].Last = one.Number
		return
	}
	c[one.Source] = append(list, gtid.Interval{First: one.Number, Last: one.Number})
}

// set is what was gathered.
func (c collection) set() (gtid.Set, error) {
	var whole gtid.Set
	for source, list := range c {
		name := source.UUID
		if source.Tag != "" {
			name += ":" + source.Tag
		}
		texts := make([]string, len(list))
		for i, interval := range list {
			texts[i] = interval.String()
		}
		line, err := gtid.Parse(name + ":" + strings.Join(texts, ":"))
		if err != nil {
			return gtid.Set{}, fmt.Errorf("gathering transactions: %w", err)
		}
		whole = whole.Union(line)
	}
	return whole, nil
}
