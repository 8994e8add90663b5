// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDistribution(t *testing.T) {
	tests := map[string]struct {
		distribution Distribution
		values       []float64
		want         string
	}{
		"nothing measured": {
			distribution: Distribution{Name: "time", Unit: "s"},
			want:         "time [s]: n=0 min=0.00 median=0.00 p90=0.00 max=0.00 ()",
		},
		"an aim that two of three meet": {
			distribution: Distribution{Name: "time", Unit: "s", Aim: 2, Direction: AtMost}, values: []float64{3, 1, 2},
			want: "time [s]: n=3 min=1.00 median=2.00 p90=3.00 max=3.00 (3.00 1.00 2.00); aim at most 2.00: 2 of 3",
		},
		"an aim from below": {
			distribution: Distribution{Name: "ratio", Unit: "1", Aim: 0.95, Direction: AtLeast}, values: []float64{0.9, 1},
			want: "ratio [1]: n=2 min=0.90 median=1.00 p90=1.00 max=1.00 (0.90 1.00); aim at least 0.95: 1 of 2",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			for _, v := range tc.values {
				tc.distribution.Add(v)
			}
			if diff := cmp.Diff(tc.want, tc.distribution.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
