// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/topology"
)

// positionInterval is how often positions and lag are written to the status; they would change it all the time.
const positionInterval = 30 * time.Second

// outcome is what a sync came to, for the status.
type outcome struct {
	decision topology.Decision
	// objects is why the Kubernetes objects are not as they should be, or nil.
	objects error
	// pendingPods names Pods that differ from the template or from their options.
	pendingPods []string
}

// publish writes the status if it differs from what is there; at most one write per sync.
func (c *Controller) publish(ctx context.Context, w *world, out outcome) error {
	next := c.nextStatus(w, out)
	w.memory.publishedAt = c.now()
	if reflect.DeepEqual(w.cluster.Status, *next) {
		return nil
	}
	updated := w.cluster.DeepCopy()
	updated.Status = *next
	if _, err := c.moco.MocoV1beta1().MySQLClusters(updated.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	c.announce(w, next)
	return nil
}

// nextStatus computes the status. It leaves the record as it was read: that has a writer of its own.
func (c *Controller) nextStatus(w *world, out outcome) *v1beta1.MySQLClusterStatus {
	old := &w.cluster.Status
	next := old.DeepCopy()
	next.ObservedGeneration = w.cluster.Generation
	next.Selector = render.PodSelector(w.cluster).String()
	next.Endpoints = &v1beta1.Endpoints{
		Primary:  fmt.Sprintf("%s:%d", render.ServiceHost(w.cluster, render.PrimaryServiceName(w.cluster)), render.MySQLPort),
		Replicas: fmt.Sprintf("%s:%d", render.ServiceHost(w.cluster, render.ReplicaServiceName(w.cluster)), render.MySQLPort),
	}
	decision := w.memory.decided(out.decision, c.now())
	if old.Decision != nil && old.Decision.Rule == decision.Rule && old.Decision.Reason == decision.Reason && old.Decision.WaitingFor == decision.WaitingFor {
		decision.Since = old.Decision.Since
	}
	next.Decision = &decision
	next.Requests, next.LastRequest = w.requests()
	next.LastTransition = w.lastTransition()
	next.Instances, next.Archive = c.instanceStatuses(w), c.archiveStatus(w)
	c.summarise(w, next)
	c.conditions(w, next, out)
	c.setArchiving(w, next)
	next.Phase = phaseOf(w, next)
	return next
}

// summarise counts.
func (c *Controller) summarise(w *world, next *v1beta1.MySQLClusterStatus) {
	next.Replicas, next.ReadyReplicas, next.Primary = int32(len(w.pods)), 0, ""
	for _, i := range next.Instances {
		if i.State == v1beta1.StateServing {
			next.ReadyReplicas++
		}
	}
	if r := w.seen.Record; r != nil && r.LastOpened != nil && r.Primary != nil {
		next.Primary = r.Primary.Name
	}
	next.Ready = fmt.Sprintf("%d/%d", next.ReadyReplicas, w.cluster.Spec.Replicas)
}

// conditions sets all conditions.
func (c *Controller) conditions(w *world, next *v1beta1.MySQLClusterStatus, out outcome) {
	set := func(kind string, ok bool, reason, message string) {
		status := metav1.ConditionFalse
		if ok {
			status = metav1.ConditionTrue
		}
		apimeta.SetStatusCondition(&next.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: bounded(message), ObservedGeneration: w.cluster.Generation,
		})
	}
	opened := w.seen.Record != nil && w.seen.Record.LastOpened != nil
	if opened || !apimeta.IsStatusConditionTrue(next.Conditions, v1beta1.ConditionInitialized) {
		set(v1beta1.ConditionInitialized, opened, pick(opened, "Opened", w.notOpenedReason()), pick(opened, "the first epoch was opened", cmp.Or(w.refused, "no epoch was opened yet")))
	}
	writable := primaryServes(next)
	set(v1beta1.ConditionAvailable, writable, pick(writable, "PrimaryServes", c.availableReason(w)), pick(writable, next.Primary+" takes writes", out.decision.Reason+waiting(out.decision)))
	problem := w.settings.problem
	switch {
	case problem != nil:
		set(v1beta1.ConditionValid, false, problem.reason, problem.message)
	case w.settings.asking:
		// Nobody could be asked yet: neither valid nor invalid.
		apimeta.SetStatusCondition(&next.Conditions, metav1.Condition{
			Type: v1beta1.ConditionValid, Status: metav1.ConditionUnknown, Reason: "NotAskedYet", ObservedGeneration: w.cluster.Generation,
			Message: "the options are checked by the first mysqld that runs",
		})
	default:
		set(v1beta1.ConditionValid, true, "Accepted", "the spec can be carried out")
	}
	set(v1beta1.ConditionReconciled, out.objects == nil, reconciledReason(out.objects), reconciledMessage(out.objects))
	pending := len(out.pendingPods) > 0
	set(v1beta1.ConditionUpdatePending, pending, pick(pending, "WaitingForRestart", "UpToDate"),
		pick(pending, "the spec differs from what runs; it takes effect when these Pods are deleted, replicas first: "+strings.Join(out.pendingPods, ", "), "every instance runs as specified"))
	possible, why := topology.FailoverPossible(desired(w), w.seen)
	set(v1beta1.ConditionFailoverPossible, possible, pick(possible, "QuorumAnswers", failoverReason(w)), pick(possible, "another instance could take over from the primary now", why))
	healthy := writable && next.ReadyReplicas == w.cluster.Spec.Replicas && problem == nil && out.objects == nil && allVote(w, next)
	set(v1beta1.ConditionHealthy, healthy, pick(healthy, "AsSpecified", healthReason(w, next, out)), pick(healthy, next.Ready+" instances serve", healthMessage(w, next, out)))
}

