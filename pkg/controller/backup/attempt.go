// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/job"
)

const (
	// maxFailures is how many attempts may fail.
	maxFailures = 6
	// firstPause and longestPause bound the wait between two attempts; it doubles.
	firstPause   = 30 * time.Second
	longestPause = 10 * time.Minute
	// busyPause is the wait for a donor's one clone slot, busyMost how long it is waited for.
	busyPause = 15 * time.Second
	busyMost  = time.Hour
	// waitingInterval is how often a Pod that has not started is looked at, should its news be lost.
	waitingInterval = 5 * time.Second
)

// advance attends the attempt that runs, or begins one.
func (c *Controller) advance(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus) (time.Duration, error) {
	current, err := c.current(ctx, backup)
	if err != nil {
		return 0, err
	}
	if current != nil {
		return c.attend(ctx, backup, next, current)
	}
	if backup.Status.Attempts > noted(&backup.Status) {
		c.fail(next, wire.JobResult{Reason: wire.ReasonInterrupted, Message: fmt.Sprintf("its Job %s is gone", backup.Status.JobName)})
		c.explain(backup, next)
		return 0, nil
	}
	return c.begin(ctx, backup, next)
}

// noted is the number of the last attempt whose end is in the status.
func noted(status *v1beta1.MySQLBackupStatus) int32 {
	if status.LastFailure == nil {
		return 0
	}
	return status.LastFailure.Number
}

// current is the Job of the attempt whose end is not noted yet; Jobs of earlier ones are deleted.
func (c *Controller) current(ctx context.Context, backup *v1beta1.MySQLBackup) (*batchv1.Job, error) {
	made, err := c.jobs.Of(backup, operationOf(backup))
	if err != nil {
		return nil, err
	}
	var current *batchv1.Job
	for n, j := range made {
		if job.Number(j) > noted(&backup.Status) && n == len(made)-1 {
			current = j
			continue
		}
		if err := c.jobs.Delete(ctx, j); err != nil {
			return nil, err
		}
	}
	if current == nil && backup.Status.Attempts > noted(&backup.Status) {
		return c.jobs.Find(ctx, backup, backup.Status.JobName) // the cache may be behind
	}
	return current, nil
}

// attend reads how far an attempt is.
func (c *Controller) attend(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, current *batchv1.Job) (time.Duration, error) {
	next.Attempts, next.JobName = max(next.Attempts, job.Number(current)), current.Name
	if next.StartedAt == nil {
		next.StartedAt = current.CreationTimestamp.DeepCopy()
	}
	look, err := c.jobs.Look(ctx, current)
	if err != nil {
		return 0, err
	}
	switch {
	case look.State == job.Running:
		next.Phase = v1beta1.BackupRunning
		say(backup, next, "Running", fmt.Sprintf("attempt %d: Pod %s works", next.Attempts, look.Pod))
		return c.progress(ctx, backup, next, look.IP), nil
	case look.State == job.Waiting:
		next.Phase, next.Progress = v1beta1.BackupPending, nil
		text := look.Trouble
		if text == "" {
			text = "its Pod is starting"
		}
		say(backup, next, "PodStarting", fmt.Sprintf("attempt %d: %s", next.Attempts, text))
		return c.feed(ctx, backup, next, current)
	case look.Result.Succeeded:
		c.succeed(backup, next, look.Result)
	default:
		c.fail(next, look.Result)
		c.explain(backup, next)
	}
	return 0, nil
}

// feed gives a Job its input if a crash came between the two. Without input it would wait for ever.
func (c *Controller) feed(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, current *batchv1.Job) (time.Duration, error) {
	err := c.jobs.Feed(ctx, current, func() (*wire.JobInput, error) {
		ready, unfit, err := c.prepare(ctx, backup)
		if err == nil && unfit != nil {
			err = unfit
		}
		if err != nil {
			return nil, err
		}
		return ready.input, nil
	})
	var unfit *problem
	switch {
	case !errors.As(err, &unfit):
		return waitingInterval, err
	case unfit.final:
		c.giveUp(backup, next, unfit.reason, unfit.message)
		return 0, nil
	}
	say(backup, next, unfit.reason, unfit.message)
	return unfit.again, nil
}

