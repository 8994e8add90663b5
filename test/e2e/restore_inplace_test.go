// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/workload"
)

// retire deletes the cluster and retires the volumes it leaves, as docs/backup.md says. It returns their names.
func (b *bringing) retire(t *testing.T) []string {
	t.Helper()
	must(b.Kubectl(t.Context(), "delete", "mysqlcluster", "-n", b.namespace, b.name, "--timeout=120s"))(t)
	options := metav1.ListOptions{LabelSelector: v1beta1.LabelCluster + "=" + b.name + ",!" + v1beta1.LabelRetired}
	b.Eventually(t, b.namespace, "the Pods to be gone", 2*time.Minute, func(ctx context.Context) error {
		pods, err := b.Kubernetes.CoreV1().Pods(b.namespace).List(ctx, options)
		if err == nil && controlled(pods.Items) > 0 {
			err = fmt.Errorf("%d Pods are left", controlled(pods.Items))
		}
		return err
	})
	var names []string
	for _, claim := range must(b.Kubernetes.CoreV1().PersistentVolumeClaims(b.namespace).List(t.Context(), options))(t).Items {
		names = append(names, claim.Name)
		must(b.Kubectl(t.Context(), "label", "pvc", "-n", b.namespace, claim.Name, v1beta1.LabelRetired+"=true"))(t)
	}
	if len(names) != 3 {
		b.Fatal(t, b.namespace, "the cluster left the volumes %v", names)
	}
	return names
}

// inPlace puts the cluster back to before the mistake, in its own place.
func (b *bringing) inPlace(t *testing.T) {
	b.former = b.retire(t)
	restored := b.spec()
	restored.Spec.Bootstrap.FromBackup = &v1beta1.RestoreSource{BackupName: "first", At: &v1beta1.RestorePoint{BeforeGTID: b.mistake}}
	b.Create(t, restored)
	b.Condition(t, b.namespace, b.name, v1beta1.ConditionAvailable, metav1.ConditionTrue, restoredWithin)
	db := b.Primary(t, b.namespace, b.name) // the passwords are those of before
	if sum := b.checksum(t); sum != b.sum {
		b.Fatal(t, b.namespace, "the table has the checksum %s, before it was dropped %s", sum, b.sum)
	}
	if err := workload.CheckPrefix(t.Context(), db, "app.orders", b.load.service.History(), time.Time{}); err != nil {
		b.Fatal(t, b.namespace, "the rows are not those of before the mistake: %v", err)
	}
	b.healthy(t)
	for _, name := range b.former {
		claim := must(b.Kubernetes.CoreV1().PersistentVolumeClaims(b.namespace).Get(t.Context(), name, metav1.GetOptions{}))(t)
		if claim.Labels[v1beta1.LabelRetired] != "true" || claim.DeletionTimestamp != nil {
			t.Errorf("the former volume %s is %+v", name, claim.ObjectMeta)
		}
	}
}

// andBack takes the former volumes again: nothing of them was lost.
func (b *bringing) andBack(t *testing.T) {
	b.retire(t)
	for _, name := range b.former {
		must(b.Kubectl(t.Context(), "label", "pvc", "-n", b.namespace, name, v1beta1.LabelRetired+"-"))(t)
	}
	b.Create(t, b.spec())
	b.healthy(t)
	if err := workload.Check(t.Context(), b.Primary(t, b.namespace, b.name), "app.orders", b.load.service.History()); err != nil {
		b.Fatal(t, b.namespace, "not every acknowledged row is back: %v", err)
	}
}
