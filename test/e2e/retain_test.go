// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// kept is what must survive the deletion: volumes and Secrets by UID.
type kept map[string]string

func (f *fixture) deletedAndApplied(t *testing.T) {
	if _, err := f.Primary(t, f.namespace, f.name).ExecContext(t.Context(), "REPLACE INTO greetings VALUES (3, 'kept')"); err != nil {
		t.Fatal(err)
	}
	before := f.kept(t)
	foreign := f.foreign(t)
	began := time.Now()
	must(f.Kubectl(t.Context(), "delete", "mysqlcluster", "-n", f.namespace, f.name, "--timeout=60s"))(t)
	f.Eventually(t, f.namespace, "the Pods to be gone", 2*time.Minute, func(ctx context.Context) error {
		pods, err := f.Kubernetes.CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{LabelSelector: v1beta1.LabelCluster + "=" + f.name + ",app.kubernetes.io/managed-by=moco"})
		if err == nil && controlled(pods.Items) > 0 {
			err = fmt.Errorf("%d Pods are left", len(pods.Items))
		}
		return err
	})
	t.Logf("the Pods were gone after %s", time.Since(began).Round(100*time.Millisecond))
	if diff := cmp.Diff(before, f.kept(t)); diff != "" {
		t.Errorf("volumes and Secrets after the deletion (-want +got):\n%s", diff)
	}
	f.create(t)
	if diff := cmp.Diff(before, f.kept(t)); diff != "" {
		t.Errorf("volumes and Secrets after it was applied again (-want +got):\n%s", diff)
	}
	if _, err := f.Kubernetes.CoreV1().ConfigMaps(f.namespace).Get(t.Context(), foreign, metav1.GetOptions{}); err != nil {
		t.Errorf("something that only carries the labels of the cluster was deleted: %v", err)
	}
	for pod, db := range f.everybody(t, "app") {
		f.Eventually(t, f.namespace, "the old data on "+pod, 30*time.Second, func(ctx context.Context) error {
			var text string
			if err := db.QueryRowContext(ctx, "SELECT text FROM greetings WHERE id=3").Scan(&text); err != nil {
				return err
			}
			if text != "kept" {
				return errors.New("the row says " + text)
			}
			return nil
		})
	}
}

func controlled(pods []corev1.Pod) int {
	n := 0
	for i := range pods {
		if metav1.GetControllerOf(&pods[i]) != nil {
			n++
		}
	}
	return n
}

func (f *fixture) kept(t *testing.T) kept {
	t.Helper()
	found := kept{}
	options := metav1.ListOptions{LabelSelector: v1beta1.LabelCluster + "=" + f.name}
	for _, claim := range must(f.Kubernetes.CoreV1().PersistentVolumeClaims(f.namespace).List(t.Context(), options))(t).Items {
		found["volume "+claim.Name] = string(claim.UID)
	}
	for _, secret := range must(f.Kubernetes.CoreV1().Secrets(f.namespace).List(t.Context(), options))(t).Items {
		if secret.Name != f.name+"-mysql-tls" { // made anew for every cluster object
			found["secret "+secret.Name] = string(secret.UID)
		}
	}
	return found
}

// foreign makes an object of somebody else's with the labels of the cluster and returns its name.
func (f *fixture) foreign(t *testing.T) string {
	t.Helper()
	strangers := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "strangers", Labels: map[string]string{
		v1beta1.LabelCluster: f.name, "app.kubernetes.io/managed-by": "moco",
	}}}
	must(f.Kubernetes.CoreV1().ConfigMaps(f.namespace).Create(t.Context(), strangers, metav1.CreateOptions{}))(t)
	return strangers.Name
}