// begin makes the next attempt, if it is time and all that it needs is there.
func (c *Controller) begin(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus) (time.Duration, error) {
	next.Phase, next.Progress = v1beta1.BackupPending, nil
	if left := pauseAfter(&backup.Status).Sub(c.now()); left > 0 {
		return left, nil // what was said when the attempt failed stands
	}
	ready, problem, err := c.prepare(ctx, backup)
	if err != nil {
		return 0, err
	}
	if problem != nil {
		if problem.final {
			c.giveUp(backup, next, problem.reason, problem.message)
			return 0, nil
		}
		say(backup, next, problem.reason, problem.message)
		return problem.again, nil
	}
	if next.ID == "" || next.ClusterUID == "" {
		// Noted before anything is stored under them; the write brings the next sync.
		next.ID, next.ClusterUID = idOf(backup), string(ready.cluster.UID)
		say(backup, next, "Prepared", "the first attempt begins")
		return time.Second, nil
	}
	number := max(next.Attempts, noted(next)) + 1
	made, err := c.jobs.Ensure(ctx, &job.Spec{
		Owner: backup, OwnerKind: kind, Name: job.Name(backup.Name, strconv.Itoa(int(number))), Operation: operationOf(backup), Number: number,
		Cluster: ready.cluster, AgentImage: c.config.AgentImage, Stores: []*v1beta1.Store{&backup.Spec.Store},
		Work: backup.Spec.WorkVolume, Resources: backup.Spec.Resources,
	}, func() (*wire.JobInput, error) { return ready.input, nil })
	var foreign *job.Foreign
	if errors.As(err, &foreign) {
		say(backup, next, "NameTaken", foreign.Error())
		return waitingInterval, nil
	}
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
		say(backup, next, "JobRefused", "the API server refuses the Job: "+err.Error()) // a quota, a policy, or the resources in the spec
	}
	if err != nil {
		return 0, err
	}
	next.Attempts, next.JobName = number, made.Name
	if next.StartedAt == nil {
		next.StartedAt = new(metav1.NewTime(c.now()))
	}
	say(backup, next, "PodStarting", fmt.Sprintf("attempt %d: its Pod is starting", number))
	return waitingInterval, nil
}

// pauseAfter is when the next attempt may begin; zero when nothing failed.
func pauseAfter(status *v1beta1.MySQLBackupStatus) time.Time {
	if status.LastFailure == nil {
		return time.Time{}
	}
	if status.BusySince != nil {
		return status.LastFailure.At.Add(busyPause)
	}
	return status.LastFailure.At.Add(pause(status.Failures))
}

// pause after the n-th failure.
func pause(failures int32) time.Duration {
	wait := firstPause
	for range min(failures-1, 10) {
		wait *= 2
	}
	return min(wait, longestPause)
}

// succeed notes the end of a backup.
func (c *Controller) succeed(backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, r wire.JobResult) {
	next.Phase, next.Progress, next.BusySince = v1beta1.BackupSucceeded, nil, nil
	next.CompletedAt = new(metav1.NewTime(c.now()))
	next.Location, next.GTIDExecuted, next.MySQLVersion = r.Location, r.GTIDExecuted, r.MySQLVersion
	next.Bytes, next.StoredBytes, next.Tables = r.Bytes, r.StoredBytes, r.Tables
	if r.Donor != "" {
		next.Donor = r.Donor
	}
	if !r.ConsistentAt.IsZero() {
		next.ConsistentAt = new(metav1.NewMicroTime(r.ConsistentAt))
	}
	message := "it is stored at " + r.Location
	if r.Message != "" {
		message = r.Message
	}
	say(backup, next, "Stored", message)
}

// fail notes the end of an attempt.
func (c *Controller) fail(next *v1beta1.MySQLBackupStatus, r wire.JobResult) {
	now := metav1.NewTime(c.now())
	next.Progress = nil
	next.LastFailure = &v1beta1.BackupAttempt{Number: next.Attempts, At: now, Reason: string(r.Reason), Message: bounded(r.Message)}
	if r.Reason == wire.ReasonDonorBusy {
		if next.BusySince == nil {
			next.BusySince = &now
		}
	} else {
		next.BusySince = nil
		next.Failures++
	}
	next.Phase = v1beta1.BackupPending
}

// explain says what follows from the end of an attempt: another one, or none.
func (c *Controller) explain(backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus) {
	last := next.LastFailure
	switch {
	case last.Reason == string(wire.ReasonRefused):
		c.giveUp(backup, next, last.Reason, last.Message)
	case next.Failures >= maxFailures:
		c.giveUp(backup, next, last.Reason, fmt.Sprintf("%d attempts failed, the last one so: %s", next.Failures, last.Message))
	case next.BusySince != nil && c.now().Sub(next.BusySince.Time) > busyMost:
		c.giveUp(backup, next, last.Reason, fmt.Sprintf("for %s every donor was serving another clone", busyMost))
	case next.BusySince != nil:
		say(backup, next, last.Reason, "every donor serves another clone; waiting for it to end: "+last.Message)
	default:
		say(backup, next, last.Reason, fmt.Sprintf("attempt %d failed: %s; the next one begins at %s", last.Number, last.Message, pauseAfter(next).UTC().Format(time.RFC3339)))
	}
}

// giveUp notes that there will be no other attempt.
func (c *Controller) giveUp(backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus, reason, message string) {
	next.Phase, next.Progress, next.BusySince = v1beta1.BackupFailed, nil, nil
	next.CompletedAt = new(metav1.NewTime(c.now()))
	say(backup, next, reason, message)
}
