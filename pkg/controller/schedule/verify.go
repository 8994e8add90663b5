// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/backup"
	"github.com/moco-mysql/moco/pkg/controller/job"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/controller/stores"
)

const (
	// maxTrials is how often a trial is begun that ends without a verdict.
	maxTrials = 3
	// trialPause is the wait between two of them, and after a problem that a user has to mend.
	trialPause = time.Minute
	// lookInterval is how often a Job that is under way is looked at, should its news be lost.
	lookInterval = 15 * time.Second
)

// verify attends the trial under way, or begins the one that is due.
func (c *Controller) verify(ctx context.Context, w *world) error {
	made, err := c.jobs.Of(w.schedule, wire.OperationVerify)
	if err != nil {
		return err
	}
	var current *batchv1.Job
	for n, j := range made {
		noted := w.schedule.Status.LastVerified != nil && w.schedule.Status.LastVerified.JobName == j.Name
		if !noted && w.schedule.Spec.Verify != nil && n == len(made)-1 {
			current = j
			continue
		}
		if err := c.jobs.Delete(ctx, j); err != nil {
			return err
		}
	}
	switch {
	case w.schedule.Spec.Verify == nil:
		w.next.LastVerified, w.next.LastVerifyTime = nil, nil
		return nil
	case current != nil:
		return c.attendTrial(ctx, w, current)
	case w.schedule.Spec.Suspend:
		return nil
	default:
		return c.beginTrial(ctx, w)
	}
}

// trial is which backup a Job tries, and when that was due. It is the subject of the Job.
type trial struct {
	backup string
	due    time.Time
}

func (t trial) String() string { return t.backup + "@" + strconv.FormatInt(t.due.Unix(), 10) }

// trialOf reads the subject of a Job.
func trialOf(made *batchv1.Job) trial {
	name, due, _ := strings.Cut(job.Subject(made), "@")
	seconds, err := strconv.ParseInt(due, 10, 64)
	if err != nil {
		return trial{backup: name, due: made.CreationTimestamp.Time}
	}
	return trial{backup: name, due: time.Unix(seconds, 0)}
}

// beginTrial makes the Job of the trial that is due. Of several that were missed it is the newest; none is too late.
func (c *Controller) beginTrial(ctx context.Context, w *world) error {
	cron, err := Parse(w.schedule.Spec.Verify.Schedule, w.schedule.Spec.TimeZone)
	if err != nil {
		return nil //nolint:nilerr // condition Verified tells it
	}
	due := cron.Due(lastTime(w.schedule.Status.LastVerifyTime, w.schedule), w.now)
	w.wake(cron.Next(w.now))
	subject := w.newest()
	if due.IsZero() || subject == nil {
		return nil // without a backup it stays due
	}
	return c.startTrial(ctx, w, trial{subject.Name, due}, 1)
}

// newest is the backup to try: the newest successful physical one.
func (w *world) newest() *v1beta1.MySQLBackup {
	for _, b := range newestFirst(w.own, v1beta1.BackupSucceeded) {
		if physical(b) {
			return b
		}
	}
	return nil
}

func (w *world) find(name string) *v1beta1.MySQLBackup {
	for _, b := range w.own {
		if b.Name == name {
			return b
		}
	}
	return nil
}

// startTrial makes a Job. What a user has to mend is looked at again later; condition Verified tells it when it grows stale.
func (c *Controller) startTrial(ctx context.Context, w *world, t trial, number int32) error {
	subject := w.find(t.backup)
	if subject == nil || subject.DeletionTimestamp != nil {
		w.next.LastVerifyTime = new(metav1.NewTime(t.due))
		return nil // the next trial is of a backup that exists
	}
	if w.cluster == nil {
		c.blocked(w, fmt.Sprintf("MySQLCluster %q does not exist, whose image a trial needs", w.schedule.Spec.ClusterName))
		return nil
	}
	_, err := c.jobs.Ensure(ctx, &job.Spec{
		Owner: w.schedule, OwnerKind: kind, Name: job.Name(w.schedule.Name, fmt.Sprintf("verify-%d-%d", t.due.Unix(), number)),
		Operation: wire.OperationVerify, Number: number, Subject: t.String(), Cluster: w.cluster, AgentImage: c.config.AgentImage,
		Stores: []*v1beta1.Store{&subject.Spec.Store}, Work: w.schedule.Spec.Template.WorkVolume, Resources: w.schedule.Spec.Template.Resources,
	}, func() (*wire.JobInput, error) { return c.trialInput(ctx, w, subject) })
	if wrong := stores.AsProblem(err); wrong != nil {
		c.blocked(w, wrong.Message)
		return nil //nolint:nilerr // it is told, and tried again
	}
	if err != nil {
		return err
	}
	w.next.LastVerifyTime = new(metav1.NewTime(t.due))
	w.wake(w.now.Add(lookInterval))
	return nil
}

// blocked tells why a trial cannot begin.
func (c *Controller) blocked(w *world, message string) {
	w.wake(w.now.Add(trialPause))
	if found := apimeta.FindStatusCondition(w.schedule.Status.Conditions, v1beta1.ConditionVerified); found == nil || !strings.HasSuffix(found.Message, bounded(message)) {
		c.events.Event(w.schedule, corev1.EventTypeWarning, "TrialBlocked", message)
	}
	w.trouble = message
}

