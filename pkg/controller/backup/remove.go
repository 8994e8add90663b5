// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/job"
	"github.com/moco-mysql/moco/pkg/controller/stores"
)

// maxVainDeletions is how often it is tried to delete the remains of a backup that never succeeded. The reason it did not
// may be that the store cannot be reached, and then it would stay for ever; prunes remove what is left.
const maxVainDeletions = 3

func held(backup *v1beta1.MySQLBackup) bool {
	return slices.Contains(backup.Finalizers, v1beta1.FinalizerBackup)
}

// hold keeps the object until what is stored is deleted.
func (c *Controller) hold(ctx context.Context, backup *v1beta1.MySQLBackup) error {
	return c.setFinalizers(ctx, backup, append(slices.Clone(backup.Finalizers), v1beta1.FinalizerBackup))
}

// release lets the object go.
func (c *Controller) release(ctx context.Context, backup *v1beta1.MySQLBackup) error {
	kept := slices.DeleteFunc(slices.Clone(backup.Finalizers), func(f string) bool { return f == v1beta1.FinalizerBackup })
	err := c.setFinalizers(ctx, backup, kept)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// setFinalizers writes the whole list over the version that was read.
func (c *Controller) setFinalizers(ctx context.Context, backup *v1beta1.MySQLBackup, finalizers []string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": backup.UID, "resourceVersion": backup.ResourceVersion, "finalizers": finalizers,
	}})
	if err != nil {
		return fmt.Errorf("encoding the finalizers: %w", err)
	}
	if _, err := c.moco.MocoV1beta1().MySQLBackups(backup.Namespace).Patch(ctx, backup.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("writing the finalizers: %w", err)
	}
	return nil
}

// remove deletes what is stored, then lets the object go.
func (c *Controller) remove(ctx context.Context, backup *v1beta1.MySQLBackup) (time.Duration, error) {
	if !held(backup) {
		return 0, nil
	}
	if backup.Spec.DeletionPolicy == v1beta1.DeletionKeep || backup.Status.ClusterUID == "" {
		return 0, c.release(ctx, backup) // its Jobs go with it
	}
	next := backup.Status.DeepCopy()
	next.Phase, next.Progress = v1beta1.BackupDeleting, nil
	after, err := c.removeStored(ctx, backup, next)
	if next.Phase == "" { // it was let go
		return 0, err
	}
	return after, errors.Join(err, c.publish(ctx, backup, next))
}

// removeStored is a step of a deletion. It empties the phase when the object was let go.
func (c *Controller) removeStored(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus) (time.Duration, error) {
	if stopped, err := c.stop(ctx, backup, next); err != nil || !stopped {
		return waitingInterval, err
	}
	made, err := c.jobs.Of(backup, wire.OperationDelete)
	if err != nil {
		return 0, err
	}
	if len(made) == 0 {
		return c.beginRemoval(ctx, backup, next, 1)
	}
	current := made[len(made)-1]
	for _, earlier := range made[:len(made)-1] {
		if err := c.jobs.Delete(ctx, earlier); err != nil {
			return 0, err
		}
	}
	look, err := c.jobs.Look(ctx, current)
	if err != nil {
		return 0, err
	}
	switch {
	case look.State == job.Ended && look.Result.Succeeded:
		return 0, c.letGo(ctx, backup, next, corev1.EventTypeNormal, "BackupDeleted", "What was stored as "+next.ID+" is deleted.")
	case look.State == job.Ended:
		return c.removeAgain(ctx, backup, next, current, look.Result)
	default:
		text := look.Trouble
		if text == "" {
			text = "Job " + current.Name + " deletes it from the store"
		}
		say(backup, next, "Deleting", text)
		if look.State == job.Waiting {
			return waitingInterval, c.jobs.Feed(ctx, current, func() (*wire.JobInput, error) { return c.removalInput(ctx, backup) })
		}
		return waitingInterval, nil
	}
}

// stop deletes the Jobs that make the backup, and reports whether their last Pod is gone: it could store more.
func (c *Controller) stop(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus) (bool, error) {
	if err := c.cleanUp(ctx, backup); err != nil {
		return false, err
	}
	made, err := c.jobs.Of(backup, operationOf(backup))
	if err != nil {
		return false, err
	}
	pods, err := c.jobs.Pods(backup, operationOf(backup))
	if err != nil {
		return false, err
	}
	pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
	if len(made) == 0 && len(pods) == 0 {
		return true, nil
	}
	text := "waiting for its Job to stop"
	if len(pods) > 0 {
		text = fmt.Sprintf("waiting for its Pod %s on node %s to stop", pods[0].Name, pods[0].Spec.NodeName)
	}
	say(backup, next, "Stopping", text)
	return false, nil
}

