// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/children"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/topology"
)

// route says where the two Services lead and what the Pods are marked with.
type route struct {
	// epoch is the last opened one; 0 before the first.
	epoch    int64
	primary  []*corev1.Pod
	replicas []*corev1.Pod
}

// syncRouting lets Services and role labels follow the record, and nothing else: that an agent cannot be asked changes
// neither.
func (c *Controller) syncRouting(ctx context.Context, w *world) error {
	known, err := c.slicesOf(w.cluster)
	if err != nil {
		return err
	}
	r := w.route(known)
	failures := []error{
		c.children.RemoveStrangers(ctx, w.cluster, known),
		c.syncSlices(ctx, w, known, render.PrimaryServiceName(w.cluster), r.epoch, r.primary),
		c.syncSlices(ctx, w, known, render.ReplicaServiceName(w.cluster), r.epoch, r.replicas),
		c.markPods(ctx, w, r),
	}
	return errors.Join(failures...)
}

// route computes where the Services lead.
func (w *world) route(known []*discoveryv1.EndpointSlice) route {
	record := w.seen.Record
	if record == nil || record.LastOpened == nil {
		return route{}
	}
	r := route{epoch: record.LastOpened.Epoch}
	for n := range w.seen.Instances {
		i := &w.seen.Instances[n]
		pod := w.pods[i.Ordinal]
		if pod == nil || pod.Status.PodIP == "" {
			continue
		}
		leads := i.Name == record.LastOpened.Primary.Name
		switch {
		case leads && w.routable(i, pod, known, render.PrimaryServiceName(w.cluster)):
			r.primary = append(r.primary, pod)
		case !leads && w.routable(i, pod, known, render.ReplicaServiceName(w.cluster)):
			r.replicas = append(r.replicas, pod)
		}
	}
	return r
}

// routable reports whether a Service may lead to a Pod. An agent that is not heard leaves things as they are.
func (w *world) routable(i *topology.Instance, pod *corev1.Pod, known []*discoveryv1.EndpointSlice, service string) bool {
	if i.Agent == nil {
		return routed(known, service, pod.UID)
	}
	opened := w.seen.Record.LastOpened
	if i.Name == opened.Primary.Name {
		return i.Agent.Incarnation == opened.Primary.Incarnation
	}
	// A replica that was opened goes on serving reads while its source is away.
	return !i.Stopping && i.Agent.Server != nil && !i.Agent.Server.OfflineMode && topology.IsVoter(w.seen.Record, i.Agent.Incarnation)
}

// routed reports whether one of the Service's slices names the Pod.
func routed(known []*discoveryv1.EndpointSlice, service string, pod types.UID) bool {
	for _, slice := range known {
		if slice.Labels[discoveryv1.LabelServiceName] != service {
			continue
		}
		for _, e := range slice.Endpoints {
			if e.TargetRef != nil && e.TargetRef.UID == pod {
				return true
			}
		}
	}
	return false
}

// syncSlices keeps the slices of one Service.
func (c *Controller) syncSlices(ctx context.Context, w *world, known []*discoveryv1.EndpointSlice, service string, epoch int64, pods []*corev1.Pod) error {
	live, err := c.services.Services(w.cluster.Namespace).Get(service)
	if err != nil {
		return nil //nolint:nilerr // the Service was made a moment ago; its event brings us back
	}
	desired, err := render.EndpointSlices(w.cluster, render.SliceInput{Service: service, Families: children.Families(live), Epoch: epoch, Pods: pods})
	if err != nil {
		return fmt.Errorf("rendering the EndpointSlices of %s: %w", service, err)
	}
	var failures []error
	for _, slice := range desired {
		_, err := c.children.EnsureSlice(ctx, w.cluster, slice, children.FindSlice(known, slice.Name))
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// markPods writes role, vote and epoch on the Pods; the primary's last, so that never two are labelled so.
func (c *Controller) markPods(ctx context.Context, w *world, r route) error {
	if r.epoch == 0 {
		return nil
	}
	var failures []error
	for _, pod := range w.pods {
		if slices.Contains(r.primary, pod) {
			continue
		}
		role := ""
		if slices.Contains(r.replicas, pod) {
			role = v1beta1.RoleLabelReplica
		}
		failures = append(failures, c.markPod(ctx, w, pod, role, r.epoch))
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	for _, pod := range r.primary {
		if err := c.markPod(ctx, w, pod, v1beta1.RoleLabelPrimary, r.epoch); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) markPod(ctx context.Context, w *world, pod *corev1.Pod, role string, epoch int64) error {
	marks := children.Marks{Role: role, Voter: topology.Holds(w.seen.Record, pod.Name), Epoch: epoch}
	_, err := c.children.MarkPod(ctx, w.cluster, pod, marks)
	return err
}
