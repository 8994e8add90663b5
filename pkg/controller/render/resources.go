// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Defaults of spec.resources.
const (
	defaultCPU    = "500m"
	defaultMemory = "1Gi"
)

// Resources of the container mysql: those of the spec; 1Gi of memory (request and limit) and a request of 500m CPU for
// whichever of the two the spec does not mention.
func Resources(cluster *v1beta1.MySQLCluster) corev1.ResourceRequirements {
	resources := *cluster.Spec.Resources.DeepCopy()
	if !mentions(resources, corev1.ResourceCPU) {
		resources.Requests = withQuantity(resources.Requests, corev1.ResourceCPU, defaultCPU)
	}
	if !mentions(resources, corev1.ResourceMemory) {
		resources.Requests = withQuantity(resources.Requests, corev1.ResourceMemory, defaultMemory)
		resources.Limits = withQuantity(resources.Limits, corev1.ResourceMemory, defaultMemory)
	}
	return resources
}

// MemoryBytes is what the sizes of mysqld are derived from: the memory limit of the container mysql or, without one, its
// request. It is never 0.
func MemoryBytes(cluster *v1beta1.MySQLCluster) int64 {
	resources := Resources(cluster)
	if limit, ok := resources.Limits[corev1.ResourceMemory]; ok {
		return limit.Value()
	}
	request := resources.Requests[corev1.ResourceMemory]
	return request.Value()
}

func mentions(resources corev1.ResourceRequirements, name corev1.ResourceName) bool {
	_, requested := resources.Requests[name]
	_, limited := resources.Limits[name]
	return requested || limited
}

func withQuantity(list corev1.ResourceList, name corev1.ResourceName, quantity string) corev1.ResourceList {
	merged := corev1.ResourceList{name: resource.MustParse(quantity)}
	maps.Copy(merged, list)
	return merged
}

// fixedResources are those of the small containers: no CPU limit, because throttling the agent would delay a failover.
func fixedResources(cpu, memory, memoryLimit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse(cpu),
			corev1.ResourceMemory: resource.MustParse(memory),
		},
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memoryLimit)},
	}
}
