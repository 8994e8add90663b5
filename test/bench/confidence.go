// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
)

// student are the 0.975 quantiles of Student's t distribution with 1, 2, … degrees of freedom.
var student = []float64{
	12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
	2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
}

// normal is that quantile of the normal distribution, for more degrees of freedom.
const normal = 1.960

// Interval is the mean and the bounds between which the true mean lies with 95 % confidence, if the measurements are
// independent and normally distributed. With fewer than two the bounds are infinite.
func (d *Distribution) Interval() (low, mean, high float64) {
	n := float64(len(d.values))
	for _, v := range d.values {
		mean += v / n
	}
	if n < 2 {
		return math.Inf(-1), mean, math.Inf(1)
	}
	squares := 0.0
	for _, v := range d.values {
		squares += (v - mean) * (v - mean)
	}
	quantile := normal
	if degrees := len(d.values) - 1; degrees <= len(student) {
		quantile = student[degrees-1]
	}
	margin := quantile * math.Sqrt(squares/(n-1)/n)
	return mean - margin, mean, mean + margin
}

// Confidence is Interval in words.
func (d *Distribution) Confidence() string {
	low, mean, high := d.Interval()
	return fmt.Sprintf("%s [%s]: mean %.3f, 95 %% confidence %.3f to %.3f, n=%d", d.Name, d.Unit, mean, low, high, len(d.values))
}
