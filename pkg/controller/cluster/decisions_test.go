// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/topology"
)

func planOf(reason string) topology.Plan {
	return topology.Plan{Decision: topology.Decision{Rule: topology.RuleHold, Reason: reason}}
}

// served returns the reasons in the log of a cluster as it is served, and the status of the answer.
func served(t *testing.T, d *Decisions, query string) (reasons []string, code int) {
	t.Helper()
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug/decisions"+query, nil))
	if answer.Code != http.StatusOK {
		return nil, answer.Code
	}
	var entries []decisionEntry
	if err := json.Unmarshal(answer.Body.Bytes(), &entries); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		reasons = append(reasons, e.Plan.Decision.Reason)
	}
	return reasons, answer.Code
}

func TestDecisionsAreKeptWhenTheyDiffer(t *testing.T) {
	d, name := NewDecisions(), cache.NewObjectName("shop", "db")
	note := func(replicas int32, reason, floor string) {
		if err := d.note(name, time.Unix(0, 0), topology.Desired{Replicas: replicas}, topology.Observed{Floor: floor}, planOf(reason)); err != nil {
			t.Fatal(err)
		}
	}
	note(3, "first", "a")
	note(3, "first", "b") // only a position moved
	note(3, "second", "b")
	note(5, "second", "b") // somebody asks for more
	got, code := served(t, d, "?namespace=shop&name=db")
	if diff := cmp.Diff([]string{"first", "second", "second"}, got); diff != "" || code != http.StatusOK {
		t.Errorf("%d (-want +got):\n%s", code, diff)
	}
	if _, code := served(t, d, "?namespace=shop&name=other"); code != http.StatusNotFound {
		t.Errorf("an unknown cluster: %d", code)
	}
	d.forget(name)
	if _, code := served(t, d, "?namespace=shop&name=db"); code != http.StatusNotFound {
		t.Errorf("a cluster that is gone: %d", code)
	}
}

func TestTheLogOfDecisionsIsBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	cases := map[string]func() string{
		"by entries": func() string { return "" },
		"by bytes": func() string { // does not compress
			noise := make([]byte, 0, 4000)
			for range 2000 {
				noise = fmt.Appendf(noise, "%x", random.Uint32())
			}
			return string(noise)
		},
	}
	for name, noise := range cases {
		t.Run(name, func(t *testing.T) {
			d, key := NewDecisions(), cache.NewObjectName("shop", "db")
			for n := range 2 * decisionsKept {
				if err := d.note(key, time.Unix(0, 0), topology.Desired{}, topology.Observed{Floor: noise()}, planOf(fmt.Sprint(n))); err != nil {
					t.Fatal(err)
				}
			}
			log := d.all[key]
			if len(log.entries) > decisionsKept || log.size > decisionBytes {
				t.Errorf("%d entries, %d bytes", len(log.entries), log.size)
			}
			got, _ := served(t, d, "?namespace=shop&name=db")
			if len(got) == 0 || got[len(got)-1] != fmt.Sprint(2*decisionsKept-1) {
				t.Errorf("the newest is not there: %d entries", len(got))
			}
		})
	}
}
