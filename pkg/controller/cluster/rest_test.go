// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

func TestAFormerPrimaryRests(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	made := &v1beta1.Transition{From: "db-mysql-0", To: "db-mysql-1", StartedAt: metav1.NewTime(begun), WritePauseMillis: 2000}
	cases := map[string]struct {
		last     *v1beta1.Transition
		instance string
		after    time.Duration
		leader   int32
		want     bool
	}{
		"just after it was replaced":           {made, "db-mysql-0", 6900 * time.Millisecond, 1, true},
		"five seconds after the other opened":  {made, "db-mysql-0", 7 * time.Second, 1, false},
		"the new primary does not":             {made, "db-mysql-1", 3 * time.Second, 1, false},
		"another replica does not":             {made, "db-mysql-2", 3 * time.Second, 1, false},
		"not when it is the primary again":     {made, "db-mysql-0", 3 * time.Second, 0, false},
		"nobody does before the first changes": {nil, "db-mysql-0", 3 * time.Second, 1, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := &world{cluster: newCluster(3), memory: &memory{}}
			w.cluster.Status.LastTransition = c.last
			w.seen = topology.Observed{Record: openedRecord(5, c.leader)}
			if got := w.rests(c.instance, begun.Add(c.after)); got != c.want {
				t.Errorf("rests: %t, want %t", got, c.want)
			}
		})
	}
}
