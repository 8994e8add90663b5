// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"testing"
)

func TestInterval(t *testing.T) {
	cases := map[string]struct {
		values          []float64
		low, mean, high float64
	}{
		"nothing tells nothing":                       {nil, math.Inf(-1), 0, math.Inf(1)},
		"one measurement bounds nothing":              {[]float64{2}, math.Inf(-1), 2, math.Inf(1)},
		"equal ones bound everything":                 {[]float64{3, 3, 3}, 3, 3, 3},
		"two are far from certain":                    {[]float64{1, 3}, 2 - 12.706, 2, 2 + 12.706},
		"five have a margin of 2.776 standard errors": {[]float64{1, 2, 3, 4, 5}, 3 - 2.776*math.Sqrt(0.5), 3, 3 + 2.776*math.Sqrt(0.5)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := &Distribution{}
			for _, v := range c.values {
				d.Add(v)
			}
			low, mean, high := d.Interval()
			for what, pair := range map[string][2]float64{"low": {low, c.low}, "mean": {mean, c.mean}, "high": {high, c.high}} {
				if pair[0] != pair[1] && !(math.Abs(pair[0]-pair[1]) < 1e-9) {
					t.Errorf("%s is %v, want %v", what, pair[0], pair[1])
				}
			}
		})
	}
}