// allVote reports whether the opened configuration is the one asked for and nothing is pending.
func allVote(w *world, next *v1beta1.MySQLClusterStatus) bool {
	r := w.seen.Record
	return r != nil && r.Phase == v1beta1.RecordOpened && int32(len(r.LastOpened.Voters)) == w.cluster.Spec.Replicas && len(next.Instances) > 0
}

func primaryServes(s *v1beta1.MySQLClusterStatus) bool {
	for _, i := range s.Instances {
		if i.Role == v1beta1.RolePrimary && i.State == v1beta1.StateServing {
			return true
		}
	}
	return false
}

// startPatience is how long a Pod may take to be scheduled and pulled before that is worth an event: until its volume is
// bound every Pod is unschedulable for a moment.
const startPatience = 10 * time.Second

// reasonPrimaryNotOpen of condition Available.
const reasonPrimaryNotOpen = "PrimaryNotOpen"

func (c *Controller) availableReason(w *world) string {
	if w.seen.Record == nil || w.seen.Record.LastOpened == nil {
		for ordinal, pod := range w.pods {
			if c.now().Sub(pod.CreationTimestamp.Time) < startPatience {
				continue
			}
			// The reason changes, so there is an event that says why.
			if trouble := w.trouble(ordinal); trouble != "" && trouble != podStarting {
				return "PodNotStarted"
			}
		}
		return "NotOpenedYet"
	}
	return reasonPrimaryNotOpen
}

// failoverReason is why no failover is possible, in one word.
func failoverReason(w *world) string {
	r := w.seen.Record
	switch {
	case w.cluster.Spec.Replicas == 1:
		return "SingleInstance"
	case r == nil || r.LastOpened == nil:
		return "NotOpenedYet"
	case len(r.LastOpened.Voters) == 1:
		return "SingleVoter"
	default:
		return "QuorumMissing"
	}
}

func healthReason(w *world, next *v1beta1.MySQLClusterStatus, out outcome) string {
	switch {
	case w.settings.problem != nil:
		return "SpecInvalid"
	case out.objects != nil:
		return "NotReconciled"
	case !primaryServes(next):
		return "NotAvailable"
	default:
		return "InstancesMissing"
	}
}

func healthMessage(w *world, next *v1beta1.MySQLClusterStatus, out outcome) string {
	if w.settings.problem != nil {
		return w.settings.problem.message
	}
	return next.Ready + " instances serve; " + out.decision.Reason + waiting(out.decision)
}

