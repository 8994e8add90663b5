// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

var three = noon.Add(15 * time.Hour)

func TestABackupIsMadeWhenItIsDue(t *testing.T) {
	f := newFixture(t, nightly(), newCluster())
	s := f.steps()
	if len(f.allBackups()) != 0 || !s.Status.NextScheduleTime.Time.Equal(three) || !apimeta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.ConditionScheduling) {
		t.Fatalf("before it is due: %v, %+v", f.backupNames(), s.Status)
	}
	f.clock = three.Add(time.Second)
	s = f.steps()
	if diff := cmp.Diff([]string{"nightly-20260321030000"}, f.backupNames()); diff != "" {
		t.Fatalf("backups (-want +got):\n%s", diff)
	}
	made := f.allBackups()[0]
	if made.Labels[v1beta1.LabelSchedule] != "nightly" || len(made.OwnerReferences) != 0 || made.Spec.ClusterName != "db" || made.Spec.Store.S3.Bucket != "vault" {
		t.Errorf("it is %+v", made)
	}
	if !s.Status.LastScheduleTime.Time.Equal(three) || s.Status.Active != made.Name || s.Status.LastBackup != made.Name {
		t.Errorf("status %+v", s.Status)
	}
}

func TestOneCauseMakesOneBackupWhateverTheCacheShows(t *testing.T) {
	f := newFixture(t, nightly(), newCluster())
	f.clock = three
	for range 3 { // the caches stay as they were before the first
		if _, err := f.sync(t.Context(), cache.NewObjectName("shop", "nightly")); err != nil {
			t.Log(err)
		}
	}
	if len(f.allBackups()) != 1 {
		t.Errorf("backups %v", f.backupNames())
	}
}

func TestWhatIsDueMeetsWhatRuns(t *testing.T) {
	cases := map[string]struct {
		policy v1beta1.ConcurrencyPolicy
		want   []string
	}{
		"it is left out":  {v1beta1.ForbidConcurrent, []string{"nightly-20260321030000"}},
		"it replaces it":  {v1beta1.ReplaceConcurrent, []string{"nightly-20260322030000"}},
		"nothing is said": {"", []string{"nightly-20260321030000"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			schedule := nightly()
			schedule.Spec.ConcurrencyPolicy = c.policy
			f := newFixture(t, schedule, newCluster())
			f.clock = three
			f.steps()
			f.clock = three.Add(24 * time.Hour)
			s := f.steps()
			if diff := cmp.Diff(c.want, f.backupNames()); diff != "" {
				t.Errorf("backups (-want +got):\n%s", diff)
			}
			if !s.Status.LastScheduleTime.Time.Equal(f.clock) {
				t.Errorf("status %+v", s.Status)
			}
		})
	}
}

// The news of a backup that was made comes on another watch than the status in which that is noted.
func TestABackupThatReplacesIsNotReplacedByItself(t *testing.T) {
	schedule := nightly()
	schedule.Spec.ConcurrencyPolicy = v1beta1.ReplaceConcurrent
	f := newFixture(t, schedule, newCluster())
	f.clock = three
	f.step()
	made := f.allBackups()
	fill(t, f.from.Moco.MySQLBackups().Informer(), &v1beta1.MySQLBackupList{Items: made}, nil)
	f.moco.ClearActions()
	f.step()
	for _, action := range f.moco.Actions() {
		if action.GetVerb() == "delete" {
			t.Errorf("the backup that is due was deleted: %v", action)
		}
	}
	if diff := cmp.Diff([]string{made[0].Name}, f.backupNames()); diff != "" {
		t.Errorf("backups (-want +got):\n%s", diff)
	}
}

func TestWhatWasMissedIsMadeUpForOnce(t *testing.T) {
	cases := map[string]struct {
		late time.Duration
		want []string
	}{
		"in time":  {59 * time.Minute, []string{"nightly-20260324030000"}},
		"too late": {61 * time.Minute, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nightly(), newCluster())
			f.clock = three.Add(3*24*time.Hour + c.late)
			s := f.steps()
			if diff := cmp.Diff(c.want, f.backupNames()); diff != "" {
				t.Errorf("backups (-want +got):\n%s", diff)
			}
			if !s.Status.LastScheduleTime.Time.Equal(three.Add(3 * 24 * time.Hour)) {
				t.Errorf("last schedule time %s", s.Status.LastScheduleTime)
			}
		})
	}
}

