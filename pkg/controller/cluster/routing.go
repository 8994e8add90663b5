// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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

// syncPrimary lets the primary Service follow the record. It is done before all other work on objects: clients wait for
// it.
func (c *Controller) syncPrimary(ctx context.Context, w *world) error {
	known, err := c.slicesOf(w.cluster)
	if err != nil {
		return err
	}
	epoch, pods := w.primaryRoute(known)
	if epoch == 0 {
		return nil
	}
	return c.syncSlices(ctx, w, known, render.PrimaryServiceName(w.cluster), epoch, pods)
}

// syncRouting lets the read Service and the role labels follow the record, and nothing else: that an agent cannot be
// asked changes neither.
func (c *Controller) syncRouting(ctx context.Context, w *world) error {
	known, err := c.slicesOf(w.cluster)
	if err != nil {
		return err
	}
	r := w.route(known)
	failures := []error{
		c.children.RemoveStrangers(ctx, w.cluster, known),
		c.syncSlices(ctx, w, known, render.ReplicaServiceName(w.cluster), r.epoch, r.replicas),
		c.markPods(ctx, w, r),
	}
	return errors.Join(failures...)
}

// primaryRoute computes where the primary Service leads and under which epoch; epoch 0 leaves it as it is. It is changed
// once, when the new primary is open: kube-proxy carries out one change a second, so a Service that first led nowhere would
// come back later. The epoch is the record's, so that nobody who knows an older one brings the old primary back.
func (w *world) primaryRoute(known []*discoveryv1.EndpointSlice) (epoch int64, pods []*corev1.Pod) {
	record := w.seen.Record
	if record == nil || record.LastOpened == nil || record.Primary == nil || record.Primary.Incarnation != record.LastOpened.Primary.Incarnation {
		return 0, nil
	}
	leader := record.LastOpened.Primary
	i := named(&w.seen, leader.Name)
	if i == nil {
		return record.Epoch, nil
	}
	pod := w.pods[i.Ordinal]
	if pod == nil || pod.Status.PodIP == "" || (i.Agent != nil && i.Agent.Incarnation != leader.Incarnation) {
		return record.Epoch, nil
	}
	// A primary that is closed for a moment, or not heard, stays where it is; a new one comes when it is open.
	if routed(known, render.PrimaryServiceName(w.cluster), pod.UID) || isOpen(i) || !w.openedAt().IsZero() {
		return record.Epoch, []*corev1.Pod{pod}
	}
	return 0, nil
}

// openedAt is when the primary of the record carried out the command to open; zero when it did not, or not for this
// controller.
func (w *world) openedAt() time.Time {
	r := w.seen.Record
	if r == nil || r.Primary == nil || r.Phase != v1beta1.RecordOpened {
		return time.Time{}
	}
	at, _ := w.memory.remarks.carriedOut(topology.Action{Kind: topology.Open, Instance: r.Primary.Name, Record: r})
	return at
}

// route computes where the read Service leads, and which Pod is labelled as the primary.
func (w *world) route(known []*discoveryv1.EndpointSlice) route {
	record := w.seen.Record
	if record == nil || record.LastOpened == nil {
		return route{}
	}
	r := route{epoch: record.LastOpened.Epoch}
	_, r.primary = w.primaryRoute(known)
	for n := range w.seen.Instances {
		i := &w.seen.Instances[n]
		pod := w.pods[i.Ordinal]
		if pod == nil || pod.Status.PodIP == "" || i.Name == record.LastOpened.Primary.Name {
			continue
		}
		if w.routable(i, pod, known) {
			r.replicas = append(r.replicas, pod)
		}
	}
	return r
}

// routable reports whether the read Service may lead to a Pod. An agent that is not heard leaves things as they are.
func (w *world) routable(i *topology.Instance, pod *corev1.Pod, known []*discoveryv1.EndpointSlice) bool {
	if i.Agent == nil {
		return routed(known, render.ReplicaServiceName(w.cluster), pod.UID)
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
