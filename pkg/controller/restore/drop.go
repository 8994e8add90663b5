// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/job"
)

// maxDrops is how often it is tried to remove what attempts left in the cluster.
const maxDrops = 5

// decide notes how the restore ended. What its attempts made in the cluster is removed before it is done.
func (c *Controller) decide(restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, reason, message string) {
	next.Phase, next.Progress = v1beta1.RestoreCleaning, nil
	if next.Attempts == 0 {
		c.conclude(next)
	}
	say(restore, next, reason, message)
}

// conclude ends the restore.
func (c *Controller) conclude(next *v1beta1.MySQLRestoreStatus) {
	next.Phase, next.CompletedAt = v1beta1.RestoreFailed, new(metav1.NewTime(c.now()))
	if next.RestoredAt != nil {
		next.Phase = v1beta1.RestoreSucceeded
	}
}

// drop attends the Job that removes what the attempts made in the cluster, or makes it.
func (c *Controller) drop(ctx context.Context, restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus) (time.Duration, error) {
	if stopped, err := c.stop(ctx, restore); err != nil || !stopped {
		return waitingInterval, err
	}
	made, err := c.jobs.Of(restore, wire.OperationDropRestore)
	if err != nil {
		return 0, err
	}
	if len(made) == 0 {
		return c.beginDrop(ctx, restore, next, 1)
	}
	current := made[len(made)-1]
	look, err := c.jobs.Look(ctx, current)
	if err != nil {
		return 0, err
	}
	switch {
	case look.State == job.Waiting:
		return waitingInterval, c.feed(ctx, restore, current, c.prepareDrop)
	case look.State == job.Running:
		return waitingInterval, nil
	case look.Result.Succeeded:
		c.dropped(restore, next, look.Result)
		return 0, nil
	case job.Number(current) >= maxDrops:
		c.leave(restore, next, look.Result.Message)
		return 0, nil
	}
	at := job.FinishedAt(current)
	if at.IsZero() {
		at = c.now()
	}
	if left := at.Add(pause(job.Number(current))).Sub(c.now()); left > 0 {
		return left, nil
	}
	return c.beginDrop(ctx, restore, next, job.Number(current)+1)
}

// stop reports whether no attempt works any more.
func (c *Controller) stop(ctx context.Context, restore *v1beta1.MySQLRestore) (bool, error) {
	made, err := c.jobs.Of(restore, wire.OperationRestoreTables)
	if err != nil {
		return false, err
	}
	for _, j := range made {
		if err := c.jobs.Delete(ctx, j); err != nil {
			return false, err
		}
	}
	return len(made) == 0, nil
}

// beginDrop makes the Job. A cluster that is gone has nothing left of the restore either.
func (c *Controller) beginDrop(ctx context.Context, restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, number int32) (time.Duration, error) {
	ready, unfit, err := c.prepareDrop(ctx, restore)
	if err != nil {
		return 0, err
	}
	if unfit != nil {
		if unfit.final {
			c.conclude(next)
			say(restore, next, reasonOf(next), next.Message)
			return 0, nil
		}
		return unfit.again, nil
	}
	spec := c.jobSpec(restore, ready, job.Name(restore.Name, "drop-"+strconv.Itoa(int(number))), number)
	if _, err := c.jobs.Ensure(ctx, spec, func() (*wire.JobInput, error) { return ready.input, nil }); err != nil {
		return waitingInterval, err
	}
	return waitingInterval, nil
}

// dropped ends the restore. An attempt may have succeeded although its news was lost: the cluster knows.
func (c *Controller) dropped(restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, r wire.JobResult) {
	reason, message := reasonOf(next), next.Message
	if next.RestoredAt == nil && r.Tables > 0 {
		next.RestoredAt, next.Tables = new(metav1.NewTime(c.now())), r.Tables
		reason, message = "Restored", fmt.Sprintf("%d tables are restored", r.Tables)
	}
	c.conclude(next)
	say(restore, next, reason, message)
}

// leave ends the restore although something is left.
func (c *Controller) leave(restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus, why string) {
	reason := reasonOf(next)
	message := fmt.Sprintf("%s; schemas that begin with moco_restore_%.8s are left in the cluster, drop them: %s", next.Message, restore.UID, why)
	c.conclude(next)
	say(restore, next, reason, message)
}