func TestARequestIsCarriedOutOnce(t *testing.T) {
	schedule := nightly()
	schedule.Annotations[v1beta1.AnnotationBackupNow] = "1"
	f := newFixture(t, schedule, newCluster())
	s := f.steps()
	if diff := cmp.Diff([]string{"nightly-20260320120000"}, f.backupNames()); diff != "" || s.Status.LastRequest != "1" {
		t.Fatalf("backups (-want +got):\n%s, status %+v", diff, s.Status)
	}
	s.Annotations[v1beta1.AnnotationBackupNow] = "2"
	if _, err := f.moco.MocoV1beta1().MySQLBackupSchedules("shop").Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if s = f.steps(); len(f.allBackups()) != 1 || s.Status.LastRequest != "1" {
		t.Errorf("the second request did not wait for the first: %v", f.backupNames())
	}
	f.finish(v1beta1.BackupSucceeded)
	if s = f.steps(); len(f.allBackups()) != 2 || s.Status.LastRequest != "2" || s.Status.LastBackup != "nightly-20260320120001" {
		t.Errorf("backups %v, status %+v", f.backupNames(), s.Status)
	}
}

func TestASuspendedScheduleDoesNothing(t *testing.T) {
	schedule := nightly()
	schedule.Spec.Suspend = true
	schedule.Annotations[v1beta1.AnnotationBackupNow] = "1"
	old := aged("nightly-1", 500, v1beta1.BackupSucceeded)
	newer := aged("nightly-2", 400, v1beta1.BackupSucceeded)
	schedule.Spec.Retention = v1beta1.Retention{Count: 1}
	f := newFixture(t, schedule, newCluster(), old, newer)
	f.clock = three
	s := f.steps()
	scheduling := apimeta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionScheduling)
	if len(f.allBackups()) != 2 || scheduling.Reason != "Suspended" || s.Status.NextScheduleTime != nil || f.jobOf(wire.OperationPrune) != nil {
		t.Errorf("backups %v, condition %+v", f.backupNames(), scheduling)
	}
}

func TestWhatIsWrongWithAScheduleIsSaid(t *testing.T) {
	cases := map[string]struct {
		change func(s *v1beta1.MySQLBackupSchedule)
		reason string
		says   string
	}{
		"an unknown zone":   {func(s *v1beta1.MySQLBackupSchedule) { s.Spec.TimeZone = "Berlin" }, "ScheduleInvalid", "Europe/Berlin"},
		"no cron":           {func(s *v1beta1.MySQLBackupSchedule) { s.Spec.Schedule = "at night" }, "ScheduleInvalid", "at night"},
		"another cluster":   {func(s *v1beta1.MySQLBackupSchedule) { s.Spec.ClusterName = "db2" }, "ClusterNotFound", "db2"},
		"a day that is not": {func(s *v1beta1.MySQLBackupSchedule) { s.Spec.Schedule = "0 0 31 2 *" }, "NeverDue", "0 0 31 2 *"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			schedule := nightly()
			c.change(schedule)
			f := newFixture(t, schedule, newCluster())
			got := apimeta.FindStatusCondition(f.steps().Status.Conditions, v1beta1.ConditionScheduling)
			if got.Status != metav1.ConditionFalse || got.Reason != c.reason || !strings.Contains(got.Message, c.says) {
				t.Errorf("condition %+v", got)
			}
		})
	}
}

func TestAGapIsClosedAtOnce(t *testing.T) {
	cluster := newCluster()
	cluster.Status.Archive = &v1beta1.ArchiveStatus{Gap: "x:5", GapSince: new(metav1.NewTime(noon.Add(time.Hour)))}
	f := newFixture(t, nightly(), cluster)
	f.clock = noon.Add(time.Hour + time.Second)
	f.steps()
	if diff := cmp.Diff([]string{"nightly-20260320130000"}, f.backupNames()); diff != "" {
		t.Fatalf("backups (-want +got):\n%s", diff)
	}
	f.finish(v1beta1.BackupFailed)
	if f.steps(); len(f.allBackups()) != 1 {
		t.Errorf("tried again at once: %v", f.backupNames())
	}
	f.clock = f.clock.Add(gapPause)
	f.steps()
	f.finish(v1beta1.BackupSucceeded)
	if f.steps(); len(f.allBackups()) != 2 {
		t.Errorf("backups %v", f.backupNames())
	}
}

