// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

var whole = &wire.JobResult{Succeeded: true, Location: "shop/db/cluster-uid/backups/x/manifest.json", Bytes: 9, StoredBytes: 3, Tables: 2}

// prepared is a fixture whose backup can begin.
func prepared(t *testing.T) *fixture {
	t.Helper()
	cluster := newCluster()
	return newFixture(t, newBackup(), cluster, around(cluster)...)
}

func TestABackupIsMadeAndClearedUp(t *testing.T) {
	f := prepared(t)
	begun := f.steps()
	if begun.Status.Phase != v1beta1.BackupPending || begun.Status.Attempts != 1 || begun.Status.JobName != "first-1" || !held(begun) {
		t.Fatalf("begun with %+v", begun.Status)
	}
	if begun.Status.ID != "20260320T115900Z-0a1b2c3d" || begun.Status.ClusterUID != "cluster-uid" {
		t.Errorf("stored as %s of %s", begun.Status.ID, begun.Status.ClusterUID)
	}
	in := f.input()
	in.Attempt = ""
	want := &wire.JobInput{
		Operation: wire.OperationBackup, Backup: begun.Status.ID, Cluster: wire.ClusterKey{Namespace: "shop", Name: "db", UID: "cluster-uid"},
		Store:   wire.Store{Provider: wire.ProviderS3, Bucket: "vault", Credentials: map[string]string{"accessKeyID": "me", "secretAccessKey": "secret"}},
		Donors:  []wire.Donor{{Name: "db-mysql-2", Address: "10.0.0.2", Port: 3306}, {Name: "db-mysql-1", Address: "10.0.0.1", Port: 3306}},
		Primary: "db-mysql.shop.svc:3306", User: "moco-dataprotection", Password: "pass", CA: "PEM", MyCnf: "[mysqld]",
	}
	if diff := cmp.Diff(want, in); diff != "" {
		t.Errorf("input (-want +got):\n%s", diff)
	}
	f.answer = wire.JobProgress{Stage: "sending", BytesDone: 50, BytesTotal: 100, StageSeconds: 5, Donor: "db-mysql-2"}
	f.podRuns()
	running := f.steps()
	if p := running.Status.Progress; running.Status.Phase != v1beta1.BackupRunning || p == nil || p.BytesPerSecond != 10 || *p.RemainingSeconds != 5 {
		t.Errorf("running with %+v", running.Status)
	}
	f.podEnds(whole)
	done := f.steps()
	if done.Status.Phase != v1beta1.BackupSucceeded || !apimeta.IsStatusConditionTrue(done.Status.Conditions, v1beta1.ConditionComplete) || done.Status.Progress != nil {
		t.Errorf("done with %+v", done.Status)
	}
	if left := f.jobNames(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAProgressIsAskedForEveryTwoSeconds(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podRuns()
	f.answer = wire.JobProgress{Stage: "one"}
	f.steps()
	f.answer = wire.JobProgress{Stage: "two"}
	if got := f.steps().Status.Progress.Stage; got != "one" {
		t.Errorf("asked again at once: %s", got)
	}
	f.clock = f.clock.Add(2 * time.Second)
	if got := f.steps().Status.Progress.Stage; got != "two" {
		t.Errorf("not asked again: %s", got)
	}
}

func TestWhatCannotBeBackedUpSaysWhy(t *testing.T) {
	cases := map[string]struct {
		change func(b *v1beta1.MySQLBackup, c *v1beta1.MySQLCluster)
		drop   string
		reason string
		says   []string
	}{
		"another cluster": {func(b *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) { b.Spec.ClusterName = "db2" }, "", "ClusterNotFound", []string{"spec.clusterName", "db2", "shop"}},
		"not initialised": {func(_ *v1beta1.MySQLBackup, c *v1beta1.MySQLCluster) { c.Status.Conditions = nil }, "", "ClusterNotInitialized", []string{"db"}},
		"no primary":      {func(_ *v1beta1.MySQLBackup, c *v1beta1.MySQLCluster) { c.Status.Instances[0].State = v1beta1.StateDown }, "", "NoPrimary", []string{"db"}},
		"no Secret":       {nil, "keys", "SecretMissing", []string{"spec.store.s3.credentialsSecretRef", "keys", "accessKeyID"}},
		"no recipients": {func(b *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			b.Spec.Encryption = &v1beta1.Encryption{RecipientsSecretRef: corev1.LocalObjectReference{Name: "age"}}
		}, "", "SecretMissing", []string{"spec.encryption", "age"}},
		"no claim": {func(b *v1beta1.MySQLBackup, _ *v1beta1.MySQLCluster) {
			b.Spec.Store = v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "vault"}}
		}, "", "ClaimNotFound", []string{"spec.store.volume.claimName", "vault"}},
		"no login yet": {nil, "db-mysql-account-moco-dataprotection", "LoginMissing", []string{"db-mysql-account-moco-dataprotection"}},
		"a cluster that goes": {func(_ *v1beta1.MySQLBackup, c *v1beta1.MySQLCluster) {
			c.DeletionTimestamp = new(metav1.Now())
			c.Finalizers = []string{"x"}
		}, "", "ClusterDeleted", []string{"db"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			backup, cluster := newBackup(), newCluster()
			if c.change != nil {
				c.change(backup, cluster)
			}
			f := newFixture(t, backup, cluster, around(cluster)...)
			if c.drop != "" {
				if err := f.kubernetes.CoreV1().Secrets("shop").Delete(t.Context(), c.drop, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			got := f.steps()
			complete := apimeta.FindStatusCondition(got.Status.Conditions, v1beta1.ConditionComplete)
			if got.Status.Phase != v1beta1.BackupPending || complete == nil || complete.Status != metav1.ConditionFalse || complete.Reason != c.reason {
				t.Fatalf("phase %s, condition %+v", got.Status.Phase, complete)
			}
			for _, text := range c.says {
				if !strings.Contains(got.Status.Message, text) {
					t.Errorf("%q does not name %q", got.Status.Message, text)
				}
			}
			if len(f.jobNames()) != 0 {
				t.Errorf("a Job was made: %v", f.jobNames())
			}
		})
	}
}

func TestFailedAttemptsAreFollowedByOthersUntilTheLast(t *testing.T) {
	f := prepared(t)
	for n := int32(1); n <= maxFailures; n++ {
		f.steps()
		if n%2 == 0 {
			f.podEnds(nil)
		} else {
			f.podEnds(&wire.JobResult{Reason: wire.ReasonStore, Message: "no such bucket: vault"})
		}
		failed := f.steps()
		if failed.Status.Failures != n || failed.Status.Attempts != n || len(f.jobNames()) != 0 {
			t.Fatalf("after failure %d: %+v, Jobs %v", n, failed.Status, f.jobNames())
		}
		f.podGoes()
		f.clock = f.clock.Add(pause(n) - time.Second)
		if f.steps(); len(f.jobNames()) != 0 {
			t.Fatalf("attempt %d began before its time", n+1)
		}
		f.clock = f.clock.Add(2 * time.Second)
	}
	last := f.steps()
	if last.Status.Phase != v1beta1.BackupFailed || last.Status.CompletedAt == nil || len(f.jobNames()) != 0 {
		t.Errorf("in the end %+v, Jobs %v", last.Status, f.jobNames())
	}
}

func TestWhatIsRefusedIsNotTriedAgain(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podEnds(&wire.JobResult{Reason: wire.ReasonRefused, Message: "too small"})
	if got := f.steps(); got.Status.Phase != v1beta1.BackupFailed || got.Status.Message != "too small" {
		t.Errorf("it is %+v", got.Status)
	}
}

func TestABusyDonorIsWaitedForAnHour(t *testing.T) {
	f := prepared(t)
	for range 3 {
		f.steps()
		f.podEnds(&wire.JobResult{Reason: wire.ReasonDonorBusy, Message: "db-mysql-2 serves another clone"})
		got := f.steps()
		if got.Status.Failures != 0 || got.Status.Phase != v1beta1.BackupPending {
			t.Fatalf("it counts: %+v", got.Status)
		}
		f.podGoes()
		f.clock = f.clock.Add(busyPause)
	}
	f.steps()
	f.clock = f.clock.Add(busyMost)
	f.podEnds(&wire.JobResult{Reason: wire.ReasonDonorBusy, Message: "still"})
	if got := f.steps(); got.Status.Phase != v1beta1.BackupFailed {
		t.Errorf("it goes on waiting: %+v", got.Status)
	}
}

func TestAJobThatIsGoneIsAFailedAttempt(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podRuns()
	f.steps()
	if err := f.kubernetes.BatchV1().Jobs("shop").Delete(t.Context(), "first-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.podGoes()
	got := f.steps()
	if got.Status.Failures != 1 || got.Status.LastFailure.Reason != string(wire.ReasonInterrupted) {
		t.Errorf("it is %+v", got.Status)
	}
}

func TestACacheThatIsBehindCostsNoAttempt(t *testing.T) {
	f := prepared(t)
	for len(f.jobNames()) == 0 {
		f.refresh()
		f.step()
	}
	f.refreshKinds() // the status names the Job, the cache of Jobs lacks it
	got := f.step()
	if got.Status.Failures != 0 || got.Status.Attempts != 1 || len(f.jobNames()) != 1 {
		t.Errorf("it is %+v, Jobs %v", got.Status, f.jobNames())
	}
}

func TestAForeignSecretIsNotTakenForTheInput(t *testing.T) {
	f := prepared(t)
	foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "first-1"}}
	if _, err := f.kubernetes.CoreV1().Secrets("shop").Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := f.steps(); !strings.Contains(got.Status.Message, "Secret first-1") || len(f.jobNames()) != 0 {
		t.Errorf("it is %+v, Jobs %v", got.Status, f.jobNames())
	}
}

// The Job is made, the status is not written: as after a crash of the controller.
func TestAJobOfBeforeACrashIsAttended(t *testing.T) {
	f := prepared(t)
	var before *v1beta1.MySQLBackup
	for len(f.jobNames()) == 0 {
		f.refresh()
		before, _ = f.backups.MySQLBackups("shop").Get("first")
		f.step()
	}
	if err := f.kubernetes.CoreV1().Secrets("shop").Delete(t.Context(), "first-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.change(before)
	got := f.steps()
	if got.Status.Attempts != 1 || got.Status.JobName != "first-1" || len(f.jobNames()) != 1 {
		t.Errorf("it is %+v, Jobs %v", got.Status, f.jobNames())
	}
	if f.input().Backup != got.Status.ID {
		t.Error("the Job has no input")
	}
}

// As after a crash between the Job and its Secret, in which the cluster went.
func TestAJobThatCanNeverHaveItsInputIsGivenUp(t *testing.T) {
	f := prepared(t)
	f.steps()
	if err := f.kubernetes.CoreV1().Secrets("shop").Delete(t.Context(), "first-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := f.moco.MocoV1beta1().MySQLClusters("shop").Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := f.steps(); got.Status.Phase != v1beta1.BackupFailed || len(f.jobNames()) != 0 {
		t.Errorf("it is %+v, Jobs %v", got.Status, f.jobNames())
	}
}

func TestTheVolumeOfAnInstanceIsNoStore(t *testing.T) {
	cluster, backup := newCluster(), newBackup()
	claim := render.Claim(cluster, 1)
	backup.Spec.Store = v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: claim.Name}}
	f := newFixture(t, backup, cluster, append(around(cluster), claim)...)
	if got := f.steps(); got.Status.Phase != v1beta1.BackupFailed || !strings.Contains(got.Status.Message, claim.Name) || len(f.jobNames()) != 0 {
		t.Errorf("it is %+v, Jobs %v", got.Status, f.jobNames())
	}
}

