// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Image of MySQL in the tests.
const Image = "mysql:9.7.4"

// Times within which a cluster is expected to get somewhere on a busy machine with two cores. What is measured is in the
// benchmarks; these only end a test that hangs.
const (
	AvailableWithin = 3 * time.Minute
	HealthyWithin   = 5 * time.Minute
)

// Cluster makes a small MySQLCluster; change it before it is applied.
func Cluster(namespace, name string, replicas int32) *v1beta1.MySQLCluster {
	memory := resource.MustParse("640Mi")
	return &v1beta1.MySQLCluster{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1beta1.SchemeGroupVersion.String(), Kind: "MySQLCluster"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1beta1.MySQLClusterSpec{
			Topology: v1beta1.Replication, Replicas: replicas, Image: Image,
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("384Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: memory},
			},
			Storage:   v1beta1.Storage{Size: resource.MustParse("1Gi")},
			Bootstrap: &v1beta1.Bootstrap{Database: "app", User: "app"},
		},
	}
}

// Create makes the cluster in Kubernetes.
func (w *World) Create(t testing.TB, cluster *v1beta1.MySQLCluster) *v1beta1.MySQLCluster {
	t.Helper()
	made, err := w.Moco.MocoV1beta1().MySQLClusters(cluster.Namespace).Create(t.Context(), cluster, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("creating cluster %s: %v", cluster.Name, err)
	}
	return made
}

// Get reads a cluster.
func (w *World) Get(ctx context.Context, namespace, name string) (*v1beta1.MySQLCluster, error) {
	return w.Moco.MocoV1beta1().MySQLClusters(namespace).Get(ctx, name, metav1.GetOptions{})
}

// Change applies a merge patch to the spec of a cluster and returns the error of the API server.
func (w *World) Change(ctx context.Context, namespace, name string, spec map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	_, err = w.Moco.MocoV1beta1().MySQLClusters(namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// Condition waits until a condition of a cluster, as of its present generation, has the status.
func (w *World) Condition(t testing.TB, namespace, name, condition string, status metav1.ConditionStatus, within time.Duration) *v1beta1.MySQLCluster {
	t.Helper()
	var seen *v1beta1.MySQLCluster
	w.Eventually(t, namespace, fmt.Sprintf("%s/%s: %s=%s", namespace, name, condition, status), within, func(ctx context.Context) error {
		cluster, err := w.Get(ctx, namespace, name)
		if err != nil {
			return err
		}
		seen = cluster
		return conditionIs(cluster, condition, status)
	})
	return seen
}

func conditionIs(cluster *v1beta1.MySQLCluster, condition string, status metav1.ConditionStatus) error {
	found := apimeta.FindStatusCondition(cluster.Status.Conditions, condition)
	switch {
	case found == nil:
		return fmt.Errorf("no condition %s yet", condition)
	case found.ObservedGeneration != cluster.Generation:
		return fmt.Errorf("condition %s is about generation %d, not %d", condition, found.ObservedGeneration, cluster.Generation)
	case found.Status != status:
		return fmt.Errorf("condition %s is %s: %s: %s", condition, found.Status, found.Reason, found.Message)
	}
	return nil
}

// Healthy waits until a cluster is as specified.
func (w *World) Healthy(t testing.TB, namespace, name string) *v1beta1.MySQLCluster {
	t.Helper()
	return w.Condition(t, namespace, name, v1beta1.ConditionHealthy, metav1.ConditionTrue, HealthyWithin)
}

// Available waits until a cluster takes writes.
func (w *World) Available(t testing.TB, namespace, name string) *v1beta1.MySQLCluster {
	t.Helper()
	return w.Condition(t, namespace, name, v1beta1.ConditionAvailable, metav1.ConditionTrue, AvailableWithin)
}

// Pod reads the Pod of an instance.
func (w *World) Pod(ctx context.Context, namespace, pod string) (*corev1.Pod, error) {
	return w.Kubernetes.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
}
