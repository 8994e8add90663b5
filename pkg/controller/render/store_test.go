// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func TestTheVolumeOfABackupIsMountedForTheAgentAloneAndIsNoChangeOfTheTemplate(t *testing.T) {
	cluster := newCluster(func(*v1beta1.MySQLCluster) {})
	plain := must[*corev1.Pod](t)(Pod(cluster, newInput()))
	in := newInput()
	in.Store = "nas"
	with := must[*corev1.Pod](t)(Pod(cluster, in))
	if TemplateHash(plain) != TemplateHash(with) {
		t.Error("the Pod would be replaced when the restore is over")
	}
	added := with.Spec.Volumes[len(with.Spec.Volumes)-1]
	if len(with.Spec.Volumes) != len(plain.Spec.Volumes)+1 || added.PersistentVolumeClaim == nil || added.PersistentVolumeClaim.ClaimName != "nas" {
		t.Fatalf("volume %+v", added)
	}
	for n, c := range with.Spec.Containers {
		var want []corev1.VolumeMount
		if c.Name == ContainerAgent {
			want = []corev1.VolumeMount{{Name: added.Name, MountPath: "/store", ReadOnly: true}}
		}
		got := c.VolumeMounts[len(plain.Spec.Containers[n].VolumeMounts):]
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.Name, diff)
		}
	}
}