func TestAJobThatIsRefusedSaysWhy(t *testing.T) {
	f := prepared(t)
	f.kubernetes.PrependReactor("create", "jobs", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(batchv1.Resource("jobs"), "first-1", errors.New("exceeded quota: compute"))
	})
	for range 4 {
		f.refresh()
		if _, err := f.sync(t.Context(), cache.NewObjectName("shop", "first")); err != nil && !apierrors.IsForbidden(err) {
			t.Fatal(err)
		}
	}
	got, err := f.moco.MocoV1beta1().MySQLBackups("shop").Get(t.Context(), "first", metav1.GetOptions{})
	if err != nil || !strings.Contains(got.Status.Message, "exceeded quota") {
		t.Errorf("it says %q, %v", got.Status.Message, err)
	}
}

// The cache shows that the Job is over but not yet the end of its Pod: the API server is asked.
func TestAResultIsLookedUpBeforeItIsMissed(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podRuns()
	f.refresh()
	f.podEnds(whole)
	over := f.allJobs()[0]
	over.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	if err := f.from.Jobs.Batch().V1().Jobs().Informer().GetIndexer().Update(&over); err != nil {
		t.Fatal(err)
	}
	if got := f.step(); got.Status.Phase != v1beta1.BackupSucceeded {
		t.Errorf("it is %+v", got.Status)
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
	if got := f.steps(); got.Status.Phase != v1beta1.BackupFailed || !strings.Contains(got.Status.Message, "made anew") {
		t.Errorf("it is %+v", got.Status)
	}
}

func TestDonorsAreReplicasFirst(t *testing.T) {
	cases := map[string]struct {
		source   v1beta1.BackupSource
		failures int32
		change   func(c *v1beta1.MySQLCluster)
		want     []string
	}{
		"the one that is least behind first":   {v1beta1.SourcePreferReplica, 0, nil, []string{"db-mysql-2", "db-mysql-1"}},
		"the primary if it is asked for":       {v1beta1.SourcePrimary, 0, nil, []string{"db-mysql-0"}},
		"the primary last after two failures":  {v1beta1.SourcePreferReplica, 2, nil, []string{"db-mysql-2", "db-mysql-1", "db-mysql-0"}},
		"an unknown lag is the longest":        {v1beta1.SourcePreferReplica, 0, func(c *v1beta1.MySQLCluster) { c.Status.Instances[2].LagSeconds = nil }, []string{"db-mysql-1", "db-mysql-2"}},
		"one that catches up is no donor":      {v1beta1.SourcePreferReplica, 0, func(c *v1beta1.MySQLCluster) { c.Status.Instances[2].State = v1beta1.StateCatchingUp }, []string{"db-mysql-1"}},
		"the primary if no replica serves":     {v1beta1.SourcePreferReplica, 0, func(c *v1beta1.MySQLCluster) { c.Status.Instances = c.Status.Instances[:1] }, []string{"db-mysql-0"}},
		"an instance without a Pod is skipped": {v1beta1.SourcePreferReplica, 0, func(c *v1beta1.MySQLCluster) { c.Status.Instances[2].Name = "db-mysql-7" }, []string{"db-mysql-1"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster()
			f := newFixture(t, newBackup(), cluster, around(cluster)...)
			if c.change != nil {
				c.change(cluster)
			}
			var got []string
			for _, d := range Donors(cluster, f.pods.Pods("shop"), c.source, c.failures) {
				got = append(got, d.Name)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("donors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPausesGrowToTenMinutes(t *testing.T) {
	want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 10 * time.Minute, 10 * time.Minute}
	for n, w := range want {
		if got := pause(int32(n + 1)); got != w {
			t.Errorf("after failure %d: %s, want %s", n+1, got, w)
		}
	}
}
