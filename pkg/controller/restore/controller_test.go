// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

var (
	whole   = &wire.JobResult{Succeeded: true, Tables: 2, ReplayedTransactions: 7, Message: "not restored with the tables: trigger t"}
	dropped = &wire.JobResult{Succeeded: true}
)

// prepared is a fixture whose restore can begin.
func prepared(t *testing.T) *fixture {
	t.Helper()
	cluster := newCluster()
	return newFixture(t, newRestore(), newBackup(), cluster, around(cluster)...)
}

func TestTablesAreRestoredAndTheRemainsDropped(t *testing.T) {
	f := prepared(t)
	begun := f.steps()
	if begun.Status.Phase != v1beta1.RestorePending || begun.Status.Attempts != 1 || begun.Status.JobName != "back-restore-1" || begun.Status.ClusterUID != "cluster-uid" {
		t.Fatalf("begun with %+v", begun.Status)
	}
	in := f.input()
	in.Attempt = ""
	store := wire.Store{Provider: wire.ProviderS3, Bucket: "vault", Credentials: map[string]string{"accessKeyID": "me", "secretAccessKey": "secret"}}
	key := wire.ClusterKey{Namespace: "shop", Name: "db", UID: "old-uid"}
	want := &wire.JobInput{
		Operation: wire.OperationRestoreTables, Store: store, Cluster: key, Backup: "20260320T115900Z-0a1b2c3d",
		Restore: &wire.Source{Store: store, Cluster: key, Backup: "20260320T115900Z-0a1b2c3d"},
		Tables:  &wire.Tables{Restore: "0a1b2c3d-1111-2222-3333-444455556666", Names: []string{"shop.orders"}},
		Primary: "db-mysql.shop.svc:3306", User: "root", Password: "pass", CA: "PEM", MyCnf: "[mysqld]",
	}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Errorf("input (-want +got):\n%s", diff)
	}
	f.answer = wire.JobProgress{Stage: "loading", BytesDone: 50, BytesTotal: 100, StageSeconds: 5}
	f.podRuns()
	if running := f.steps(); running.Status.Phase != v1beta1.RestoreRunning || running.Status.Progress == nil || running.Status.Progress.BytesPerSecond != 10 {
		t.Errorf("running with %+v", running.Status)
	}
	f.podEnds(whole)
	cleaning := f.steps()
	if names := f.jobNames(); cleaning.Status.Phase != v1beta1.RestoreCleaning || cleaning.Status.Tables != 2 || len(names) != 1 || names[0] != "back-drop-1" {
		t.Fatalf("cleaning with %+v, Jobs %v", cleaning.Status, f.jobNames())
	}
	last := &wire.JobInput{
		Operation: wire.OperationDropRestore, Tables: &wire.Tables{Restore: "0a1b2c3d-1111-2222-3333-444455556666"},
		Primary: "db-mysql.shop.svc:3306", User: "root", Password: "pass", CA: "PEM",
	}
	if diff := cmp.Diff(last, f.input()); diff != "" {
		t.Errorf("input of the last Job (-want +got):\n%s", diff)
	}
	f.podEnds(dropped)
	done := f.steps()
	if done.Status.Phase != v1beta1.RestoreSucceeded || !apimeta.IsStatusConditionTrue(done.Status.Conditions, v1beta1.ConditionComplete) || !strings.Contains(done.Status.Message, "trigger t") {
		t.Errorf("done with %+v", done.Status)
	}
	if left := f.jobNames(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWhatCannotBeRestoredSaysWhy(t *testing.T) {
	cases := map[string]struct {
		change func(r *v1beta1.MySQLRestore, b *v1beta1.MySQLBackup, c *v1beta1.MySQLCluster)
		drop   string
		phase  v1beta1.RestorePhase
		reason string
		says   []string
	}{
		"another cluster": {func(r *v1beta1.MySQLRestore, _ *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			r.Spec.ClusterName = "db2"
		}, "", v1beta1.RestorePending, "ClusterNotFound", []string{"spec.clusterName", "db2"}},
		"a cluster that is not available": {func(_ *v1beta1.MySQLRestore, _ *v1beta1.MySQLBackup, c *v1beta1.MySQLCluster) {
			c.Status.Conditions = nil
		}, "", v1beta1.RestorePending, "ClusterNotAvailable", []string{"db"}},
		"no backup": {func(r *v1beta1.MySQLRestore, _ *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			r.Spec.Source.BackupName = "second"
		}, "", v1beta1.RestorePending, "BackupMissing", []string{"spec.source.backupName", "second"}},
		"a backup that is not ready": {func(_ *v1beta1.MySQLRestore, b *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			b.Status.Phase = v1beta1.BackupRunning
		}, "", v1beta1.RestorePending, "BackupNotReady", []string{"first"}},
		"a dump": {func(_ *v1beta1.MySQLRestore, b *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			b.Spec.Method = v1beta1.Logical
		}, "", v1beta1.RestoreFailed, "SourceInvalid", []string{"first", "dump"}},
		"an encrypted backup without a key": {func(_ *v1beta1.MySQLRestore, b *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			b.Spec.Encryption = &v1beta1.Encryption{}
		}, "", v1beta1.RestoreFailed, "SourceInvalid", []string{"spec.source.identitySecretRef"}},
		"no Secret of the store": {nil, "keys", v1beta1.RestorePending, "SecretMissing", []string{"keys", "accessKeyID"}},
		"no key of the archive's store": {func(r *v1beta1.MySQLRestore, _ *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			r.Spec.Source.ArchiveStore = &v1beta1.Store{S3: &v1beta1.S3Store{Bucket: "other", CredentialsSecretRef: corev1.LocalObjectReference{Name: "others"}}}
		}, "", v1beta1.RestorePending, "SecretMissing", []string{"spec.source.archiveStore", "others"}},
		"no login yet": {nil, "db-mysql-account-root", v1beta1.RestorePending, "LoginMissing", []string{"db-mysql-account-root"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			restored, backup, cluster := newRestore(), newBackup(), newCluster()
			if c.change != nil {
				c.change(restored, backup, cluster)
			}
			f := newFixture(t, restored, backup, cluster, around(cluster)...)
			if c.drop != "" {
				if err := f.kubernetes.CoreV1().Secrets("shop").Delete(t.Context(), c.drop, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			got := f.steps()
			if reason := reasonOf(&got.Status); got.Status.Phase != c.phase || reason != c.reason || len(f.jobNames()) != 0 {
				t.Fatalf("phase %s, reason %s, Jobs %v", got.Status.Phase, reason, f.jobNames())
			}
			for _, text := range c.says {
				if !strings.Contains(got.Status.Message, text) {
					t.Errorf("%q does not name %q", got.Status.Message, text)
				}
			}
		})
	}
}

func TestFailedAttemptsAreFollowedByOthersUntilTheLast(t *testing.T) {
	f := prepared(t)
	for n := int32(1); n < maxFailures; n++ {
		f.steps()
		f.podEnds(&wire.JobResult{Reason: wire.ReasonInternal, Message: "the primary went away"})
		if failed := f.steps(); failed.Status.Failures != n || failed.Status.Attempts != n || failed.Status.Phase != v1beta1.RestorePending || len(f.jobNames()) != 0 {
			t.Fatalf("after failure %d: %+v, Jobs %v", n, failed.Status, f.jobNames())
		}
		f.podGoes()
		f.clock = f.clock.Add(pause(n) - time.Second)
		if f.steps(); len(f.jobNames()) != 0 {
			t.Fatalf("attempt %d began before its time", n+1)
		}
		f.clock = f.clock.Add(2 * time.Second)
	}
	f.steps()
	f.podEnds(nil)
	f.steps()
	f.podEnds(dropped)
	if last := f.steps(); last.Status.Phase != v1beta1.RestoreFailed || last.Status.CompletedAt == nil || len(f.jobNames()) != 0 {
		t.Errorf("in the end %+v, Jobs %v", last.Status, f.jobNames())
	}
}

func TestWhatIsRefusedIsNotTriedAgain(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podEnds(&wire.JobResult{Reason: wire.ReasonRefused, Message: "table `shop`.`orders` exists"})
	f.steps()
	f.podEnds(dropped)
	if got := f.steps(); got.Status.Phase != v1beta1.RestoreFailed || got.Status.Message != "table `shop`.`orders` exists" {
		t.Errorf("it is %+v", got.Status)
	}
}

// The last attempt put the tables into their places, and its result was lost.
func TestASuccessThatNobodyToldIsFoundInTheCluster(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podEnds(&wire.JobResult{Reason: wire.ReasonRefused, Message: "no"})
	f.steps()
	f.podEnds(&wire.JobResult{Succeeded: true, Tables: 3})
	if got := f.steps(); got.Status.Phase != v1beta1.RestoreSucceeded || got.Status.Tables != 3 || reasonOf(&got.Status) != "Restored" {
		t.Errorf("it is %+v", got.Status)
	}
}

func TestRemainsThatCannotBeDroppedAreNamed(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podEnds(whole)
	for n := int32(1); n <= maxDrops; n++ {
		f.steps()
		for _, j := range f.allJobs() {
			f.podOf(&j, &wire.JobResult{Reason: wire.ReasonInternal, Message: "locked"})
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(f.clock)}}
			if _, err := f.kubernetes.BatchV1().Jobs("shop").UpdateStatus(t.Context(), &j, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		f.steps()
		f.clock = f.clock.Add(pause(n) + time.Second)
	}
	got := f.steps()
	if got.Status.Phase != v1beta1.RestoreSucceeded || !strings.Contains(got.Status.Message, "moco_restore_0a1b2c3d") {
		t.Errorf("it is %+v, Jobs %v", got.Status, f.jobNames())
	}
}

func TestAClusterThatIsMadeAnewIsNotMixedIn(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podEnds(nil)
	f.steps()
	f.podGoes()
	anew := newCluster()
	anew.UID = "another-uid"
	if _, err := f.moco.MocoV1beta1().MySQLClusters("shop").Update(t.Context(), anew, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	f.clock = f.clock.Add(time.Hour)
	if got := f.steps(); got.Status.Phase != v1beta1.RestoreFailed || !strings.Contains(got.Status.Message, "made anew") {
		t.Errorf("it is %+v", got.Status)
	}
}

func TestAJobThatIsGoneIsAFailedAttempt(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podRuns()
	f.steps()
	if err := f.kubernetes.BatchV1().Jobs("shop").Delete(t.Context(), "back-restore-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.podGoes()
	if got := f.steps(); got.Status.Failures != 1 || got.Status.LastFailure.Reason != string(wire.ReasonInterrupted) {
		t.Errorf("it is %+v", got.Status)
	}
}
