// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

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
func say(backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, reason, message string) {
	status := metav1.ConditionFalse
	if next.Phase == v1beta1.BackupSucceeded {
		status = metav1.ConditionTrue
	}
	next.Message = bounded(message)
	apimeta.SetStatusCondition(&next.Conditions, metav1.Condition{
		Type: v1beta1.ConditionComplete, Status: status, Reason: reason, Message: next.Message, ObservedGeneration: backup.Generation,
	})
}

// course are the reasons of condition Complete that tell of the course of things; the others are problems.
var course = map[string]bool{"Prepared": true, "PodStarting": true, "Running": true, "Stored": true, "ClusterNotInitialized": true}

// announce makes events of what changed for a person.
func (c *Controller) announce(backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus) {
	old := &backup.Status
	reason := reasonOf(next)
	switch {
	case old.Phase != next.Phase && next.Phase == v1beta1.BackupSucceeded:
		c.events.Event(backup, corev1.EventTypeNormal, "BackupSucceeded", fmt.Sprintf("%d bytes of %s are stored as %s", next.StoredBytes, backup.Spec.ClusterName, next.ID))
	case old.Phase != next.Phase && next.Phase == v1beta1.BackupFailed:
		c.events.Event(backup, corev1.EventTypeWarning, "BackupFailed", next.Message)
	case noted(old) != noted(next):
		c.events.Event(backup, corev1.EventTypeWarning, "AttemptFailed", next.Message)
	case old.Attempts != next.Attempts:
		c.events.Event(backup, corev1.EventTypeNormal, "AttemptStarted", fmt.Sprintf("Job %s makes attempt %d", next.JobName, next.Attempts))
	case old.Phase != next.Phase && next.Phase == v1beta1.BackupDeleting:
		c.events.Event(backup, corev1.EventTypeNormal, "BackupDeleting", next.Message)
	case reasonOf(old) != reason && !course[reason]:
		c.events.Event(backup, corev1.EventTypeWarning, reason, next.Message)
	}
}

func reasonOf(status *v1beta1.MySQLBackupStatus) string {
	if found := apimeta.FindStatusCondition(status.Conditions, v1beta1.ConditionComplete); found != nil {
		return found.Reason
	}
	return ""
}
