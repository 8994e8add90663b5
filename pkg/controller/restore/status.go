// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"fmt"
	"strings"

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

// say writes a message, and condition Complete with it. The condition is True only in phase Succeeded.
func say(restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, reason, message string) {
	status := metav1.ConditionFalse
	if next.Phase == v1beta1.RestoreSucceeded {
		status = metav1.ConditionTrue
	}
	next.Message = bounded(message)
	apimeta.SetStatusCondition(&next.Conditions, metav1.Condition{
		Type: v1beta1.ConditionComplete, Status: status, Reason: reason, Message: next.Message, ObservedGeneration: restore.Generation,
	})
}

// course are the reasons of condition Complete that tell of the course of things; the others are problems.
var course = map[string]bool{"Prepared": true, "PodStarting": true, "Running": true, "Restored": true, "ClusterNotAvailable": true}

// announce makes events of what changed for a person.
func (c *Controller) announce(restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus) {
	old := &restore.Status
	reason := reasonOf(next)
	switch {
	case old.Phase != next.Phase && next.Phase == v1beta1.RestoreSucceeded:
		c.events.Event(restore, corev1.EventTypeNormal, "RestoreSucceeded", next.Message)
	case old.Phase != next.Phase && next.Phase == v1beta1.RestoreFailed:
		c.events.Event(restore, corev1.EventTypeWarning, "RestoreFailed", next.Message)
	case noted(old) != noted(next):
		c.events.Event(restore, corev1.EventTypeWarning, "AttemptFailed", next.Message)
	case old.Attempts != next.Attempts:
		c.events.Event(restore, corev1.EventTypeNormal, "AttemptStarted", fmt.Sprintf("Job %s makes attempt %d", next.JobName, next.Attempts))
	case reasonOf(old) != reason && !course[reason]:
		c.events.Event(restore, corev1.EventTypeWarning, reason, next.Message)
	}
}

func reasonOf(status *v1beta1.MySQLRestoreStatus) string {
	if found := apimeta.FindStatusCondition(status.Conditions, v1beta1.ConditionComplete); found != nil {
		return found.Reason
	}
	return ""
}
