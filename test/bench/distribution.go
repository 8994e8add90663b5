// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Distribution is a set of measurements of one thing.
type Distribution struct {
	// Name and Unit of what was measured.
	Name, Unit string
	// Aim is the value to stay below, or above when Higher; 0 for none.
	Aim float64
	// Direction says which side of Aim is good.
	Direction Direction

	values []float64
}

// Direction of an aim.
type Direction string

// The directions.
const (
	AtMost  Direction = "at most"
	AtLeast Direction = "at least"
)

// Add adds a measurement.
func (d *Distribution) Add(value float64) { d.values = append(d.values, value) }

// N is how many measurements there are.
func (d *Distribution) N() int { return len(d.values) }

// Median of the measurements; 0 without any.
func (d *Distribution) Median() float64 { return d.quantile(0.5) }

// quantile by the nearest rank.
func (d *Distribution) quantile(q float64) float64 {
	if len(d.values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d.values))
	return sorted[int(q*float64(len(sorted)-1)+0.5)]
}

// String is the distribution in one line, all values included.
func (d *Distribution) String() string {
	var all []string
	for _, v := range d.values {
		all = append(all, fmt.Sprintf("%.2f", v))
	}
	text := fmt.Sprintf("%s [%s]: n=%d min=%.2f median=%.2f p90=%.2f max=%.2f (%s)",
		d.Name, d.Unit, len(d.values), d.quantile(0), d.Median(), d.quantile(0.9), d.quantile(1), strings.Join(all, " "))
	if d.Direction == "" {
		return text
	}
	return fmt.Sprintf("%s; aim %s %.2f: %d of %d", text, d.Direction, d.Aim, d.met(), len(d.values))
}

func (d *Distribution) met() int {
	n := 0
	for _, v := range d.values {
		if d.Direction == AtMost && v <= d.Aim || d.Direction == AtLeast && v >= d.Aim {
			n++
		}
	}
	return n
}