// tried is a fixture with one successful backup and a trial that is under way.
func tried(t *testing.T, change func(*v1beta1.MySQLBackupSchedule, *v1beta1.MySQLCluster)) *fixture {
	t.Helper()
	schedule, cluster := nightly(), newCluster()
	schedule.Spec.Verify = &v1beta1.Verify{Schedule: "0 13 * * *"}
	schedule.Annotations[v1beta1.AnnotationBackupNow] = "1"
	if change != nil {
		change(schedule, cluster)
	}
	f := newFixture(t, schedule, cluster)
	f.steps()
	f.finish(v1beta1.BackupSucceeded)
	s := f.steps()
	if got := apimeta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionVerified); got.Status != metav1.ConditionUnknown || f.jobOf(wire.OperationVerify) != nil {
		t.Fatalf("before it is due: %+v", got)
	}
	f.clock = noon.Add(time.Hour)
	f.steps()
	return f
}

func TestATrialRestoresTheNewestBackupAndTheArchive(t *testing.T) {
	f := tried(t, func(_ *v1beta1.MySQLBackupSchedule, c *v1beta1.MySQLCluster) {
		c.Spec.Backup = &v1beta1.ClusterBackup{Archive: &v1beta1.Archive{}}
		c.Spec.Backup.Archive.Store.S3 = &v1beta1.S3Store{Bucket: "stream", CredentialsSecretRef: corev1.LocalObjectReference{Name: "keys"}}
	})
	made := f.jobOf(wire.OperationVerify)
	if made == nil {
		t.Fatal("no trial was made")
	}
	in := f.input(made)
	if in.Restore == nil || in.Restore.Backup != "id-of-nightly-20260320120000" || in.Restore.Archive.Bucket != "stream" || !in.Restore.Target.Latest || in.Restore.Store.Bucket != "vault" {
		t.Errorf("it is told %+v", in.Restore)
	}
	f.ends(made, wire.JobResult{Succeeded: true, RestoreSeconds: 12.6, ReplayedTransactions: 40})
	s := f.steps()
	v := s.Status.LastVerified
	if v == nil || !v.Succeeded || v.RestoreSeconds != 13 || v.ReplayedTransactions != 40 || !apimeta.IsStatusConditionTrue(s.Status.Conditions, v1beta1.ConditionVerified) {
		t.Fatalf("status %+v", s.Status)
	}
	if !apimeta.IsStatusConditionTrue(f.allBackups()[0].Status.Conditions, v1beta1.ConditionVerified) {
		t.Errorf("the backup says %+v", f.allBackups()[0].Status.Conditions)
	}
	if f.jobOf(wire.OperationVerify) != nil {
		t.Error("the Job was left behind")
	}
	f.clock = f.clock.Add(defaultStale + time.Minute)
	w, err := f.gather(s)
	if err != nil {
		t.Fatal(err)
	}
	if status, reason, _ := w.verified(); status != metav1.ConditionFalse || reason != "Stale" {
		t.Errorf("after a long time: %s, %s", status, reason)
	}
}

func TestATrialWithoutAVerdictIsBegunAgain(t *testing.T) {
	f := tried(t, nil)
	for n := 1; n <= maxTrials; n++ {
		made := f.jobOf(wire.OperationVerify)
		if made == nil || !strings.HasSuffix(made.Name, "-"+string(rune('0'+n))) {
			t.Fatalf("trial %d is %+v", n, made)
		}
		if f.input(made).Restore.Target.Latest {
			t.Error("an archive is replayed that the cluster does not have")
		}
		f.ends(made, wire.JobResult{Reason: wire.ReasonInterrupted, Message: "told to stop"})
		f.steps()
		f.clock = f.clock.Add(trialPause)
		f.steps()
	}
	if s := f.steps(); s.Status.LastVerified == nil || s.Status.LastVerified.Succeeded || f.jobOf(wire.OperationVerify) != nil {
		t.Errorf("in the end %+v", s.Status)
	}
}