// trialInput tells a Job what to restore: the backup, and all of the archive that follows it.
func (c *Controller) trialInput(ctx context.Context, w *world, subject *v1beta1.MySQLBackup) (*wire.JobInput, error) {
	source := &wire.Source{
		Cluster: wire.ClusterKey{Namespace: subject.Namespace, Name: subject.Spec.ClusterName, UID: subject.Status.ClusterUID},
		Backup:  subject.Status.ID,
	}
	var err error
	if source.Store, err = stores.Convert(ctx, c.secrets, subject.Namespace, "spec.template.store", &subject.Spec.Store); err != nil {
		return nil, err
	}
	// The archive of a cluster that was made anew under the name goes on from another beginning.
	if archive := archiveOf(w.cluster); archive != nil && string(w.cluster.UID) == subject.Status.ClusterUID {
		store, err := stores.Convert(ctx, c.secrets, w.cluster.Namespace, "MySQLCluster spec.backup.archive.store", &archive.Store)
		if err != nil {
			return nil, err
		}
		source.Archive, source.Target = &store, wire.Target{Latest: true}
	}
	if source.Identity, err = stores.Identity(ctx, c.secrets, subject.Namespace, "spec.verify.identitySecretRef", w.schedule.Spec.Verify.IdentitySecretRef); err != nil {
		return nil, err
	}
	in := &wire.JobInput{
		Operation: wire.OperationVerify, Store: source.Store, Cluster: source.Cluster, Backup: source.Backup, Attempt: job.NewAttempt(), Restore: source,
	}
	options, err := c.configMaps.ConfigMaps(w.cluster.Namespace).Get(render.ConfigMapName(w.cluster))
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", render.ConfigMapName(w.cluster), err)
	}
	if err == nil {
		in.MyCnf = options.Data[render.KeyMyCnf]
	}
	return in, nil
}

// archiveOf is the archive of a cluster, or nil.
func archiveOf(cluster *v1beta1.MySQLCluster) *v1beta1.Archive {
	if cluster == nil || cluster.Spec.Backup == nil {
		return nil
	}
	return cluster.Spec.Backup.Archive
}

// attendTrial reads how far a trial is, and notes its verdict.
func (c *Controller) attendTrial(ctx context.Context, w *world, current *batchv1.Job) error {
	t := trialOf(current)
	if w.next.LastVerifyTime == nil || w.next.LastVerifyTime.Time.Before(t.due) {
		w.next.LastVerifyTime = new(metav1.NewTime(t.due))
	}
	look, err := c.jobs.Look(ctx, current)
	if err != nil {
		return err
	}
	w.wake(w.now.Add(lookInterval))
	switch {
	case look.State == job.Waiting:
		w.trouble = look.Trouble
		subject := w.find(t.backup)
		if subject == nil || w.cluster == nil {
			return c.jobs.Delete(ctx, current)
		}
		return c.jobs.Feed(ctx, current, func() (*wire.JobInput, error) { return c.trialInput(ctx, w, subject) })
	case look.State == job.Running:
		return nil
	case !look.Result.Succeeded && !verdict(look.Result.Reason) && job.Number(current) < maxTrials:
		at := job.FinishedAt(current)
		if at.IsZero() {
			at = w.now
		}
		if at = at.Add(trialPause); at.After(w.now) {
			w.wake(at)
			return nil
		}
		return c.startTrial(ctx, w, t, job.Number(current)+1)
	}
	return c.conclude(ctx, w, t, current.Name, look.Result)
}

// verdict reports whether a failure is about the backup; others are about the trial, which is begun again.
func verdict(reason wire.JobReason) bool {
	return reason == wire.ReasonCheck || reason == wire.ReasonRefused
}

// conclude notes the end of a trial, first at the backup, then in the status of the schedule.
func (c *Controller) conclude(ctx context.Context, w *world, t trial, jobName string, r wire.JobResult) error {
	v := &v1beta1.Verification{
		Backup: t.backup, At: metav1.NewTime(w.now), Succeeded: r.Succeeded, Message: bounded(r.Message), JobName: jobName,
		RestoreSeconds: int64(r.RestoreSeconds + 0.5), ReplayedTransactions: r.ReplayedTransactions,
	}
	if !r.RecoveredUpTo.IsZero() {
		v.RecoveredUpTo = new(metav1.NewMicroTime(r.RecoveredUpTo))
	}
	if r.Succeeded && v.Message == "" {
		v.Message = fmt.Sprintf("restored in %d s, %d transactions of the archive replayed, every table has the recorded rows and checksum", v.RestoreSeconds, v.ReplayedTransactions)
	}
	if err := c.markVerified(ctx, w.find(t.backup), v); err != nil {
		return err
	}
	w.next.LastVerified = v
	eventType, reason := corev1.EventTypeNormal, "TrialSucceeded"
	if !v.Succeeded {
		eventType, reason = corev1.EventTypeWarning, "TrialFailed"
	}
	c.events.Event(w.schedule, eventType, reason, bounded("Trial of "+v.Backup+": "+v.Message))
	return nil
}

// markVerified sets condition Verified of a backup; nil is one that is gone.
func (c *Controller) markVerified(ctx context.Context, subject *v1beta1.MySQLBackup, v *v1beta1.Verification) error {
	if subject == nil || !backup.Done(subject) {
		return nil
	}
	updated := subject.DeepCopy()
	status, reason := metav1.ConditionTrue, "TrialSucceeded"
	if !v.Succeeded {
		status, reason = metav1.ConditionFalse, "TrialFailed"
	}
	changed := apimeta.SetStatusCondition(&updated.Status.Conditions, metav1.Condition{
		Type: v1beta1.ConditionVerified, Status: status, Reason: reason, Message: v.Message, ObservedGeneration: subject.Generation,
	})
	if !changed {
		return nil
	}
	_, err := c.moco.MocoV1beta1().MySQLBackups(subject.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing the status of MySQLBackup %s: %w", subject.Name, err)
	}
	return nil
}
