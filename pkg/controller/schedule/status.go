// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// maxMessage bounds what is told; the API allows more, a person reads less.
const maxMessage = 2048

func bounded(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + " …"
}

// defaultStale stands in for spec.verify.staleAfterHours where it is not set, as its API default does.
const defaultStale = 192 * time.Hour

// conditions sets both.
func (c *Controller) conditions(w *world) {
	status, reason, message := w.scheduling()
	w.set(v1beta1.ConditionScheduling, status, reason, message)
	if w.schedule.Spec.Verify == nil {
		apimeta.RemoveStatusCondition(&w.next.Conditions, v1beta1.ConditionVerified)
		return
	}
	status, reason, message = w.verified()
	if w.trouble != "" {
		message += "; the trial that is due waits: " + w.trouble
	}
	w.set(v1beta1.ConditionVerified, status, reason, message)
}

func (w *world) set(kind string, status metav1.ConditionStatus, reason, message string) {
	apimeta.SetStatusCondition(&w.next.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: bounded(message), ObservedGeneration: w.schedule.Generation,
	})
}

// scheduling is condition Scheduling.
func (w *world) scheduling() (status metav1.ConditionStatus, reason, message string) {
	name := w.schedule.Spec.ClusterName
	switch {
	case w.invalid != nil:
		return metav1.ConditionFalse, "ScheduleInvalid", "spec.schedule and spec.timeZone: " + w.invalid.Error()
	case w.schedule.Spec.Suspend:
		return metav1.ConditionFalse, "Suspended", "spec.suspend is set: no backups are made, and none is deleted"
	case w.cluster == nil || w.cluster.DeletionTimestamp != nil:
		return metav1.ConditionFalse, "ClusterNotFound", fmt.Sprintf("spec.clusterName: MySQLCluster %q does not exist in namespace %s", name, w.schedule.Namespace)
	case w.refused != "":
		return metav1.ConditionFalse, "TemplateRefused", "spec.template: the API server refuses backups made from it: " + w.refused
	case w.next.NextScheduleTime == nil:
		return metav1.ConditionFalse, "NeverDue", fmt.Sprintf("spec.schedule: %q is due at no time within five years", w.schedule.Spec.Schedule)
	}
	return metav1.ConditionTrue, "Scheduled", "backups are made when they are due; status.nextScheduleTime says when"
}

// verified is condition Verified. A failed trial makes it False at once, the want of a successful one after a while.
func (w *world) verified() (status metav1.ConditionStatus, reason, message string) {
	verify := w.schedule.Spec.Verify
	if _, err := Parse(verify.Schedule, w.schedule.Spec.TimeZone); err != nil {
		return metav1.ConditionFalse, "ScheduleInvalid", "spec.verify.schedule: " + err.Error()
	}
	if w.schedule.Spec.Template.Method == v1beta1.Logical {
		return metav1.ConditionFalse, "NotPhysical", "only physical backups can be restored for trial; remove spec.verify or use method Physical"
	}
	stale := defaultStale
	if verify.StaleAfterHours > 0 {
		stale = time.Duration(verify.StaleAfterHours) * time.Hour
	}
	last := w.next.LastVerified
	since := w.schedule.CreationTimestamp.Time
	if last != nil {
		since = last.At.Time
	}
	switch {
	case last != nil && !last.Succeeded:
		return metav1.ConditionFalse, "TrialFailed", fmt.Sprintf("the trial of %s at %s failed: %s", last.Backup, last.At.UTC().Format(time.RFC3339), last.Message)
	case w.now.Sub(since) > stale:
		return metav1.ConditionFalse, "Stale", fmt.Sprintf("there was no successful trial since %s", since.UTC().Format(time.RFC3339))
	case last == nil:
		w.wake(since.Add(stale + time.Second))
		return metav1.ConditionUnknown, "NotTriedYet", "no backup was restored for trial yet"
	default:
		w.wake(since.Add(stale + time.Second))
		return metav1.ConditionTrue, "TrialSucceeded", fmt.Sprintf("%s was restored for trial at %s", last.Backup, last.At.UTC().Format(time.RFC3339))
	}
}

// announce makes events of conditions that changed.
func (c *Controller) announce(w *world) {
	for _, condition := range w.next.Conditions {
		before := apimeta.FindStatusCondition(w.schedule.Status.Conditions, condition.Type)
		if before != nil && before.Status == condition.Status && before.Reason == condition.Reason {
			continue
		}
		if condition.Status != metav1.ConditionFalse || condition.Reason == "TrialFailed" { // that has an event of its own
			continue
		}
		eventType := corev1.EventTypeWarning
		if condition.Reason == "Suspended" {
			eventType = corev1.EventTypeNormal
		}
		c.events.Event(w.schedule, eventType, condition.Type+condition.Reason, condition.Message)
	}
}
