// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/test/e2e/world"
)

// rounds of the making of a cluster.
const rounds = 5

// TestEmptyCluster: how long an empty cluster of three instances takes from its object to Available and to Healthy, one
// after the other on an otherwise idle machine.
func TestEmptyCluster(t *testing.T) {
	w := open(t)
	available := &Distribution{Name: "apply to Available, 3 empty instances", Unit: "s", Aim: 25, Direction: AtMost}
	healthy := &Distribution{Name: "apply to Healthy, 3 empty instances", Unit: "s", Aim: 60, Direction: AtMost}
	for n := range rounds {
		t.Run(fmt.Sprintf("round %d", n), func(t *testing.T) {
			namespace := w.Namespace(t, fmt.Sprintf("bench-empty-%d", n))
			began := time.Now()
			w.Create(t, world.Cluster(namespace, "empty", 3))
			w.Available(t, namespace, "empty")
			available.Add(time.Since(began).Seconds())
			w.Healthy(t, namespace, "empty")
			healthy.Add(time.Since(began).Seconds())
			if err := w.Moco.MocoV1beta1().MySQLClusters(namespace).Delete(t.Context(), "empty", metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	t.Log(available)
	t.Log(healthy)
}