// beginRemoval makes a Job that deletes, or says why it cannot.
func (c *Controller) beginRemoval(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, number int32) (time.Duration, error) {
	unfit, err := c.claimOf(ctx, backup)
	if err != nil {
		return 0, err
	}
	if unfit != nil {
		return 0, c.letGo(ctx, backup, next, corev1.EventTypeWarning, "StoreGone", "The volume that held it is gone: "+unfit.message)
	}
	cluster, err := c.clusters.MySQLClusters(backup.Namespace).Get(backup.Spec.ClusterName)
	if err != nil {
		cluster = nil // only its pull secrets are of use
	}
	spec := &job.Spec{
		Owner: backup, OwnerKind: kind, Name: job.Name(backup.Name, "delete-"+strconv.Itoa(int(number))), Operation: wire.OperationDelete, Number: number,
		Cluster: cluster, AgentImage: c.config.AgentImage, Stores: []*v1beta1.Store{&backup.Spec.Store},
	}
	_, err = c.jobs.Ensure(ctx, spec, func() (*wire.JobInput, error) { return c.removalInput(ctx, backup) })
	closed, wrong := apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), stores.AsProblem(err)
	if wrong != nil {
		// With its namespace a Secret goes before this object does, and no Job is tried then that would tell.
		if closed, err = c.jobs.Closed(ctx, spec); err != nil {
			return 0, err
		}
	}
	var foreign *job.Foreign
	switch {
	case closed:
		// No Job can be made any more, and the namespace must be able to go.
		return 0, c.letGo(ctx, backup, next, corev1.EventTypeWarning, "BackupKept", "The namespace is being deleted; what is stored as "+next.ID+" is left there.")
	case wrong != nil && !succeeded(backup):
		return 0, c.letGo(ctx, backup, next, corev1.EventTypeWarning, "RemainsKept", "No backup was stored; what its attempts left cannot be deleted: "+wrong.Message)
	case wrong != nil:
		say(backup, next, string(wrong.Reason), wrong.Message+"; or set spec.deletionPolicy to Keep, and what is stored is left there")
		return secretInterval, nil //nolint:nilerr // what is wrong is in the status; it is tried again
	case errors.As(err, &foreign):
		say(backup, next, "NameTaken", foreign.Error())
		return waitingInterval, nil
	case err != nil:
		return 0, err
	}
	say(backup, next, "Deleting", "a Job deletes it from the store")
	return waitingInterval, nil
}

// removalInput tells a Job what to delete: what the status says. A copy of the object, from a backup of Kubernetes, has another
// UID than the one under which it was stored.
func (c *Controller) removalInput(ctx context.Context, backup *v1beta1.MySQLBackup) (*wire.JobInput, error) {
	store, err := stores.Convert(ctx, c.secrets, backup.Namespace, "spec.store", &backup.Spec.Store)
	if err != nil {
		return nil, err
	}
	return &wire.JobInput{
		Operation: wire.OperationDelete, Store: store, Backup: backup.Status.ID, Attempt: job.NewAttempt(),
		Cluster: wire.ClusterKey{Namespace: backup.Namespace, Name: backup.Spec.ClusterName, UID: backup.Status.ClusterUID},
	}, nil
}

// removeAgain follows a Job that failed. The failed one stays until the next is made: it tells how many there were.
func (c *Controller) removeAgain(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, failed *batchv1.Job, result wire.JobResult) (time.Duration, error) {
	number := job.Number(failed)
	if !succeeded(backup) && number >= maxVainDeletions {
		return 0, c.letGo(ctx, backup, next, corev1.EventTypeWarning, "RemainsKept", "No backup was stored; what its attempts left cannot be deleted: "+result.Message)
	}
	at := job.FinishedAt(failed)
	if at.IsZero() {
		at = c.now() // its Pod ended, and the Job has not noticed
	}
	if left := at.Add(pause(number)).Sub(c.now()); left > 0 {
		say(backup, next, string(result.Reason), "deleting it from the store failed and is tried again: "+result.Message+"; or set spec.deletionPolicy to Keep, and what is stored is left there")
		return left, nil
	}
	return c.beginRemoval(ctx, backup, next, number+1)
}

// succeeded reports whether the backup was stored whole before it was deleted.
func succeeded(backup *v1beta1.MySQLBackup) bool { return backup.Status.Location != "" }

// letGo says the last word and releases the object.
func (c *Controller) letGo(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, eventType, reason, message string) error {
	if err := c.release(ctx, backup); err != nil {
		return err
	}
	next.Phase = ""
	c.events.Event(backup, eventType, reason, bounded(message))
	return nil
}