func waiting(d topology.Decision) string {
	if d.WaitingFor == "" {
		return ""
	}
	return "; waiting for " + d.WaitingFor
}

// phaseOf is the state of the cluster in one word.
func phaseOf(w *world, s *v1beta1.MySQLClusterStatus) v1beta1.ClusterPhase {
	initialized := apimeta.IsStatusConditionTrue(s.Conditions, v1beta1.ConditionInitialized)
	switch {
	case apimeta.IsStatusConditionTrue(s.Conditions, v1beta1.ConditionHealthy):
		return v1beta1.PhaseHealthy
	case primaryServes(s) && w.seen.Record.LastOpened != nil && int32(len(w.seen.Record.LastOpened.Voters)) < w.cluster.Spec.Replicas:
		return v1beta1.PhaseScaling
	case primaryServes(s):
		return v1beta1.PhaseDegraded
	case !initialized && w.settings.problem != nil:
		return v1beta1.PhaseInvalid
	case !initialized && w.seen.Record != nil:
		return v1beta1.PhaseInitializing
	case !initialized:
		return v1beta1.PhasePending
	case recovering(s):
		return v1beta1.PhaseRecovering
	default:
		return v1beta1.PhaseUnavailable
	}
}

// recovering reports whether a primary that serves is on its way.
func recovering(s *v1beta1.MySQLClusterStatus) bool {
	return s.Decision != nil && leadsToServing(topology.Rule(s.Decision.Rule))
}

func reconciledReason(err error) string {
	if err == nil {
		return "AsRendered"
	}
	return "ObjectsDiffer"
}

func reconciledMessage(err error) string {
	if err == nil {
		return "all objects are as they should be"
	}
	return err.Error()
}

// announce makes events of what changed for a person.
func (c *Controller) announce(w *world, next *v1beta1.MySQLClusterStatus) {
	for _, condition := range next.Conditions {
		before := apimeta.FindStatusCondition(w.cluster.Status.Conditions, condition.Type)
		if before != nil && before.Status == condition.Status && before.Reason == condition.Reason {
			continue
		}
		if before == nil && condition.Status != metav1.ConditionTrue && condition.Type != v1beta1.ConditionValid && condition.Type != v1beta1.ConditionArchiving {
			continue // a new cluster lacks everything; that is no news
		}
		kind := corev1.EventTypeNormal
		if condition.Status == metav1.ConditionFalse && condition.Type != v1beta1.ConditionUpdatePending {
			kind = corev1.EventTypeWarning
		}
		if condition.Status == metav1.ConditionUnknown || (kind == corev1.EventTypeWarning && duringStart(w.cluster, condition)) {
			continue
		}
		c.events.Event(w.cluster, kind, condition.Type+condition.Reason, sentence(condition.Message))
	}
}

// duringStart reports whether a condition is False only because a new cluster has not been opened for the first time.
func duringStart(cluster *v1beta1.MySQLCluster, condition metav1.Condition) bool {
	if apimeta.IsStatusConditionTrue(cluster.Status.Conditions, v1beta1.ConditionInitialized) {
		return false
	}
	switch condition.Type {
	case v1beta1.ConditionFailoverPossible:
		return true
	case v1beta1.ConditionAvailable:
		return condition.Reason == reasonPrimaryNotOpen
	case v1beta1.ConditionHealthy:
		return condition.Reason == "NotAvailable" || condition.Reason == "InstancesMissing"
	default:
		return false
	}
}

// maxMessage bounds a condition's message; the API allows 32768 bytes, a person reads less.
const maxMessage = 2048

func bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return message[:maxMessage] + " …"
}

// sentence makes a message of an event from a reason: first letter large, unless it begins with the name of a Pod, and
// bounded as events are.
func sentence(text string) string {
	first, _, _ := strings.Cut(text, " ")
	if first == "" || strings.ContainsAny(first, "-_.0123456789") {
		return bounded(text)
	}
	return bounded(strings.ToUpper(text[:1]) + text[1:])
}

func pick(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}
