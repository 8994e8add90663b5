// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAlternations(t *testing.T) {
	zero := time.Unix(0, 0)
	history := func(times ...int) History {
		var h History
		for i := 0; i < len(times); i += 2 {
			h.Spans = append(h.Spans, Span{Began: zero.Add(time.Duration(times[i])), Ended: zero.Add(time.Duration(times[i+1]))})
		}
		return h
	}
	tests := map[string]struct {
		histories map[string]History
		want      int
	}{
		"one server acknowledges all":                  {histories: map[string]History{"a": history(1, 2, 3, 4), "b": {}}, want: 0},
		"one hands over to the other":                  {histories: map[string]History{"a": history(1, 2, 3, 4), "b": history(5, 6, 7, 8)}, want: 1},
		"both acknowledge in turn":                     {histories: map[string]History{"a": history(1, 2, 5, 6), "b": history(3, 4, 7, 8)}, want: 3},
		"writes that overlap have no order":            {histories: map[string]History{"a": history(1, 5, 6, 9), "b": history(2, 7)}, want: 0},
		"the old one acknowledges after the new one":   {histories: map[string]History{"a": history(1, 2, 5, 6), "b": history(3, 4)}, want: 2},
		"a slow answer of the old one is no violation": {histories: map[string]History{"a": history(1, 2, 3, 6), "b": history(5, 7, 8, 9)}, want: 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Alternations(tc.histories)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
