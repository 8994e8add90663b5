// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/backup"
	"github.com/moco-mysql/moco/pkg/controller/job"
	"github.com/moco-mysql/moco/pkg/controller/stores"
)

const (
	pruneInterval = 24 * time.Hour
	// pruneAgain is the wait after a prune that failed.
	pruneAgain = time.Hour
)

// prune deletes from the stores, once a day and after backups expired, what no backup needs.
func (c *Controller) prune(ctx context.Context, w *world) error {
	made, err := c.jobs.Of(w.schedule, wire.OperationPrune)
	if err != nil {
		return err
	}
	for n, j := range made {
		if n < len(made)-1 {
			err = errors.Join(err, c.jobs.Delete(ctx, j))
		}
	}
	if err != nil || len(made) == 0 {
		return errors.Join(err, c.beginPrune(ctx, w))
	}
	return c.attendPrune(ctx, w, made[len(made)-1])
}

// deletionPatience is how long a deletion is waited for before a prune: it may need a person.
const deletionPatience = 10 * time.Minute

// pruneDue reports whether there is anything to prune now. A backup of the cluster that runs or is being deleted is waited
// for: its end changes what is needed.
func (w *world) pruneDue() bool {
	if w.cluster == nil || w.schedule.Spec.Suspend || w.next.LastSuccessfulTime == nil {
		return false
	}
	if last := w.next.LastPruneTime; last != nil && w.now.Before(last.Add(pruneInterval)) {
		w.wake(last.Add(pruneInterval))
		return false
	}
	for _, b := range w.ofCluster {
		if b.Status.Phase == v1beta1.BackupRunning || (b.DeletionTimestamp != nil && w.now.Before(b.DeletionTimestamp.Add(deletionPatience))) {
			w.wake(w.now.Add(time.Minute)) // should it be another schedule's, whose news does not come here
			return false
		}
	}
	return true
}

// beginPrune makes the Job.
func (c *Controller) beginPrune(ctx context.Context, w *world) error {
	if !w.pruneDue() {
		return nil
	}
	used := []*v1beta1.Store{&w.schedule.Spec.Template.Store}
	_, err := c.jobs.Ensure(ctx, &job.Spec{
		Owner: w.schedule, OwnerKind: kind, Name: job.Name(w.schedule.Name, fmt.Sprintf("prune-%d", w.now.Unix())), Operation: wire.OperationPrune,
		Number: 1, Cluster: w.cluster, AgentImage: c.config.AgentImage, Stores: used,
	}, func() (*wire.JobInput, error) { return c.pruneInput(ctx, w) })
	if wrong := stores.AsProblem(err); wrong != nil {
		c.events.Event(w.schedule, corev1.EventTypeWarning, "PruneBlocked", wrong.Message)
		w.wake(w.now.Add(resyncMost))
		return nil //nolint:nilerr // it is told, and tried again
	}
	w.wake(w.now.Add(lookInterval))
	return err
}

// pruneInput tells a Job what must stay.
func (c *Controller) pruneInput(ctx context.Context, w *world) (*wire.JobInput, error) {
	all, err := c.schedules.MySQLBackupSchedules(w.schedule.Namespace).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing MySQLBackupSchedules: %w", err)
	}
	in := &wire.JobInput{
		Operation: wire.OperationPrune, Cluster: backup.KeyOf(w.cluster), Attempt: job.NewAttempt(), KeepAfter: KeepAfter(w.schedule, all, w.ofCluster, w.now),
	}
	if in.Store, err = stores.Convert(ctx, c.secrets, w.schedule.Namespace, "spec.template.store", &w.schedule.Spec.Template.Store); err != nil {
		return nil, err
	}
	if archive := archiveOf(w.cluster); archive != nil {
		store, err := stores.Convert(ctx, c.secrets, w.cluster.Namespace, "MySQLCluster spec.backup.archive.store", &archive.Store)
		if err != nil {
			return nil, err
		}
		in.Archive = &store
	}
	return in, nil
}

// attendPrune notes the end of a prune; the Job of one that failed stays until it is tried again.
func (c *Controller) attendPrune(ctx context.Context, w *world, current *batchv1.Job) error {
	look, err := c.jobs.Look(ctx, current)
	if err != nil {
		return err
	}
	w.wake(w.now.Add(lookInterval))
	switch {
	case look.State == job.Waiting:
		if w.cluster == nil {
			return c.jobs.Delete(ctx, current)
		}
		return c.jobs.Feed(ctx, current, func() (*wire.JobInput, error) { return c.pruneInput(ctx, w) })
	case look.State == job.Running:
		return nil
	case look.Result.Succeeded:
		w.next.LastPruneTime = new(metav1.NewTime(w.now))
		return c.jobs.Delete(ctx, current) // should the status not be written, it is pruned once more
	}
	at := job.FinishedAt(current)
	if at.IsZero() {
		return nil // the Job has not noticed yet
	}
	if at = at.Add(pruneAgain); at.After(w.now) {
		w.wake(at)
		return nil
	}
	c.events.Event(w.schedule, corev1.EventTypeWarning, "PruneFailed", bounded("Pruning the stores failed and is tried again: "+look.Result.Message))
	return c.jobs.Delete(ctx, current)
}
