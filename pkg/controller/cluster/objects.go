// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// syncChildren brings the Kubernetes objects of a cluster to what they should be. One that fails does not keep the
// others. It returns the Pods whose template or options differ from the spec.
func (c *Controller) syncChildren(ctx context.Context, w *world) (pending []string, err error) {
	template, err := c.acceptedPod(ctx, w)
	if err != nil {
		return nil, err
	}
	template = template && w.resolved() // what a Pod has to mount is not known before
	failures := []error{c.syncServices(ctx, w), c.syncPublished(ctx, w), c.syncBudget(ctx, w)}
	for ordinal := range w.ordinals() {
		if !w.needed(ordinal) {
			continue
		}
		if acted, err := c.replaceInstance(ctx, w, ordinal); acted || err != nil {
			failures = append(failures, err)
			continue
		}
		differs, err := c.syncInstance(ctx, w, ordinal, template)
		if differs {
			pending = append(pending, render.PodName(w.cluster, ordinal))
		}
		failures = append(failures, err)
	}
	failures = append(failures, c.syncRouting(ctx, w))
	return pending, errors.Join(failures...)
}

// needed reports whether an ordinal has to have a Pod: it is asked for, it votes, or its volume must be read before
// anything can be decided.
func (w *world) needed(ordinal int32) bool {
	if ordinal < w.cluster.Spec.Replicas {
		return true
	}
	record := w.seen.Record
	return w.claims[ordinal] != nil && (record == nil || w.reading || votesByOrdinal(record, ordinal))
}

func votesByOrdinal(record *v1beta1.ReplicationRecord, ordinal int32) bool {
	if record.LastOpened == nil {
		return true
	}
	for _, v := range record.LastOpened.Voters {
		if v.Ordinal == ordinal {
			return true
		}
	}
	return false
}

// acceptedPod renders the Pod of the first instance and has the API server judge it once. It reports false when no Pod
// may be made from the spec; the reason is then in the settings.
func (c *Controller) acceptedPod(ctx context.Context, w *world) (bool, error) {
	pod, err := render.Pod(w.cluster, c.podInput(w, 0))
	var problems render.Problems
	switch {
	case errors.As(err, &problems):
		w.settings.reject("PodTemplateInvalid", problems.Error())
		return false, nil
	case err != nil:
		return false, fmt.Errorf("rendering the Pods: %w", err)
	}
	hash := render.TemplateHash(pod)
	verdict, known := w.memory.dryRuns[hash]
	if !known {
		err := c.children.CheckPodByDryRun(ctx, pod)
		if err != nil && !errors.As(err, &problems) {
			return false, fmt.Errorf("checking the Pods: %w", err)
		}
		if len(w.memory.dryRuns) >= maxVerdicts {
			clear(w.memory.dryRuns)
		}
		if err != nil {
			verdict = problems.Error()
		}
		w.memory.dryRuns[hash] = verdict
	}
	if verdict != "" {
		w.settings.reject("PodTemplateInvalid", verdict)
	}
	return verdict == "", nil
}

// reject makes the spec invalid, unless it is for another reason already.
func (s *settings) reject(reason, message string) {
	if s.problem == nil {
		s.problem = &invalid{reason, message}
	}
}

func (c *Controller) podInput(w *world, ordinal int32) render.PodInput {
	in := render.PodInput{Ordinal: ordinal, Claim: w.claimName(ordinal), AgentImage: c.config.AgentImage, ExporterImage: c.config.ExporterImage, Store: w.restoreClaim(ordinal)}
	if r := w.seen.Record; r != nil && r.LastOpened != nil {
		in.Epoch = r.LastOpened.Epoch
	}
	return in
}

