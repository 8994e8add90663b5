// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Defaults of the API, for objects that were made without it.
const (
	defaultCount  = 7
	defaultDays   = 7
	defaultFailed = 3
)

// windowBegin is since when every moment can be restored.
func windowBegin(spec *v1beta1.MySQLBackupScheduleSpec, now time.Time) time.Time {
	days := defaultDays
	if spec.Retention.Days != nil {
		days = int(*spec.Retention.Days)
	}
	return now.AddDate(0, 0, -days)
}

// Expired lists the backups of a schedule that are deleted: successful ones beyond count and older than days, but for the
// one with which a restore to the begin of those days begins; and failed ones beyond their limit. The newest successful
// backup is never among them. Of both there is another if the trial of the first failed. What is being deleted, and what is
// under way, counts for nothing.
func Expired(spec *v1beta1.MySQLBackupScheduleSpec, backups []*v1beta1.MySQLBackup, now time.Time) []*v1beta1.MySQLBackup {
	begin, count, failedMost := windowBegin(spec, now), defaultCount, defaultFailed
	if spec.Retention.Count > 0 {
		count = int(spec.Retention.Count)
	}
	if spec.FailedHistoryLimit != nil {
		failedMost = int(*spec.FailedHistoryLimit)
	}
	trusted := slices.DeleteFunc(slices.Clone(backups), distrusted)
	kept := []*v1beta1.MySQLBackup{baseOf(backups, begin), baseOf(trusted, begin)}
	if newest := newestFirst(trusted, v1beta1.BackupSucceeded); len(newest) > 0 {
		kept = append(kept, newest[0])
	}
	var expired []*v1beta1.MySQLBackup
	for n, b := range newestFirst(backups, v1beta1.BackupSucceeded) {
		if n >= count && n > 0 && completedAt(b).Before(begin) && !slices.Contains(kept, b) {
			expired = append(expired, b)
		}
	}
	for n, b := range newestFirst(backups, v1beta1.BackupFailed) {
		if n >= failedMost {
			expired = append(expired, b)
		}
	}
	return expired
}

// newestFirst lists the backups in a phase by their completion.
func newestFirst(backups []*v1beta1.MySQLBackup, phase v1beta1.BackupPhase) []*v1beta1.MySQLBackup {
	var found []*v1beta1.MySQLBackup
	for _, b := range backups {
		if b.Status.Phase == phase && b.DeletionTimestamp == nil {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b *v1beta1.MySQLBackup) int {
		return cmp.Or(completedAt(b).Compare(completedAt(a)), cmp.Compare(b.Name, a.Name))
	})
	return found
}

// completedAt is when a backup came to its end.
func completedAt(b *v1beta1.MySQLBackup) time.Time {
	if b.Status.CompletedAt == nil {
		return b.CreationTimestamp.Time
	}
	return b.Status.CompletedAt.Time
}

// consistentAt is the moment a backup restores to without an archive.
func consistentAt(b *v1beta1.MySQLBackup) time.Time {
	if b.Status.ConsistentAt == nil {
		return completedAt(b)
	}
	return b.Status.ConsistentAt.Time
}

// physical reports whether the archive can be replayed on a backup.
func physical(b *v1beta1.MySQLBackup) bool { return b.Spec.Method != v1beta1.Logical }

// distrusted reports whether the last trial of a backup failed: another one has to be there in its stead.
func distrusted(b *v1beta1.MySQLBackup) bool {
	return apimeta.IsStatusConditionFalse(b.Status.Conditions, v1beta1.ConditionVerified)
}

// baseOf is the backup with which a restore to a time begins: the newest physical one that holds nothing behind it; nil
// without one.
func baseOf(backups []*v1beta1.MySQLBackup, at time.Time) *v1beta1.MySQLBackup {
	var base *v1beta1.MySQLBackup
	for _, b := range newestFirst(backups, v1beta1.BackupSucceeded) {
		if physical(b) && !consistentAt(b).After(at) && (base == nil || consistentAt(b).After(consistentAt(base))) {
			base = b
		}
	}
	return base
}

// KeepAfter is the begin of what must stay restorable of the archive of a cluster when one schedule prunes it: that of the
// longest window of all schedules of the cluster. A backup in another store, which the prune does not see, and those of a
// suspended schedule are taken into the window.
func KeepAfter(pruning *v1beta1.MySQLBackupSchedule, all []*v1beta1.MySQLBackupSchedule, backups []*v1beta1.MySQLBackup, now time.Time) time.Time {
	keep := windowBegin(&pruning.Spec, now)
	earlier := func(t time.Time) {
		if t.Before(keep) {
			keep = t
		}
	}
	for _, s := range all {
		if s.Spec.ClusterName != pruning.Spec.ClusterName || s.DeletionTimestamp != nil {
			continue
		}
		begin := windowBegin(&s.Spec, now)
		earlier(begin)
		own := ofSchedule(backups, s)
		for _, base := range []*v1beta1.MySQLBackup{baseOf(own, begin), baseOf(slices.DeleteFunc(slices.Clone(own), distrusted), begin)} {
			if base != nil && !reflect.DeepEqual(base.Spec.Store, pruning.Spec.Template.Store) {
				earlier(consistentAt(base))
			}
		}
		if s.Spec.Suspend {
			for _, b := range newestFirst(own, v1beta1.BackupSucceeded) {
				earlier(consistentAt(b))
			}
		}
	}
	return passDoubtful(keep, &pruning.Spec.Template.Store, backups)
}

// passDoubtful puts the begin of a window before the backups that are being deleted or whose trial failed, unless a better one
// in the store is newer. They lie in the store, and a prune, which knows no more of them, would begin the window with them.
func passDoubtful(keep time.Time, store *v1beta1.Store, backups []*v1beta1.MySQLBackup) time.Time {
	var doubtful, better []*v1beta1.MySQLBackup
	for _, b := range backups {
		goes := b.DeletionTimestamp != nil && b.Spec.DeletionPolicy != v1beta1.DeletionKeep
		switch {
		case b.Status.ConsistentAt == nil:
		case goes || distrusted(b):
			doubtful = append(doubtful, b)
		case reflect.DeepEqual(b.Spec.Store, *store):
			better = append(better, b)
		}
	}
	slices.SortFunc(doubtful, func(a, b *v1beta1.MySQLBackup) int { return consistentAt(b).Compare(consistentAt(a)) })
	for _, b := range doubtful {
		at, base := consistentAt(b), baseOf(better, keep)
		if !at.After(keep) && (base == nil || consistentAt(base).Before(at)) {
			keep = at.Add(-time.Microsecond)
		}
	}
	return keep
}

// ofSchedule lists the backups that a schedule made.
func ofSchedule(backups []*v1beta1.MySQLBackup, s *v1beta1.MySQLBackupSchedule) []*v1beta1.MySQLBackup {
	var own []*v1beta1.MySQLBackup
	for _, b := range backups {
		if b.Labels[v1beta1.LabelSchedule] == s.Name && b.Namespace == s.Namespace {
			own = append(own, b)
		}
	}
	return own
}
