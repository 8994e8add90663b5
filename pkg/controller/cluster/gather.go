// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/pki"
	"github.com/moco-mysql/moco/pkg/topology"
)

// world is one read of everything about a cluster. Objects in it belong to the caches and are not changed.
type world struct {
	cluster *v1beta1.MySQLCluster
	memory  *memory
	// pods and claims by ordinal; only those that are the cluster's own by UID.
	pods   map[int32]*corev1.Pod
	claims map[int32]*corev1.PersistentVolumeClaim
	// retired are the volumes of an ordinal that were replaced, oldest first.
	retired map[int32][]*corev1.PersistentVolumeClaim
	// replacing are the instances that are to be replaced, by ordinal.
	replacing map[int32]replacement
	// settings is what the instances are to be configured with.
	settings settings
	// reading: every volume has to be read before anything is decided.
	reading bool
	// hold is what to do instead of deciding, or nil; refused is why the restore of the first data directory was refused.
	hold    *topology.Plan
	refused string
	// seen is the same world in the words of pkg/topology.
	seen topology.Observed
}

// ordinals is how many ordinals are looked at: those asked for and those that exist.
func (w *world) ordinals() int32 {
	most := w.cluster.Spec.Replicas
	for ordinal := range w.pods {
		most = max(most, ordinal+1)
	}
	for ordinal := range w.claims {
		most = max(most, ordinal+1)
	}
	return most
}

// gather reads the caches and makes sure that the agents of all Pods are listened to.
func (c *Controller) gather(cluster *v1beta1.MySQLCluster) (*world, error) {
	w := &world{
		cluster: cluster, memory: c.memories.of(cluster), pods: map[int32]*corev1.Pod{}, claims: map[int32]*corev1.PersistentVolumeClaim{},
		retired: map[int32][]*corev1.PersistentVolumeClaim{},
	}
	selector := render.PodSelector(cluster)
	pods, err := c.pods.Pods(cluster.Namespace).List(selector)
	if err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	for _, pod := range pods {
		if ordinal, ok := render.OrdinalOf(pod); ok && metav1.IsControlledBy(pod, cluster) {
			w.pods[ordinal] = pod
		}
	}
	claims, err := c.claims.PersistentVolumeClaims(cluster.Namespace).List(selector)
	if err != nil {
		return nil, fmt.Errorf("listing PersistentVolumeClaims: %w", err)
	}
	for ordinal, v := range sortVolumes(cluster, claims) {
		if w.retired[ordinal] = v.retired; v.current != nil {
			w.claims[ordinal] = v.current
		}
	}
	return w, nil
}

// listen points the fleet at the agents of the cluster.
func (c *Controller) listen(ctx context.Context, w *world) {
	var targets []target
	for ordinal, pod := range w.pods {
		if pod.Status.PodIP == "" {
			continue
		}
		targets = append(targets, target{
			cluster: cache.MetaObjectToName(w.cluster), podUID: pod.UID, pod: pod.Name, ip: pod.Status.PodIP,
			tls:     pki.ClientConfig(&w.memory.trust, render.PodHost(w.cluster, ordinal), c.now),
			silence: silenceFor(detectionOf(w.cluster)),
		})
	}
	c.fleet.listen(ctx, cache.MetaObjectToName(w.cluster), targets)
}

// podOf returns the Pod with the name, or nil.
func (w *world) podOf(name string) *corev1.Pod {
	for _, pod := range w.pods {
		if pod.Name == name {
			return pod
		}
	}
	return nil
}

// aloneInPod reports whether an agent has nothing to tell because the container mysql does not run: nobody locked the
// volume for it, nor says who else holds it.
func aloneInPod(status *api.Status) bool {
	return status != nil && status.Volume == api.VolumeWaiting && status.VolumeHolder == ""
}

// trouble says in words why the Pod of an instance does not run, with the field and the remedy where there is one; "" when
// it runs.
func (w *world) trouble(ordinal int32) string {
	pod, claim := w.pods[ordinal], w.claims[ordinal]
	for _, condition := range pod.Status.Conditions {
		if condition.Type != corev1.PodScheduled || condition.Status != corev1.ConditionFalse {
			continue
		}
		text := "its Pod cannot be scheduled: " + condition.Message
		if claim != nil && claim.Spec.VolumeName == "" {
			text += "; its volume is not bound: " + unbound(claim)
		}
		return text
	}
	statuses := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...), pod.Status.ContainerStatuses...)
	var troubles []string
	for _, s := range statuses {
		if waiting := s.State.Waiting; waiting != nil && waiting.Reason != "PodInitializing" && waiting.Reason != "ContainerCreating" {
			troubles = append(troubles, containerTrouble(w.cluster, s.Name, waiting))
		}
	}
	switch {
	case len(troubles) > 0:
		return strings.Join(troubles, "; ")
	case pod.Status.Phase == corev1.PodPending:
		return podStarting
	}
	return ""
}

// podStarting is no trouble, only time.
const podStarting = "its Pod is starting"

// unbound says what of the spec a claim without a volume depends on.
func unbound(claim *corev1.PersistentVolumeClaim) string {
	class := "the default storage class"
	if claim.Spec.StorageClassName != nil {
		class = fmt.Sprintf("storage class %q", *claim.Spec.StorageClassName)
	}
	return fmt.Sprintf("%s (spec.storage.storageClassName) must exist and provide spec.storage.size; see kubectl get storageclass and kubectl describe pvc %s", class, claim.Name)
}

// imageReasons are kubelet's reasons of a container whose image is not there.
var imageReasons = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}

// containerTrouble says why a container waits.
func containerTrouble(cluster *v1beta1.MySQLCluster, container string, waiting *corev1.ContainerStateWaiting) string {
	if container == render.ContainerMySQL && slices.Contains(imageReasons, waiting.Reason) {
		return fmt.Sprintf("spec.image: %s cannot be pulled (%s): %s; correct it, or name a Secret that may pull it in spec.imagePullSecrets",
			cluster.Spec.Image, waiting.Reason, waiting.Message)
	}
	return fmt.Sprintf("container %s: %s: %s", container, waiting.Reason, waiting.Message)
}
