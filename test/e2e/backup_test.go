// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// archived is a cluster with a backup and an archive, and what its client was told.
type archived struct {
	*fixture
	store  v1beta1.Store
	uid    string
	load   *load
	points []point
}

// TestBackup lives with a cluster that archives, destroys it, and restores it to many moments of its life.
func TestBackup(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-backup"), name: "shop"}
	a := &archived{fixture: f}
	if !scenario(t, "a cluster archives its binary log", a.create) {
		t.Fatal("without an archive there is nothing to restore")
	}
	a.load = f.load(t, "orders", a.elsewhere(t, a.healthy(t).Status.Primary)) // it lives as long as this test
	for _, s := range []struct {
		name string
		body func(*testing.T)
	}{
		{"a backup under load, with its Pod killed once", a.backUp},
		{"primaries are killed while archiving", a.failOver},
		{"a table is dropped by mistake", a.dropTable},
		{"a backup with wrong credentials fails and says so", a.wrongCredentials},
		{"the cluster and its volumes are destroyed", a.destroy},
		{"what cannot be reached is refused and nothing starts", a.refused},
		{"restored to each moment it holds exactly what was committed until then", a.restoreAll},
		{"the dropped table is back", a.undo},
		{"a schedule makes backups, tries them, and deletes old ones", a.schedule},
	} {
		if !scenario(t, s.name, s.body) {
			t.Fatal("what follows needs what was made here")
		}
	}
}

func (a *archived) create(t *testing.T) {
	a.store = a.Bucket(t, a.namespace, "e2e-backup")
	cluster := world.Cluster(a.namespace, a.name, 3)
	cluster.Spec.Storage.Retain = v1beta1.RetainDelete
	cluster.Spec.Backup = &v1beta1.ClusterBackup{Archive: &v1beta1.Archive{Store: a.store, IntervalSeconds: 1}}
	a.uid = string(a.Create(t, cluster).UID)
	a.healthy(t)
	a.Condition(t, a.namespace, a.name, v1beta1.ConditionArchiving, metav1.ConditionTrue, time.Minute)
}

// backUp makes a backup while a client writes. The Pod of the first attempt is killed; the second one is a new Job.
func (a *archived) backUp(t *testing.T) {
	backup := &v1beta1.MySQLBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: "first"},
		Spec: v1beta1.MySQLBackupSpec{ClusterName: a.name, BackupTemplate: v1beta1.BackupTemplate{
			Store: a.store, DeletionPolicy: v1beta1.DeletionKeep,
		}},
	}
	a.CreateBackup(t, backup)
	a.BackupPhase(t, a.namespace, "first", v1beta1.BackupRunning)
	a.killBackupPod(t, "first")
	done := a.BackupPhase(t, a.namespace, "first", v1beta1.BackupSucceeded)
	if done.Status.Attempts < 2 {
		a.Fatal(t, a.namespace, "the backup succeeded at attempt %d although its Pod was killed", done.Status.Attempts)
	}
	if done.Status.StoredBytes == 0 || done.Status.Tables == 0 || done.Status.ConsistentAt == nil {
		a.Fatal(t, a.namespace, "the status tells too little: %+v", done.Status)
	}
	a.mark(t, "right after the backup")
}

// killBackupPod deletes the Pod of a running attempt at once.
func (a *archived) killBackupPod(t *testing.T, backup string) {
	t.Helper()
	a.Eventually(t, a.namespace, "a Pod that makes the backup", time.Minute, func(ctx context.Context) error {
		found, err := a.Backup(ctx, a.namespace, backup)
		if err != nil {
			return err
		}
		pods, err := a.Kubernetes.CoreV1().Pods(a.namespace).List(ctx, metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=" + found.Status.JobName})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning {
				_, err := a.Kubectl(ctx, "delete", "pod", "-n", a.namespace, pod.Name, "--grace-period=0", "--force", "--wait=false")
				return err
			}
		}
		return fmt.Errorf("no Pod of Job %q is running", found.Status.JobName)
	})
}

// failOver loses the primary twice, and remembers moments around it.
func (a *archived) failOver(t *testing.T) {
	led := map[string]bool{a.healthy(t).Status.Primary: true}
	for n := 0; n < mostKills && len(led) < 3; n++ {
		before := a.healthy(t)
		a.mark(t, fmt.Sprintf("before kill %d", n+1))
		a.kill(t, before.Status.Primary)
		a.mark(t, fmt.Sprintf("during kill %d", n+1))
		a.reopened(t, before)
		a.acknowledged(t, a.load.service, 20)
		a.mark(t, fmt.Sprintf("after kill %d", n+1))
		led[a.healthy(t).Status.Primary] = true
		for m := range 3 {
			a.acknowledged(t, a.load.service, 30)
			a.mark(t, fmt.Sprintf("later %d after kill %d", m+1, n+1))
		}
	}
	if len(led) < 2 {
		a.Fatal(t, a.namespace, "%d kills made nobody else the primary", mostKills)
	}
}

// mostKills bounds the kills that are to make two others lead. On a busy machine the killed one may lead again itself, when
// the receiver of a replica does not stop in time; and a third may have led before.
const mostKills = 4

// reopened waits until an epoch after the one before was opened.
func (a *archived) reopened(t *testing.T, before *v1beta1.MySQLCluster) {
	t.Helper()
	a.Eventually(t, a.namespace, "a later epoch", transitionWithin, func(ctx context.Context) error {
		now, err := a.Get(ctx, a.namespace, a.name)
		if err == nil && (now.Status.Replication.Epoch <= before.Status.Replication.Epoch || now.Status.Replication.Phase != v1beta1.RecordOpened) {
			err = fmt.Errorf("epoch %d is %s", now.Status.Replication.Epoch, now.Status.Replication.Phase)
		}
		return err
	})
}

