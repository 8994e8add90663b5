// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"strings"
)

// Table writes distributions as a Markdown table, one line each.
func Table(distributions ...*Distribution) string {
	var out strings.Builder
	out.WriteString("| Measured | Unit | n | min | median | p90 | p99 | max |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, d := range distributions {
		fmt.Fprintf(&out, "| %s | %s | %d | %.2f | %.2f | %.2f | %.2f | %.2f |\n",
			d.Name, d.Unit, len(d.values), d.quantile(0), d.Median(), d.quantile(0.9), d.quantile(0.99), d.quantile(1))
	}
	return out.String()
}
