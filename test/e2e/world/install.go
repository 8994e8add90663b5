// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SystemNamespace is where the controller runs.
const SystemNamespace = "moco-system"

// leaveTimeout bounds the end of a controller of before.
const leaveTimeout = time.Minute

// cleanupTimeout bounds the removal of a namespace; volumes are detached and removed meanwhile.
const cleanupTimeout = 3 * time.Minute

// Install applies the manifests as shipped and waits for the controller. One that runs already is started anew, because
// its image may have been built again under the same name.
func (w *World) Install(ctx context.Context) error {
	_, err := w.Kubernetes.AppsV1().Deployments(SystemNamespace).Get(ctx, "moco-controller", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("looking for the controller: %w", err)
	}
	installed := err == nil
	if _, err := w.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "-f", filepath.Join(w.Repo, "manifests")); err != nil {
		return fmt.Errorf("installing: %w", err)
	}
	if installed {
		if _, err := w.Kubectl(ctx, "rollout", "restart", "-n", SystemNamespace, "deployment/moco-controller"); err != nil {
			return fmt.Errorf("starting the controller anew: %w", err)
		}
	}
	for _, wait := range [][]string{
		{"wait", "--for=condition=Established", "crd/mysqlclusters.moco.dev", "--timeout=60s"},
		{"rollout", "status", "-n", SystemNamespace, "deployment/moco-controller", "--timeout=180s"},
	} {
		if _, err := w.Kubectl(ctx, wait...); err != nil {
			return fmt.Errorf("waiting for the controller: %w", err)
		}
	}
	return w.Wait(ctx, leaveTimeout, w.former)
}

// former says whether a controller of before is there still: it leads until it has ended.
func (w *World) former(ctx context.Context) error {
	pods, err := w.Kubernetes.CoreV1().Pods(SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
	if err != nil {
		return fmt.Errorf("listing the controllers: %w", err)
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil {
			return fmt.Errorf("the former controller %s is there still", pod.Name)
		}
	}
	return nil
}

// Namespace makes a namespace that takes restricted Pods only, and removes it, and all in it, after the test.
func (w *World) Namespace(t testing.TB, name string) string {
	t.Helper()
	ctx := t.Context()
	w.removeNamespace(ctx, t, name)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
	}}}
	if _, err := w.Kubernetes.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating namespace %s: %v", name, err)
	}
	t.Cleanup(func() {
		after, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		w.removeNamespace(after, t, name)
	})
	return name
}

// removeNamespace removes the clusters first, so that their instances are not stopped one before the other by chance.
func (w *World) removeNamespace(ctx context.Context, t testing.TB, name string) {
	t.Helper()
	_, err := w.Kubernetes.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return
	}
	if _, err := w.Kubectl(ctx, "delete", "mysqlclusters", "--all", "-n", name, "--timeout=60s"); err != nil {
		t.Logf("removing the clusters: %v", err)
	}
	if _, err := w.Kubectl(ctx, "delete", "namespace", name, "--ignore-not-found", "--timeout=150s"); err != nil {
		t.Logf("removing the namespace: %v", err)
	}
}
