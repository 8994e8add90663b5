// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package workload

import "slices"

// Alternations counts how often, for certain, the server that acknowledges changed: the histories are those of writers
// that each wrote to one server only. A write counts as later than another only if it was sent after the other's answer
// had come, so what overlaps is never counted and the true number is at least this. Where one server at a time may
// acknowledge, it is at most the number of handovers.
func Alternations(histories map[string]History) int {
	type acknowledged struct {
		server string
		span   Span
	}
	var all []acknowledged
	for server, h := range histories {
		for _, span := range h.Spans {
			all = append(all, acknowledged{server: server, span: span})
		}
	}
	slices.SortFunc(all, func(a, b acknowledged) int { return a.span.Ended.Compare(b.span.Ended) })
	changes := 0
	for i, last := 1, 0; i < len(all); i++ {
		switch {
		case all[i].server == all[last].server:
		case all[i].span.Began.After(all[last].span.Ended):
			changes, last = changes+1, i
		}
	}
	return changes
}

// Merge joins the histories of writers of one table for Check. Gaps and errors are left out.
func Merge(histories ...History) History {
	var merged History
	for _, h := range histories {
		merged.Acknowledged = append(merged.Acknowledged, h.Acknowledged...)
		merged.Refused = append(merged.Refused, h.Refused...)
		merged.Unknown = append(merged.Unknown, h.Unknown...)
	}
	return merged
}
