// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"maps"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// ClusterKind is the kind that owns everything made here.
var ClusterKind = v1beta1.SchemeGroupVersion.WithKind("MySQLCluster")

// Labels returns the labels of everything that belongs to the cluster. The map is the caller's own.
func Labels(cluster *v1beta1.MySQLCluster) map[string]string {
	return map[string]string{
		"app.kubernetes.io/name":       "mysql",
		"app.kubernetes.io/instance":   cluster.Name,
		"app.kubernetes.io/component":  "mysql",
		"app.kubernetes.io/managed-by": "moco",
		v1beta1.LabelCluster:           cluster.Name,
	}
}

// ManagedSelector selects, in all namespaces, the Pods, Services and so on that MOCO made; informers are filtered by it.
func ManagedSelector() string {
	return "app.kubernetes.io/managed-by=moco," + v1beta1.LabelCluster
}

// PodSelector selects the Pods of a cluster; it is what status.selector shows.
func PodSelector(cluster *v1beta1.MySQLCluster) labels.Selector {
	return labels.SelectorFromSet(selected(cluster))
}

func selected(cluster *v1beta1.MySQLCluster) map[string]string {
	return map[string]string{v1beta1.LabelCluster: cluster.Name, "app.kubernetes.io/managed-by": "moco"}
}

// OrdinalOf reads the ordinal from the labels of a Pod or a volume; ok is false when there is none from 0 to 8.
func OrdinalOf(object metav1.Object) (ordinal int32, ok bool) {
	n, err := strconv.ParseInt(object.GetLabels()[v1beta1.LabelOrdinal], 10, 32)
	if err != nil || n < 0 || n > 8 {
		return 0, false
	}
	return int32(n), true
}

// owned is the metadata of an object that goes with its cluster.
func owned(cluster *v1beta1.MySQLCluster, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:            name,
		Namespace:       cluster.Namespace,
		Labels:          Labels(cluster),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cluster, ClusterKind)},
	}
}

// retained is the metadata of an object that outlives its cluster if that is what storage.retain says. It names the
// cluster by UID in an annotation, because an owner reference would have it deleted.
func retained(cluster *v1beta1.MySQLCluster, name string) metav1.ObjectMeta {
	meta := owned(cluster, name)
	meta.Annotations = map[string]string{v1beta1.AnnotationClusterUID: string(cluster.UID)}
	if cluster.Spec.Storage.Retain != v1beta1.RetainDelete {
		meta.OwnerReferences = nil
	}
	return meta
}

func typeMeta(gv schema.GroupVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: gv.String(), Kind: kind}
}

func ordinalLabels(cluster *v1beta1.MySQLCluster, ordinal int32) map[string]string {
	return with(Labels(cluster), map[string]string{v1beta1.LabelOrdinal: strconv.Itoa(int(ordinal))})
}

// with returns base and, over it, the entries of over.
func with(base, over map[string]string) map[string]string {
	merged := make(map[string]string, len(base)+len(over))
	maps.Copy(merged, base)
	maps.Copy(merged, over)
	return merged
}
