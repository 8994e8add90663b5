// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// deleted is a fixture whose backup is being deleted after it came to a phase.
func deleted(t *testing.T, phase v1beta1.BackupPhase, change func(b *v1beta1.MySQLBackup)) *fixture {
	t.Helper()
	b, cluster := newBackup(), newCluster()
	b.Finalizers, b.DeletionTimestamp = []string{v1beta1.FinalizerBackup}, new(metav1.Now())
	b.Status = v1beta1.MySQLBackupStatus{Phase: phase, ID: idOf(b), ClusterUID: "cluster-uid", Attempts: 1, JobName: "first-1"}
	if phase == v1beta1.BackupSucceeded {
		b.Status.Location = "somewhere"
	}
	if change != nil {
		change(b)
	}
	return newFixture(t, b, cluster, around(cluster)...)
}

// gone reports whether the object was let go. The fake keeps objects without finalizers.
func gone(b *v1beta1.MySQLBackup) bool { return b == nil || !held(b) }

func TestWhatIsStoredIsDeletedWithTheObject(t *testing.T) {
	f := deleted(t, v1beta1.BackupSucceeded, nil)
	if got := f.steps(); got.Status.Phase != v1beta1.BackupDeleting || gone(got) {
		t.Fatalf("it is %+v", got)
	}
	in := f.input()
	if in.Operation != wire.OperationDelete || in.Backup != "20260320T115900Z-0a1b2c3d" || in.Cluster.UID != "cluster-uid" || in.Password != "" {
		t.Errorf("the Job is told %+v", in)
	}
	f.podEnds(&wire.JobResult{Succeeded: true})
	if got := f.steps(); !gone(got) {
		t.Errorf("it is kept: %+v", got.Status)
	}
}

func TestACopyOfAnObjectDeletesWhatItsStatusNames(t *testing.T) {
	const id = "20250101T000000Z-99999999"
	f := deleted(t, v1beta1.BackupSucceeded, func(b *v1beta1.MySQLBackup) { b.Status.ID = id })
	f.steps()
	if got := f.input().Backup; got != id {
		t.Errorf("the Job deletes %s", got)
	}
}

func TestADeletionThatFailsIsTriedAgain(t *testing.T) {
	f := deleted(t, v1beta1.BackupSucceeded, nil)
	f.steps()
	for n := int32(1); n <= maxVainDeletions+1; n++ {
		f.podEnds(&wire.JobResult{Reason: wire.ReasonStore, Message: "no answer"})
		got := f.steps()
		if gone(got) || !strings.Contains(got.Status.Message, "no answer") || !strings.Contains(got.Status.Message, "deletionPolicy") {
			t.Fatalf("after failure %d: %+v", n, got.Status)
		}
		job := f.allJobs()[0]
		job.Status.Conditions = append(job.Status.Conditions, failedAt(f.clock))
		if _, err := f.kubernetes.BatchV1().Jobs("shop").Update(t.Context(), &job, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.clock = f.clock.Add(pause(n))
		f.steps()
		f.podGoes()
		f.steps()
	}
	f.podEnds(&wire.JobResult{Succeeded: true})
	if got := f.steps(); !gone(got) {
		t.Errorf("it is kept: %+v", got.Status)
	}
}

func TestNothingIsDeletedWhileAnAttemptMayStoreMore(t *testing.T) {
	f := prepared(t)
	f.steps()
	f.podRuns()
	b := f.steps()
	b.DeletionTimestamp = new(metav1.Now())
	f.change(b)
	got := f.steps()
	if got.Status.Phase != v1beta1.BackupDeleting || !strings.Contains(got.Status.Message, "first-1-x") || len(f.jobNames()) != 0 {
		t.Fatalf("it is %+v, Jobs %v", got.Status, f.jobNames())
	}
	f.podGoes()
	f.steps()
	if names := f.jobNames(); len(names) != 1 || names[0] != "first-delete-1" {
		t.Errorf("Jobs %v", names)
	}
}

func TestSomeBackupsAreLetGoAtOnce(t *testing.T) {
	cases := map[string]func(b *v1beta1.MySQLBackup){
		"it is to be kept":  func(b *v1beta1.MySQLBackup) { b.Spec.DeletionPolicy = v1beta1.DeletionKeep },
		"nothing was begun": func(b *v1beta1.MySQLBackup) { b.Status = v1beta1.MySQLBackupStatus{Phase: v1beta1.BackupPending} },
		"the volume that held it is gone": func(b *v1beta1.MySQLBackup) {
			b.Spec.Store = v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "vault"}}
		},
		"it failed, and the store cannot be reached": func(b *v1beta1.MySQLBackup) {
			b.Status.Phase, b.Status.Location = v1beta1.BackupFailed, ""
			b.Spec.Store.S3.CredentialsSecretRef.Name = "lost"
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			f := deleted(t, v1beta1.BackupSucceeded, change)
			if got := f.steps(); !gone(got) || len(f.jobNames()) != 0 {
				t.Errorf("it is kept: %+v, Jobs %v", got, f.jobNames())
			}
		})
	}
}

func TestABackupWithoutItsSecretIsNotForgotten(t *testing.T) {
	f := deleted(t, v1beta1.BackupSucceeded, func(b *v1beta1.MySQLBackup) { b.Spec.Store.S3.CredentialsSecretRef.Name = "lost" })
	if got := f.steps(); gone(got) || !strings.Contains(got.Status.Message, "lost") || !strings.Contains(got.Status.Message, "Keep") || len(f.jobNames()) != 0 {
		t.Errorf("it is %+v, Jobs %v", got, f.jobNames())
	}
}

func TestRemainsOfAFailedBackupAreTriedAFewTimes(t *testing.T) {
	f := deleted(t, v1beta1.BackupFailed, nil)
	f.steps()
	for range maxVainDeletions {
		f.podEnds(&wire.JobResult{Reason: wire.ReasonStore, Message: "no answer"})
		f.steps()
		if f.clock = f.clock.Add(time.Hour); len(f.jobNames()) == 0 {
			break
		}
		job := f.allJobs()[0]
		job.Status.Conditions = append(job.Status.Conditions, failedAt(f.clock.Add(-time.Hour)))
		if _, err := f.kubernetes.BatchV1().Jobs("shop").Update(t.Context(), &job, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		f.steps()
		f.podGoes()
	}
	if got := f.steps(); !gone(got) {
		t.Errorf("it is kept: %+v", got.Status)
	}
}

// In a namespace that is being deleted nothing can be made, and a finalizer would keep it for ever.
func TestABackupDoesNotHoldUpItsNamespace(t *testing.T) {
	cases := map[string]func(b *v1beta1.MySQLBackup){
		"all that its deletion needs is there": nil,
		"its Secret has gone already":          func(b *v1beta1.MySQLBackup) { b.Spec.Store.S3.CredentialsSecretRef.Name = "lost" },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			f := deleted(t, v1beta1.BackupSucceeded, change)
			f.kubernetes.PrependReactor("create", "jobs", func(clienttesting.Action) (bool, runtime.Object, error) {
				err := &apierrors.StatusError{ErrStatus: metav1.Status{
					Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
					Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}},
				}}
				return true, nil, err
			})
			if got := f.steps(); !gone(got) {
				t.Errorf("it is kept: %+v", got.Status)
			}
		})
	}
}
