// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/backup"
)

const (
	// annotationCause on a MySQLBackup is why a schedule made it.
	annotationCause = "moco.dev/cause"
	// gapPause is the wait after a backup that was to close a gap and failed, with all its attempts.
	gapPause = 15 * time.Minute
	// maxNames bounds the search for a name that is free.
	maxNames = 10
	// defaultDeadline stands in for spec.startingDeadlineSeconds where it is not set, as its API default does.
	defaultDeadline = time.Hour
)

// make makes what was asked for, what closes a gap, and what is due.
func (c *Controller) make(ctx context.Context, w *world) error {
	return errors.Join(c.makeRequested(ctx, w), c.makeForGap(ctx, w), c.makeDue(ctx, w))
}

// makeRequested carries out annotation backup-now. A backup under way is waited for, whatever the policy: a request is not
// left out.
func (c *Controller) makeRequested(ctx context.Context, w *world) error {
	token := w.schedule.Annotations[v1beta1.AnnotationBackupNow]
	if token == "" || token == w.schedule.Status.LastRequest || len(w.active()) > 0 {
		return nil
	}
	made, err := c.create(ctx, w, w.now, "request="+token)
	if made {
		w.next.LastRequest = token
	}
	return err
}

// gapSince is since when the archive of a cluster lacks transactions; nil when it is whole.
func gapSince(cluster *v1beta1.MySQLCluster) *metav1.Time {
	if cluster == nil || cluster.Status.Archive == nil {
		return nil
	}
	return cluster.Status.Archive.GapSince
}

// makeForGap makes a backup behind a gap of the archive, with which restores can go on. Only a physical one serves.
func (c *Controller) makeForGap(ctx context.Context, w *world) error {
	since := gapSince(w.cluster)
	if since == nil || w.schedule.Spec.Template.Method == v1beta1.Logical {
		return nil
	}
	at := gapDue(w.ofCluster, since.Time)
	switch {
	case at.IsZero() || len(w.active()) > 0:
		return nil
	case at.After(w.now):
		w.wake(at)
		return nil
	}
	_, err := c.create(ctx, w, at, "gap="+at.UTC().Format(time.RFC3339))
	return err
}

// gapDue is when a backup is due that closes a gap; zero when there is one behind it, or on its way.
func gapDue(backups []*v1beta1.MySQLBackup, since time.Time) time.Time {
	due := since
	for _, b := range backups {
		if !physical(b) || b.CreationTimestamp.Time.Before(since.Truncate(time.Second)) {
			continue
		}
		if b.Status.Phase != v1beta1.BackupFailed && b.DeletionTimestamp == nil {
			return time.Time{}
		}
		if again := completedAt(b).Add(gapPause); b.Status.Phase == v1beta1.BackupFailed && again.After(due) {
			due = again
		}
	}
	return due
}

// makeDue makes the backup that is due, if it is not too late. Of several that were missed it is the newest.
func (c *Controller) makeDue(ctx context.Context, w *world) error {
	if w.invalid != nil {
		return nil //nolint:nilerr // condition Scheduling tells it
	}
	due := w.cron.Due(lastTime(w.schedule.Status.LastScheduleTime, w.schedule), w.now)
	if due.IsZero() {
		return nil
	}
	deadline := defaultDeadline
	if s := w.schedule.Spec.StartingDeadlineSeconds; s > 0 {
		deadline = time.Duration(s) * time.Second
	}
	if w.now.Sub(due) > deadline {
		c.events.Event(w.schedule, corev1.EventTypeWarning, "BackupMissed", fmt.Sprintf("The backup of %s was not begun within %s.", due.Format(time.RFC3339), deadline))
		w.next.LastScheduleTime = new(metav1.NewTime(due))
		return nil
	}
	cause := "schedule=" + due.UTC().Format(time.RFC3339)
	if w.schedule.Spec.ConcurrencyPolicy == v1beta1.ReplaceConcurrent {
		for _, b := range w.active() {
			if b.Annotations[annotationCause] == cause {
				continue // it was made a moment ago, and the cache has not seen yet that this is noted
			}
			if err := c.delete(ctx, b, "it is replaced by the one that is due now"); err != nil {
				return err
			}
		}
	}
	made, err := c.create(ctx, w, due, cause)
	if err != nil {
		return err
	}
	if !made {
		c.events.Event(w.schedule, corev1.EventTypeWarning, "BackupSkipped", fmt.Sprintf("The backup of %s is left out, because %s is still under way.", due.Format(time.RFC3339), w.next.Active))
	}
	w.next.LastScheduleTime = new(metav1.NewTime(due))
	return nil
}

// lastTime is a time in a status, or since when the object exists.
func lastTime(t *metav1.Time, o metav1.Object) time.Time {
	if t == nil {
		return o.GetCreationTimestamp().Time
	}
	return t.Time
}