// syncInstance keeps the volume and the Pod of one instance. Only an accepted template makes new Pods.
func (c *Controller) syncInstance(ctx context.Context, w *world, ordinal int32, accepted bool) (differs bool, err error) {
	desired := render.ClaimNamed(w.cluster, ordinal, w.claimName(ordinal))
	claim, err := c.children.EnsureClaim(ctx, w.cluster, desired, w.claims[ordinal])
	if err != nil {
		return false, fmt.Errorf("keeping the volume of %s: %w", render.PodName(w.cluster, ordinal), err)
	}
	if _, err := c.children.GrowClaim(ctx, desired, claim); err != nil {
		return false, fmt.Errorf("growing the volume of %s: %w", render.PodName(w.cluster, ordinal), err)
	}
	if !accepted {
		return false, nil
	}
	rendered, err := render.Pod(w.cluster, c.podInput(w, ordinal))
	if err != nil {
		return false, fmt.Errorf("rendering %s: %w", render.PodName(w.cluster, ordinal), err)
	}
	pod := w.pods[ordinal]
	switch {
	case pod == nil:
		if err := c.children.CheckClaim(ctx, w.cluster, claim.Name); err != nil {
			return false, fmt.Errorf("making %s: %w", rendered.Name, err)
		}
		_, err := c.children.CreatePod(ctx, w.cluster, rendered)
		return false, err
	case pod.DeletionTimestamp == nil && (pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded):
		// Evicted or shut down with its node: it never starts again under this UID.
		return false, c.children.DeletePod(ctx, w.cluster, pod)
	}
	status, _ := c.fleet.report(pod.UID)
	return render.TemplateHash(pod) != render.TemplateHash(rendered) || (status != nil && pendingRestart(status)), nil
}

// ifThere makes an object that was not found nil.
func ifThere[T any](found *T, err error) (*T, error) {
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return found, err
}

// syncServices keeps the three Services.
func (c *Controller) syncServices(ctx context.Context, w *world) error {
	var failures []error
	for _, make := range []func(*v1beta1.MySQLCluster) (*corev1.Service, error){render.HeadlessService, render.PrimaryService, render.ReplicaService} {
		desired, err := make(w.cluster)
		if err != nil {
			return fmt.Errorf("rendering the Services: %w", err)
		}
		observed, err := ifThere(c.services.Services(w.cluster.Namespace).Get(desired.Name))
		if err != nil {
			return fmt.Errorf("reading Service %s: %w", desired.Name, err)
		}
		_, err = c.children.EnsureService(ctx, w.cluster, desired, observed)
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// syncPublished keeps the readable copy of the settings that are in force.
func (c *Controller) syncPublished(ctx context.Context, w *world) error {
	ordinal, status := w.anyAgent()
	if w.settings.options == nil || status == nil {
		return nil
	}
	version, err := mycnf.ParseVersion(status.ImageVersion)
	if err != nil {
		return nil //nolint:nilerr // nothing is in force before mysqld is known
	}
	desired, err := render.ConfigMap(w.cluster, renderOptions(w.cluster, ordinal, version, w.settings.options), w.settings.options)
	if err != nil {
		return fmt.Errorf("rendering the published settings: %w", err)
	}
	observed, err := ifThere(c.configMaps.ConfigMaps(w.cluster.Namespace).Get(desired.Name))
	if err != nil {
		return fmt.Errorf("reading ConfigMap %s: %w", desired.Name, err)
	}
	_, err = c.children.EnsureConfigMap(ctx, w.cluster, desired, observed)
	return err
}

// syncBudget keeps the PodDisruptionBudget at what the voters allow.
func (c *Controller) syncBudget(ctx context.Context, w *world) error {
	voters := 0
	if r := w.seen.Record; r != nil && r.LastOpened != nil {
		voters = len(r.LastOpened.Voters)
	}
	desired, err := render.Budget(w.cluster, voters)
	if err != nil {
		return fmt.Errorf("rendering the PodDisruptionBudget: %w", err)
	}
	observed, err := ifThere(c.budgets.PodDisruptionBudgets(w.cluster.Namespace).Get(render.BudgetName(w.cluster)))
	if err != nil {
		return fmt.Errorf("reading the PodDisruptionBudget: %w", err)
	}
	return c.children.EnsureBudget(ctx, w.cluster, desired, observed)
}

// slicesOf returns the EndpointSlices of the cluster that the cache knows.
func (c *Controller) slicesOf(cluster *v1beta1.MySQLCluster) ([]*discoveryv1.EndpointSlice, error) {
	found, err := c.slices.EndpointSlices(cluster.Namespace).List(labels.SelectorFromSet(labels.Set{v1beta1.LabelCluster: cluster.Name}))
	if err != nil {
		return nil, fmt.Errorf("listing EndpointSlices: %w", err)
	}
	return found, nil
}