// wrongCredentials makes a backup that cannot succeed.
func (a *archived) wrongCredentials(t *testing.T) {
	a.StoreSecret(t, a.namespace, "wrong", map[string]string{"accessKeyID": "nobody", "secretAccessKey": "nothing"})
	store := *a.store.DeepCopy()
	store.S3.CredentialsSecretRef.Name = "wrong"
	a.CreateBackup(t, &v1beta1.MySQLBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: "wrong"},
		Spec:       v1beta1.MySQLBackupSpec{ClusterName: a.name, BackupTemplate: v1beta1.BackupTemplate{Store: store}},
	})
	a.Eventually(t, a.namespace, "the backup says that the store refuses it", 2*time.Minute, func(ctx context.Context) error {
		backup, err := a.Backup(ctx, a.namespace, "wrong")
		if err != nil {
			return err
		}
		if !strings.Contains(backup.Status.Message, "e2e-backup") || backup.Status.Phase == v1beta1.BackupSucceeded {
			return fmt.Errorf("it is %s: %q", backup.Status.Phase, backup.Status.Message)
		}
		return nil
	})
}

// destroy removes the cluster with its volumes, and the object of its backup. The store is all that is left.
func (a *archived) destroy(t *testing.T) {
	cluster := a.healthy(t)
	a.Eventually(t, a.namespace, "everything is archived", time.Minute, func(ctx context.Context) error {
		now, err := a.Get(ctx, a.namespace, a.name)
		if err != nil {
			return err
		}
		last := a.points[len(a.points)-1].at
		if now.Status.Archive == nil || now.Status.Archive.RecoverableUpTo == nil || !now.Status.Archive.RecoverableUpTo.After(last) {
			return fmt.Errorf("the archive is at %+v, the last moment to restore at %s", now.Status.Archive, last)
		}
		return nil
	})
	if gap := must(a.Get(t.Context(), a.namespace, a.name))(t).Status.Archive.Gap; gap != "" {
		a.Fatal(t, a.namespace, "the archive has a gap: %s", gap)
	}
	must(a.Kubectl(t.Context(), "delete", "mysqlcluster", "-n", a.namespace, cluster.Name, "--timeout=120s"))(t)
	must(a.Kubectl(t.Context(), "delete", "mysqlbackup", "-n", a.namespace, "--all", "--timeout=120s"))(t)
	a.Eventually(t, a.namespace, "nothing of the cluster is left", 2*time.Minute, func(ctx context.Context) error {
		claims, err := a.Kubernetes.CoreV1().PersistentVolumeClaims(a.namespace).List(ctx, metav1.ListOptions{LabelSelector: v1beta1.LabelCluster + "=" + a.name})
		if err == nil && len(claims.Items) > 0 {
			err = fmt.Errorf("%d claims are left", len(claims.Items))
		}
		return err
	})
}

// schedule makes a backup of a restored cluster on request, tries it, and deletes the one before it.
func (a *archived) schedule(t *testing.T) {
	name := a.survivor(t)
	schedules := a.Moco.MocoV1beta1().MySQLBackupSchedules(a.namespace)
	days := int32(0)
	schedule := &v1beta1.MySQLBackupSchedule{
		ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: "nightly", Annotations: map[string]string{v1beta1.AnnotationBackupNow: "1"}},
		Spec: v1beta1.MySQLBackupScheduleSpec{
			ClusterName: name, Schedule: "0 3 * * *", TimeZone: "Europe/Berlin",
			Template:  v1beta1.BackupTemplate{Store: a.store},
			Retention: v1beta1.Retention{Count: 1, Days: &days},
			Verify:    &v1beta1.Verify{Schedule: "* * * * *"},
		},
	}
	if _, err := schedules.Create(t.Context(), schedule, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	first := a.scheduled(t, "1")
	a.BackupPhase(t, a.namespace, first, v1beta1.BackupSucceeded)
	a.Eventually(t, a.namespace, "the backup is tried", 4*time.Minute, func(ctx context.Context) error {
		now, err := schedules.Get(ctx, "nightly", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if v := now.Status.LastVerified; v == nil || !v.Succeeded {
			return fmt.Errorf("the last trial is %+v", v)
		}
		return nil
	})
	must(a.Kubectl(t.Context(), "annotate", "--overwrite", "-n", a.namespace, "mysqlbackupschedule/nightly", v1beta1.AnnotationBackupNow+"=2"))(t)
	second := a.scheduled(t, "2")
	a.BackupPhase(t, a.namespace, second, v1beta1.BackupSucceeded)
	a.Eventually(t, a.namespace, "the first backup is deleted", 2*time.Minute, func(ctx context.Context) error {
		backup, err := a.Backup(ctx, a.namespace, first)
		if err == nil {
			return fmt.Errorf("%s is there still, %s", first, backup.Status.Phase)
		}
		return nil
	})
}

// scheduled waits until a request was carried out, and names the backup.
func (a *archived) scheduled(t *testing.T, request string) (name string) {
	t.Helper()
	a.Eventually(t, a.namespace, "request "+request+" makes a backup", time.Minute, func(ctx context.Context) error {
		now, err := a.Moco.MocoV1beta1().MySQLBackupSchedules(a.namespace).Get(ctx, "nightly", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if now.Status.LastRequest != request || now.Status.LastBackup == "" {
			return fmt.Errorf("the status is %+v", now.Status)
		}
		name = now.Status.LastBackup
		return nil
	})
	return name
}