// nameAt is the name of the backup that a schedule makes for a time.
func nameAt(s *v1beta1.MySQLBackupSchedule, at time.Time) string {
	return s.Name + "-" + at.UTC().Format("20060102150405")
}

// create makes the backup of a cause, unless it exists, and reports whether it does now: it does not while another is under
// way. The cache may be behind, so the API server is asked.
func (c *Controller) create(ctx context.Context, w *world, at time.Time, cause string) (bool, error) {
	client := c.moco.MocoV1beta1().MySQLBackups(w.schedule.Namespace)
	own := labels.SelectorFromSet(labels.Set{v1beta1.LabelSchedule: w.schedule.Name})
	live, err := client.List(ctx, metav1.ListOptions{LabelSelector: own.String()})
	if err != nil {
		return false, fmt.Errorf("listing MySQLBackups: %w", err)
	}
	var busy bool
	for n := range live.Items {
		b := &live.Items[n]
		if b.Annotations[annotationCause] == cause {
			w.made(b.Name)
			return true, nil
		}
		if !backup.Done(b) && b.DeletionTimestamp == nil {
			busy = true
			w.made(b.Name)
		}
	}
	if busy {
		return false, nil
	}
	for n := range maxNames {
		made := &v1beta1.MySQLBackup{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: w.schedule.Namespace, Name: nameAt(w.schedule, at.Add(time.Duration(n)*time.Second)),
				Labels:      map[string]string{v1beta1.LabelSchedule: w.schedule.Name, v1beta1.LabelCluster: w.schedule.Spec.ClusterName},
				Annotations: map[string]string{annotationCause: cause},
			},
			Spec: v1beta1.MySQLBackupSpec{ClusterName: w.schedule.Spec.ClusterName, BackupTemplate: *w.schedule.Spec.Template.DeepCopy()},
		}
		_, err = client.Create(ctx, made, metav1.CreateOptions{FieldManager: "moco-controller"})
		if apierrors.IsAlreadyExists(err) {
			continue // made in the same second for another cause
		}
		if apierrors.IsInvalid(err) {
			w.refused = err.Error()
		}
		if err != nil {
			return false, fmt.Errorf("creating MySQLBackup %s: %w", made.Name, err)
		}
		klog.FromContext(ctx).V(2).Info("Created", "kind", "MySQLBackup", "object", klog.KObj(made), "reason", cause)
		c.events.Event(w.schedule, corev1.EventTypeNormal, "BackupMade", "Made MySQLBackup "+made.Name+" ("+cause+").")
		w.made(made.Name)
		return true, nil
	}
	return false, fmt.Errorf("creating a MySQLBackup for %s: %w", cause, err)
}

// made notes a backup that the cache may not have yet.
func (w *world) made(name string) {
	w.next.Active = name
	w.next.LastBackup = max(w.next.LastBackup, name)
}

// delete deletes a backup; its own controller deletes what is stored.
func (c *Controller) delete(ctx context.Context, b *v1beta1.MySQLBackup, why string) error {
	err := c.moco.MocoV1beta1().MySQLBackups(b.Namespace).Delete(ctx, b.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &b.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting MySQLBackup %s: %w", b.Name, err)
	}
	klog.FromContext(ctx).V(2).Info("Deleted", "kind", "MySQLBackup", "object", klog.KObj(b), "reason", why)
	return nil
}

// retain deletes what retention gives up, and has the archive pruned then.
func (c *Controller) retain(ctx context.Context, w *world) error {
	var failed []error
	for _, b := range Expired(&w.schedule.Spec, w.own, w.now) {
		if err := c.delete(ctx, b, "retention"); err != nil {
			failed = append(failed, err)
			continue
		}
		c.events.Event(w.schedule, corev1.EventTypeNormal, "BackupExpired", "Deleted MySQLBackup "+b.Name+", as spec.retention and spec.failedHistoryLimit say.")
		if b.Status.Phase == v1beta1.BackupSucceeded {
			w.next.LastPruneTime = nil
		}
	}
	return errors.Join(failed...)
}

// summarise tells how the backups are.
func (w *world) summarise() {
	w.next.Active = ""
	for _, b := range w.own {
		w.next.LastBackup = max(w.next.LastBackup, b.Name)
		if !backup.Done(b) && b.DeletionTimestamp == nil {
			w.next.Active = max(w.next.Active, b.Name)
		}
	}
	if done := newestFirst(w.own, v1beta1.BackupSucceeded); len(done) > 0 {
		w.next.LastSuccessfulTime = new(metav1.NewTime(completedAt(done[0])))
	}
	w.next.NextScheduleTime = nil
	if w.invalid == nil && !w.schedule.Spec.Suspend {
		if next := w.cron.Next(w.now); !next.IsZero() {
			w.next.NextScheduleTime = new(metav1.NewTime(next))
			w.wake(next)
		}
	}
}
