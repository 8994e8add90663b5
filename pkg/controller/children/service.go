// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// EnsureService makes the Service as desired, and removes a selector that somebody gave to one that must have none.
// The endpoints that Kubernetes made from such a selector are removed by RemoveStrangers.
func (c *Control) EnsureService(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, observed *corev1.Service) (*corev1.Service, error) {
	w := &writer[corev1.Service, *corev1.Service]{
		client: c.Client.CoreV1().Services(cluster.Namespace), cluster: cluster, kind: "Service", ours: belongs,
		differs: func(desired, live *corev1.Service) bool {
			return !equality.Semantic.DeepEqual(desired.Spec.Selector, live.Spec.Selector)
		},
	}
	service, err := w.ensure(ctx, desired, observed)
	if err != nil || len(desired.Spec.Selector) > 0 || len(service.Spec.Selector) == 0 {
		return service, err
	}
	patch, err := mergePatch(service, nil, map[string]any{"spec": map[string]any{"selector": nil}})
	if err != nil {
		return nil, err
	}
	service, err = w.client.Patch(ctx, desired.Name, types.MergePatchType, patch, patchOptions())
	if err != nil {
		return nil, fmt.Errorf("removing the selector of Service %s: %w", desired.Name, err)
	}
	logWritten(ctx, "Removed the selector", w.kind, desired)
	return service, nil
}

// EnsureConfigMap makes the ConfigMap as desired.
func (c *Control) EnsureConfigMap(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, observed *corev1.ConfigMap) (*corev1.ConfigMap, error) {
	w := &writer[corev1.ConfigMap, *corev1.ConfigMap]{
		client: c.Client.CoreV1().ConfigMaps(cluster.Namespace), cluster: cluster, kind: "ConfigMap", ours: belongs,
	}
	return w.ensure(ctx, desired, observed)
}

// ConfigMap reads a ConfigMap by name, which may be a user's: there is no cache of those. The caller tells by
// apierrors.IsNotFound that there is none.
func (c *Control) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	config, err := c.Client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", name, err)
	}
	return config, nil
}

// EnsureBudget makes the PodDisruptionBudget as desired. With desired nil, which means that there must be none, it
// deletes what was observed, if that is ours.
func (c *Control) EnsureBudget(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, observed *policyv1.PodDisruptionBudget) error {
	client := c.Client.PolicyV1().PodDisruptionBudgets(cluster.Namespace)
	w := &writer[policyv1.PodDisruptionBudget, *policyv1.PodDisruptionBudget]{
		client: client, cluster: cluster, kind: "PodDisruptionBudget", ours: belongs,
		differs: func(desired, live *policyv1.PodDisruptionBudget) bool {
			return !equality.Semantic.DeepEqual(desired.Spec.Selector, live.Spec.Selector)
		},
	}
	if desired != nil {
		_, err := w.ensure(ctx, desired, observed)
		return err
	}
	if observed == nil || observed.DeletionTimestamp != nil {
		return nil
	}
	if ours := belongs(cluster, w.kind, observed) == nil; !ours {
		return nil
	}
	if err := client.Delete(ctx, observed.Name, byUID(observed)); !gone(err) {
		return fmt.Errorf("deleting %s %s: %w", w.kind, observed.Name, err)
	}
	logWritten(ctx, "Deleted", w.kind, observed)
	return nil
}
