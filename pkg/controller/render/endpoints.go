// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// SliceManager is the value of endpointslice.kubernetes.io/managed-by on our EndpointSlices, which keeps the controllers
// of Kubernetes away from them.
const SliceManager = "moco-controller"

// SliceInput is what the EndpointSlices of one Service are made from.
type SliceInput struct {
	// Service is its name: PrimaryServiceName or ReplicaServiceName.
	Service string
	// Families of the live Service, its spec.ipFamilies; empty means IPv4.
	Families []corev1.IPFamily
	// Epoch of the record that says where the Service leads.
	Epoch int64
	// Pods it leads to, ready or not. None is no endpoint, which is better than a wrong one.
	Pods []*corev1.Pod
}

// EndpointSlices makes one slice for each IP family, with no endpoints if there is no Pod with an address of it.
func EndpointSlices(cluster *v1beta1.MySQLCluster, in SliceInput) ([]*discoveryv1.EndpointSlice, error) {
	families := in.Families
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	made := make([]*discoveryv1.EndpointSlice, 0, len(families))
	for _, family := range families {
		slice := endpointSlice(cluster, in, family)
		if err := stamp(&slice.ObjectMeta, slice); err != nil {
			return nil, fmt.Errorf("making the EndpointSlice %s: %w", slice.Name, err)
		}
		made = append(made, slice)
	}
	return made, nil
}

func endpointSlice(cluster *v1beta1.MySQLCluster, in SliceInput, family corev1.IPFamily) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		TypeMeta:    typeMeta(discoveryv1.SchemeGroupVersion, "EndpointSlice"),
		ObjectMeta:  owned(cluster, in.Service+"-"+strings.ToLower(string(family))),
		AddressType: discoveryv1.AddressType(family),
		Endpoints:   []discoveryv1.Endpoint{},
		Ports: []discoveryv1.EndpointPort{{
			Name: ptr.To(PortNameMySQL), Port: ptr.To[int32](MySQLPort), Protocol: ptr.To(corev1.ProtocolTCP),
		}},
	}
	slice.Labels[discoveryv1.LabelServiceName] = in.Service
	slice.Labels[discoveryv1.LabelManagedBy] = SliceManager
	slice.Annotations = map[string]string{v1beta1.AnnotationEpoch: strconv.FormatInt(in.Epoch, 10)}
	for _, pod := range sortedByName(in.Pods) {
		if address := AddressOf(pod, family); address != "" {
			slice.Endpoints = append(slice.Endpoints, endpoint(pod, address))
		}
	}
	return slice
}

// endpoint is ready whatever the readiness of the Pod, which speaks of its agent: who is listed here may serve.
func endpoint(pod *corev1.Pod, address string) discoveryv1.Endpoint {
	made := discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
		TargetRef: &corev1.ObjectReference{
			Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
	}
	if pod.Spec.NodeName != "" {
		made.NodeName = ptr.To(pod.Spec.NodeName)
	}
	return made
}

// AddressOf is the first address of the Pod in that family, or "".
func AddressOf(pod *corev1.Pod, family corev1.IPFamily) string {
	candidates := []string{pod.Status.PodIP}
	for _, ip := range pod.Status.PodIPs {
		candidates = append(candidates, ip.IP)
	}
	for _, candidate := range candidates {
		address, err := netip.ParseAddr(candidate)
		if err == nil && address.Is4() == (family == corev1.IPv4Protocol) {
			return candidate
		}
	}
	return ""
}

func sortedByName(pods []*corev1.Pod) []*corev1.Pod {
	sorted := slices.Clone(pods)
	slices.SortFunc(sorted, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}
