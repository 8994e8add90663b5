// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

const kindSlice = "EndpointSlice"

// attempts bounds how often a write is tried again after a conflict, each time on what was then read.
const attempts = 3

// EnsureSlice makes the EndpointSlice as desired by Update, which kube-proxy sees as one change. The error is a
// *StaleEpoch when the live one was written under a higher epoch.
func (c *Control) EnsureSlice(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, observed *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	client := c.Client.DiscoveryV1().EndpointSlices(cluster.Namespace)
	if observed == nil {
		made, err := client.Create(ctx, desired, createOptions())
		if err == nil {
			logWritten(ctx, "Created", kindSlice, desired)
			return made, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("creating %s %s: %w", kindSlice, desired.Name, err)
		}
	}
	live := observed
	for range attempts {
		if live == nil {
			read, err := client.Get(ctx, desired.Name, metav1.GetOptions{})
			if err != nil {
				return nil, fmt.Errorf("reading %s %s: %w", kindSlice, desired.Name, err)
			}
			live = read
		}
		updated, err := c.updateSlice(ctx, cluster, desired, live)
		if !apierrors.IsConflict(err) {
			return updated, err
		}
		live = nil
	}
	return nil, fmt.Errorf("updating %s %s: it changed %d times meanwhile", kindSlice, desired.Name, attempts)
}

func (c *Control) updateSlice(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, live *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, error) {
	if err := belongs(cluster, kindSlice, live); err != nil {
		return nil, err
	}
	if err := notAhead(kindSlice, live, desired); err != nil {
		return nil, err
	}
	if sameSlice(desired, live) {
		return live, nil
	}
	update := live.DeepCopy()
	update.Labels = merged(live.Labels, desired.Labels)
	update.Annotations = merged(live.Annotations, desired.Annotations)
	update.OwnerReferences = desired.OwnerReferences
	update.Endpoints, update.Ports = desired.Endpoints, desired.Ports
	written, err := c.Client.DiscoveryV1().EndpointSlices(cluster.Namespace).Update(ctx, update, updateOptions())
	if err != nil {
		return nil, fmt.Errorf("updating %s %s: %w", kindSlice, desired.Name, err)
	}
	logWritten(ctx, "Updated", kindSlice, desired)
	return written, nil
}

func sameSlice(desired, live *discoveryv1.EndpointSlice) bool {
	return within(desired.Labels, live.Labels) && within(desired.Annotations, live.Annotations) &&
		equality.Semantic.DeepEqual(desired.Endpoints, live.Endpoints) &&
		equality.Semantic.DeepEqual(desired.Ports, live.Ports)
}

// notAhead returns *StaleEpoch when live was written under a higher epoch than desired. An epoch that cannot be read is
// nobody's: it is overwritten.
func notAhead(kind string, live, desired metav1.Object) error {
	want, err := render.EpochOf(desired)
	if err != nil {
		return err
	}
	if have, err := render.EpochOf(live); err == nil && have > want {
		return &StaleEpoch{Kind: kind, Name: live.GetName(), Have: have, Want: want}
	}
	return nil
}

// RemoveStrangers deletes, of the EndpointSlices observed in the namespace of the cluster, those by which something else
// leads clients of the primary or read Service: what Kubernetes made while the Service had a selector, and mirrors of an
// Endpoints object, together with that object. Kubernetes does not clean up behind a selector that was removed.
func (c *Control) RemoveStrangers(ctx context.Context, cluster *v1beta1.MySQLCluster, observed []*discoveryv1.EndpointSlice) error {
	pointed := map[string]bool{render.PrimaryServiceName(cluster): true, render.ReplicaServiceName(cluster): true}
	for _, slice := range observed {
		service := slice.Labels[discoveryv1.LabelServiceName]
		if !pointed[service] || slice.Labels[discoveryv1.LabelManagedBy] == render.SliceManager || slice.Namespace != cluster.Namespace {
			continue
		}
		if err := c.removeSource(ctx, slice, service); err != nil {
			return err
		}
		err := c.Client.DiscoveryV1().EndpointSlices(slice.Namespace).Delete(ctx, slice.Name, byUID(slice))
		if !gone(err) {
			return fmt.Errorf("deleting the stranger %s %s: %w", kindSlice, slice.Name, err)
		}
		logWritten(ctx, "Deleted a stranger", kindSlice, slice)
	}
	return nil
}

// removeSource deletes the Endpoints object that a slice mirrors; the mirror would come back.
func (c *Control) removeSource(ctx context.Context, slice *discoveryv1.EndpointSlice, service string) error {
	owner := metav1.GetControllerOf(slice)
	if owner == nil || owner.Kind != "Endpoints" || owner.Name != service {
		return nil
	}
	source := &metav1.ObjectMeta{UID: owner.UID}
	if err := c.Client.CoreV1().Endpoints(slice.Namespace).Delete(ctx, service, byUID(source)); !gone(err) {
		return fmt.Errorf("deleting Endpoints %s: %w", service, err)
	}
	return nil
}

// FindSlice returns the slice of that name, or nil.
func FindSlice(slices []*discoveryv1.EndpointSlice, name string) *discoveryv1.EndpointSlice {
	for _, slice := range slices {
		if slice.Name == name {
			return slice
		}
	}
	return nil
}

// Families of a live Service, which says for which its EndpointSlices are made; nil for nil.
func Families(service *corev1.Service) []corev1.IPFamily {
	if service == nil {
		return nil
	}
	return service.Spec.IPFamilies
}
