// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Claim makes the PersistentVolumeClaim of an instance. With retain Keep it has no owner, and its annotation
// v1beta1.AnnotationClusterUID tells which object it was made for.
//
// ReadWriteOnce, because not every driver knows ReadWriteOncePod; the lock on the volume keeps a second mysqld out.
func Claim(cluster *v1beta1.MySQLCluster, ordinal int32) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{
		TypeMeta:   typeMeta(corev1.SchemeGroupVersion, "PersistentVolumeClaim"),
		ObjectMeta: retained(cluster, ClaimName(cluster, ordinal)),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: cluster.DeepCopy().Spec.Storage.StorageClassName,
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceStorage: cluster.Spec.Storage.Size.DeepCopy(),
			}},
		},
	}
	claim.Labels = ordinalLabels(cluster, ordinal)
	return claim
}

// ClaimNamed is Claim under another name: the volume of an instance whose first one was retired.
func ClaimNamed(cluster *v1beta1.MySQLCluster, ordinal int32, name string) *corev1.PersistentVolumeClaim {
	claim := Claim(cluster, ordinal)
	claim.Name = name
	return claim
}
