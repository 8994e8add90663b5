// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
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
	// waitingInterval is how often a Pod that has not started is looked at, should its news be lost.
	waitingInterval = 5 * time.Second
)

// advance attends the attempt that runs, or begins one.
func (c *Controller) advance(ctx context.Context, restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus) (time.Duration, error) {
	if restore.Status.Phase == v1beta1.RestoreCleaning {
		return c.drop(ctx, restore, next)
	}
	current, err := c.current(ctx, restore)
	if err != nil {
		return 0, err
	}
	if current != nil {
		return c.attend(ctx, restore, next, current)
	}
	if restore.Status.Attempts > noted(&restore.Status) {
		c.fail(restore, next, wire.JobResult{Reason: wire.ReasonInterrupted, Message: fmt.Sprintf("its Job %s is gone", restore.Status.JobName)})
		return 0, nil
	}
	return c.begin(ctx, restore, next)
}

// noted is the number of the last attempt whose end is in the status.
func noted(status *v1beta1.MySQLRestoreStatus) int32 {
	if status.LastFailure == nil {
		return 0
	}
	return status.LastFailure.Number
}

// current is the Job of the attempt whose end is not noted yet; Jobs of earlier ones are deleted.
func (c *Controller) current(ctx context.Context, restore *v1beta1.MySQLRestore) (*batchv1.Job, error) {
	made, err := c.jobs.Of(restore, wire.OperationRestoreTables)
	if err != nil {
		return nil, err
	}
	var current *batchv1.Job
	for n, j := range made {
		if job.Number(j) > noted(&restore.Status) && n == len(made)-1 {
			current = j
			continue
		}
		if err := c.jobs.Delete(ctx, j); err != nil {
			return nil, err
		}
	}
	if current == nil && restore.Status.Attempts > noted(&restore.Status) {
		return c.jobs.Find(ctx, restore, restore.Status.JobName) // the cache may be behind
	}
	return current, nil
}

// attend reads how far an attempt is.
func (c *Controller) attend(ctx context.Context, restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, current *batchv1.Job) (time.Duration, error) {
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
		next.Phase = v1beta1.RestoreRunning
		say(restore, next, "Running", fmt.Sprintf("attempt %d: Pod %s works", next.Attempts, look.Pod))
		return c.progress(ctx, restore, next, look.IP), nil
	case look.State == job.Waiting:
		next.Phase, next.Progress = v1beta1.RestorePending, nil
		text := look.Trouble
		if text == "" {
			text = "its Pod is starting"
		}
		say(restore, next, "PodStarting", fmt.Sprintf("attempt %d: %s", next.Attempts, text))
		return waitingInterval, c.feed(ctx, restore, current, c.prepare)
	case look.Result.Succeeded:
		c.restored(restore, next, look.Result)
	default:
		c.fail(restore, next, look.Result)
	}
	return time.Second, nil
}

// preparation puts together what a Job needs.
type preparation func(context.Context, *v1beta1.MySQLRestore) (*ready, *problem, error)

// feed gives a Job its input if a crash came between the two. Without input it would wait for ever.
func (c *Controller) feed(ctx context.Context, restore *v1beta1.MySQLRestore, current *batchv1.Job, prepare preparation) error {
	return c.jobs.Feed(ctx, current, func() (*wire.JobInput, error) {
		made, unfit, err := prepare(ctx, restore)
		if err == nil && unfit != nil {
			err = unfit
		}
		if err != nil {
			return nil, err
		}
		return made.input, nil
	})
}

// begin makes the next attempt, if it is time and all that it needs is there.
func (c *Controller) begin(ctx context.Context, restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus) (time.Duration, error) {
	next.Phase, next.Progress = v1beta1.RestorePending, nil
	if left := pauseAfter(&restore.Status).Sub(c.now()); left > 0 {
		return left, nil // what was said when the attempt failed stands
	}
	made, unfit, err := c.prepare(ctx, restore)
	if err != nil {
		return 0, err
	}
	if unfit != nil {
		if unfit.final {
			c.decide(restore, next, unfit.reason, unfit.message)
			return time.Second, nil
		}
		say(restore, next, unfit.reason, unfit.message)
		return unfit.again, nil
	}
	if next.ClusterUID == "" {
		// Noted before the first Job; the write brings the next sync.
		next.ClusterUID = string(made.cluster.UID)
		say(restore, next, "Prepared", "the first attempt begins")
		return time.Second, nil
	}
	number := max(next.Attempts, noted(next)) + 1
	spec := c.jobSpec(restore, made, job.Name(restore.Name, "restore-"+strconv.Itoa(int(number))), number)
	current, err := c.jobs.Ensure(ctx, spec, func() (*wire.JobInput, error) { return made.input, nil })
	var foreign *job.Foreign
	if errors.As(err, &foreign) {
		say(restore, next, "NameTaken", foreign.Error())
		return waitingInterval, nil
	}
	if err != nil {
		return 0, err
	}
	next.Attempts, next.JobName = number, current.Name
	if next.StartedAt == nil {
		next.StartedAt = new(metav1.NewTime(c.now()))
	}
	say(restore, next, "PodStarting", fmt.Sprintf("attempt %d: its Pod is starting", number))
	return waitingInterval, nil
}

// jobSpec is what a Job of this restore is made from.
func (c *Controller) jobSpec(restore *v1beta1.MySQLRestore, made *ready, name string, number int32) *job.Spec {
	return &job.Spec{
		Owner: restore, OwnerKind: kind, Name: name, Operation: made.input.Operation, Number: number,
		Cluster: made.cluster, AgentImage: c.config.AgentImage, Stores: []*v1beta1.Store{made.store},
		Work: restore.Spec.WorkVolume, Resources: restore.Spec.Resources,
	}
}

// pauseAfter is when the next attempt may begin; zero when nothing failed.
func pauseAfter(status *v1beta1.MySQLRestoreStatus) time.Time {
	if status.LastFailure == nil {
		return time.Time{}
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

// restored notes that the tables are in their places.
func (c *Controller) restored(restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, r wire.JobResult) {
	next.RestoredAt = new(metav1.NewTime(c.now()))
	next.Tables, next.ReplayedTransactions = r.Tables, r.ReplayedTransactions
	if !r.RecoveredUpTo.IsZero() {
		next.RecoveredUpTo = new(metav1.NewMicroTime(r.RecoveredUpTo))
	}
	message := fmt.Sprintf("%d tables are restored", r.Tables)
	if r.Message != "" {
		message += "; " + r.Message
	}
	c.decide(restore, next, "Restored", message)
}

// fail notes the end of an attempt, and says what follows from it: another one, or none.
func (c *Controller) fail(restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, r wire.JobResult) {
	next.Phase, next.Progress = v1beta1.RestorePending, nil
	next.Failures++
	next.LastFailure = &v1beta1.BackupAttempt{Number: next.Attempts, At: metav1.NewTime(c.now()), Reason: string(r.Reason), Message: bounded(r.Message)}
	switch {
	case r.Reason == wire.ReasonRefused:
		c.decide(restore, next, string(r.Reason), r.Message)
	case next.Failures >= maxFailures:
		c.decide(restore, next, string(r.Reason), fmt.Sprintf("%d attempts failed, the last one so: %s", next.Failures, r.Message))
	default:
		say(restore, next, string(r.Reason), fmt.Sprintf("attempt %d failed: %s; the next one begins at %s", next.Attempts, r.Message, pauseAfter(next).UTC().Format(time.RFC3339)))
	}
}
