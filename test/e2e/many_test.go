// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	manyClusters = 20
	// manyWithin is for 24 instances on two cores.
	manyWithin = 9 * time.Minute
)

// TestTwentyClusters: one broken cluster keeps none of the others.
func TestTwentyClusters(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-many")}
	scenario(t, "one of twenty is broken and nineteen are healthy", f.many)
}

func (f *fixture) many(t *testing.T) {
	began := time.Now()
	for n := range manyClusters {
		f.Create(t, f.oneOfMany(n))
	}
	f.Eventually(t, f.namespace, "19 healthy clusters and one that says what is wrong", manyWithin, func(ctx context.Context) error {
		list, err := f.Moco.MocoV1beta1().MySQLClusters(f.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("listing clusters: %w", err)
		}
		healthy, invalid := 0, 0
		for _, cluster := range list.Items {
			if apimeta.IsStatusConditionTrue(cluster.Status.Conditions, v1beta1.ConditionHealthy) {
				healthy++
			}
			if apimeta.IsStatusConditionFalse(cluster.Status.Conditions, v1beta1.ConditionValid) {
				invalid++
			}
		}
		if healthy != manyClusters-1 || invalid != 1 {
			return fmt.Errorf("%d are healthy, %d invalid", healthy, invalid)
		}
		return nil
	})
	t.Logf("after %s", time.Since(began).Round(time.Second))
}

// oneOfMany is a cluster of three for the first two, the broken one, or a small one.
func (f *fixture) oneOfMany(n int) *v1beta1.MySQLCluster {
	cluster := world.Cluster(f.namespace, fmt.Sprintf("many-%d", n), 1)
	cluster.Spec.Resources.Limits["memory"] = resource.MustParse("576Mi")
	switch {
	case n < 2:
		cluster.Spec.Replicas = 3
	case n == 2:
		cluster.Spec.Topology, cluster.Spec.Config = v1beta1.Standalone, map[string]string{"no_such_option": "1"}
	default:
		cluster.Spec.Topology = v1beta1.Standalone
	}
	return cluster
}