func TestADifferenceIsAVerdict(t *testing.T) {
	f := tried(t, nil)
	f.ends(f.jobOf(wire.OperationVerify), wire.JobResult{Reason: wire.ReasonCheck, Message: "shop.orders lacks a row"})
	s := f.steps()
	got := apimeta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionVerified)
	if got.Status != metav1.ConditionFalse || got.Reason != "TrialFailed" || !strings.Contains(got.Message, "lacks a row") {
		t.Errorf("condition %+v", got)
	}
}

func TestAMissingIdentityHoldsTheTrialUp(t *testing.T) {
	f := tried(t, func(s *v1beta1.MySQLBackupSchedule, _ *v1beta1.MySQLCluster) {
		s.Spec.Verify.IdentitySecretRef = &corev1.LocalObjectReference{Name: "age"}
	})
	s := f.steps()
	got := apimeta.FindStatusCondition(s.Status.Conditions, v1beta1.ConditionVerified)
	if f.jobOf(wire.OperationVerify) != nil || !strings.Contains(got.Message, "age") || s.Status.LastVerifyTime != nil {
		t.Errorf("condition %+v, status %+v", got, s.Status)
	}
	told := 0
	for len(f.events.Events) > 0 {
		if strings.Contains(<-f.events.Events, "TrialBlocked") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("it is told %d times", told)
	}
}

func TestStoresArePrunedOnceADay(t *testing.T) {
	schedule := nightly()
	schedule.Annotations[v1beta1.AnnotationBackupNow] = "1"
	f := newFixture(t, schedule, newCluster())
	f.steps()
	if f.jobOf(wire.OperationPrune) != nil {
		t.Fatal("pruned before there is a backup")
	}
	f.finish(v1beta1.BackupSucceeded)
	f.steps()
	made := f.jobOf(wire.OperationPrune)
	if made == nil {
		t.Fatal("not pruned")
	}
	if in := f.input(made); !in.KeepAfter.Equal(noon.AddDate(0, 0, -7)) || in.Archive != nil || in.Cluster.UID != "cluster-uid" {
		t.Errorf("it is told %+v", in)
	}
	f.ends(made, wire.JobResult{Succeeded: true})
	s := f.steps()
	if s.Status.LastPruneTime == nil || f.jobOf(wire.OperationPrune) != nil {
		t.Errorf("status %+v", s.Status)
	}
	f.clock = f.clock.Add(pruneInterval)
	f.steps()
	if again := f.jobOf(wire.OperationPrune); again == nil {
		t.Error("not pruned on the next day")
	}
}

func TestMetricsGoWithTheirObjects(t *testing.T) {
	f := tried(t, nil)
	names := []string{"moco_backup_last_success_timestamp_seconds", "moco_backup_failed", "moco_backup_verified_timestamp_seconds"}
	want := `
# HELP moco_backup_failed 1 if the newest backup that came to an end failed, else 0.
# TYPE moco_backup_failed gauge
moco_backup_failed{cluster="db",namespace="shop",schedule="nightly"} 0
# HELP moco_backup_last_success_timestamp_seconds When the newest successful backup was completed; 0 when there was none.
# TYPE moco_backup_last_success_timestamp_seconds gauge
moco_backup_last_success_timestamp_seconds{cluster="db",namespace="shop",schedule="nightly"} 1.774008e+09
# HELP moco_backup_verified_timestamp_seconds When the last trial ended, if it succeeded; 0 if it failed, or when there was none.
# TYPE moco_backup_verified_timestamp_seconds gauge
moco_backup_verified_timestamp_seconds{cluster="db",namespace="shop",schedule="nightly"} 0
`
	if err := testutil.CollectAndCompare(f.Controller, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if err := f.moco.MocoV1beta1().MySQLBackupSchedules("shop").Delete(t.Context(), "nightly", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range f.backupNames() {
		if err := f.moco.MocoV1beta1().MySQLBackups("shop").Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	f.refresh()
	if left := testutil.CollectAndCount(f.Controller); left != 0 {
		t.Errorf("%d series are left", left)
	}
}
