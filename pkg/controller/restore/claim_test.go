// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func TestAVolumeOfAnInstanceIsNoStore(t *testing.T) {
	restored, backup, cluster := newRestore(), newBackup(), newCluster()
	backup.Spec.Store = v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "data-db-mysql-1"}}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "data-db-mysql-1", Labels: map[string]string{v1beta1.LabelCluster: "db", v1beta1.LabelOrdinal: "1"},
	}}
	f := newFixture(t, restored, backup, cluster, append(around(cluster), claim)...)
	got := f.steps()
	if reason := reasonOf(&got.Status); got.Status.Phase != v1beta1.RestoreFailed || reason != "ClaimOfInstance" ||
		!strings.Contains(got.Status.Message, "data-db-mysql-1") || len(f.jobNames()) != 0 {
		t.Errorf("phase %s, reason %s: %q, Jobs %v", got.Status.Phase, reason, got.Status.Message, f.jobNames())
	}
}
