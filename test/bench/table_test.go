// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	gap := &Distribution{Name: "gap", Unit: "s"}
	for i := range 101 {
		gap.Add(float64(i) / 10)
	}
	want := `| Measured | Unit | n | min | median | p90 | p99 | max |
| --- | --- | --- | --- | --- | --- | --- | --- |
| gap | s | 101 | 0.00 | 5.00 | 9.00 | 9.90 | 10.00 |
| nothing | 1 | 0 | 0.00 | 0.00 | 0.00 | 0.00 | 0.00 |
`
	if diff := cmp.Diff(want, Table(gap, &Distribution{Name: "nothing", Unit: "1"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
