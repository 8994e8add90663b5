// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/job"
	mocofake "github.com/moco-mysql/moco/pkg/generated/clientset/versioned/fake"
	mocoinformers "github.com/moco-mysql/moco/pkg/generated/informers/externalversions"
)

// fixture is a controller over fake clients. Its caches hold what the API holds only after refresh.
type fixture struct {
	*Controller
	t          *testing.T
	kubernetes *fake.Clientset
	moco       *mocofake.Clientset
	from       Informers
	clock      time.Time
	events     *record.FakeRecorder
}

// nightly is a schedule of 3 o'clock that was made at noon.
func nightly() *v1beta1.MySQLBackupSchedule {
	s := &v1beta1.MySQLBackupSchedule{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "nightly", UID: "schedule-uid", Generation: 1, CreationTimestamp: metav1.NewTime(noon), Annotations: map[string]string{},
	}}
	s.Spec.ClusterName, s.Spec.Schedule = "db", "0 3 * * *"
	s.Spec.Template.Store.S3 = &v1beta1.S3Store{Bucket: "vault", CredentialsSecretRef: corev1.LocalObjectReference{Name: "keys"}}
	return s
}

func newCluster() *v1beta1.MySQLCluster {
	c := &v1beta1.MySQLCluster{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "cluster-uid"}}
	c.Spec.Image, c.Spec.Storage.Size = "mysql:9.7.4", resource.MustParse("10Gi")
	return c
}

func newFixture(t *testing.T, kinds ...runtime.Object) *fixture {
	t.Helper()
	keys := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "keys"}, Data: map[string][]byte{"accessKeyID": []byte("me"), "secretAccessKey": []byte("secret")}}

	f := &fixture{t: t, kubernetes: fake.NewClientset(keys), moco: mocofake.NewSimpleClientset(kinds...), clock: noon, events: record.NewFakeRecorder(100)}
	made := 0
	f.kubernetes.PrependReactor("create", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
		j := action.(clienttesting.CreateAction).GetObject().(*batchv1.Job)
		made++
		j.UID, j.CreationTimestamp = types.UID(fmt.Sprintf("job-%d", made)), metav1.NewTime(f.clock)
		return false, nil, nil
	})
	f.moco.PrependReactor("create", "mysqlbackups", func(action clienttesting.Action) (bool, runtime.Object, error) {
		b := action.(clienttesting.CreateAction).GetObject().(*v1beta1.MySQLBackup)
		b.UID, b.CreationTimestamp = types.UID("uid-of-"+b.Name), metav1.NewTime(f.clock)
		return false, nil, nil
	})
	f.from = Informers{
		Moco:    mocoinformers.NewSharedInformerFactory(f.moco, 0).Moco().V1beta1(),
		Objects: informers.NewSharedInformerFactory(f.kubernetes, 0), Jobs: informers.NewSharedInformerFactory(f.kubernetes, 0),
	}
	c, err := New(t.Context(), Config{AgentImage: "agent:1", Workers: 1, Now: func() time.Time { return f.clock }}, f.from,
		Clients{Kubernetes: f.kubernetes, Moco: f.moco, Events: f.events})
	if err != nil {
		t.Fatal(err)
	}
	f.Controller = c
	f.refresh()
	return f
}

// refresh brings the caches up to date.
func (f *fixture) refresh() {
	f.t.Helper()
	ctx, all := f.t.Context(), metav1.ListOptions{}
	schedules, err := f.moco.MocoV1beta1().MySQLBackupSchedules("").List(ctx, all)
	fill(f.t, f.from.Moco.MySQLBackupSchedules().Informer(), schedules, err)
	backups, err := f.moco.MocoV1beta1().MySQLBackups("").List(ctx, all)
	fill(f.t, f.from.Moco.MySQLBackups().Informer(), backups, err)
	clusters, err := f.moco.MocoV1beta1().MySQLClusters("").List(ctx, all)
	fill(f.t, f.from.Moco.MySQLClusters().Informer(), clusters, err)
	jobs, err := f.kubernetes.BatchV1().Jobs("").List(ctx, all)
	fill(f.t, f.from.Jobs.Batch().V1().Jobs().Informer(), jobs, err)
	pods, err := f.kubernetes.CoreV1().Pods("").List(ctx, all)
	fill(f.t, f.from.Jobs.Core().V1().Pods().Informer(), pods, err)
}

func fill(t *testing.T, informer cache.SharedIndexInformer, list runtime.Object, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var items []any
	if err := apimeta.EachListItem(list, func(o runtime.Object) error {
		items = append(items, o)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := informer.GetIndexer().Replace(items, ""); err != nil {
		t.Fatal(err)
	}
}

// step syncs once over the caches as they are, and returns the schedule as it is stored then.
func (f *fixture) step() *v1beta1.MySQLBackupSchedule {
	f.t.Helper()
	if _, err := f.sync(f.t.Context(), cache.NewObjectName("shop", "nightly")); err != nil {
		f.t.Fatalf("syncing: %v", err)
	}
	s, err := f.moco.MocoV1beta1().MySQLBackupSchedules("shop").Get(f.t.Context(), "nightly", metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// steps refreshes and syncs a few times: what is done is done by then.
func (f *fixture) steps() *v1beta1.MySQLBackupSchedule {
	f.t.Helper()
	var s *v1beta1.MySQLBackupSchedule
	for range 4 {
		f.refresh()
		s = f.step()
	}
	f.refresh()
	return s
}

func (f *fixture) allBackups() []v1beta1.MySQLBackup {
	f.t.Helper()
	list, err := f.moco.MocoV1beta1().MySQLBackups("shop").List(f.t.Context(), metav1.ListOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return list.Items
}

func (f *fixture) backupNames() []string {
	f.t.Helper()
	var found []string
	for _, b := range f.allBackups() {
		found = append(found, b.Name)
	}
	slices.Sort(found)
	return found
}

// finish brings every backup that is under way to its end.
func (f *fixture) finish(phase v1beta1.BackupPhase) {
	f.t.Helper()
	for _, b := range f.allBackups() {
		if b.Status.CompletedAt != nil {
			continue
		}
		b.Status = v1beta1.MySQLBackupStatus{Phase: phase, CompletedAt: new(metav1.NewTime(f.clock)), ID: "id-of-" + b.Name, ClusterUID: "cluster-uid"}
		if phase == v1beta1.BackupSucceeded {
			b.Status.ConsistentAt = new(metav1.NewMicroTime(f.clock))
		}
		if _, err := f.moco.MocoV1beta1().MySQLBackups("shop").UpdateStatus(f.t.Context(), &b, metav1.UpdateOptions{}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// jobOf is the only Job of an operation, or nil.
func (f *fixture) jobOf(operation wire.Operation) *batchv1.Job {
	f.t.Helper()
	list, err := f.kubernetes.BatchV1().Jobs("shop").List(f.t.Context(), metav1.ListOptions{LabelSelector: job.LabelOperation + "=" + string(operation)})
	if err != nil {
		f.t.Fatal(err)
	}
	if len(list.Items) > 1 {
		f.t.Fatalf("%d Jobs", len(list.Items))
	}
	if len(list.Items) == 0 {
		return nil
	}
	return &list.Items[0]
}

// input is what a Job is told.
func (f *fixture) input(made *batchv1.Job) *wire.JobInput {
	f.t.Helper()
	secret, err := f.kubernetes.CoreV1().Secrets("shop").Get(f.t.Context(), made.Name, metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	var in wire.JobInput
	if err := json.Unmarshal(secret.Data["job.json"], &in); err != nil {
		f.t.Fatal(err)
	}
	return &in
}

// ends lets a Job leave a result.
func (f *fixture) ends(made *batchv1.Job, result wire.JobResult) {
	f.t.Helper()
	text, err := json.Marshal(result)
	if err != nil {
		f.t.Fatal(err)
	}
	end, condition := &corev1.ContainerStateTerminated{Message: string(text)}, batchv1.JobComplete
	if !result.Succeeded {
		end.ExitCode, condition = 1, batchv1.JobFailed
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: made.Namespace, Name: made.Name + "-x", Labels: map[string]string{batchv1.ControllerUidLabel: string(made.UID)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(made, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: job.Container, State: corev1.ContainerState{Terminated: end}}}},
	}
	if _, err := f.kubernetes.CoreV1().Pods("shop").Create(f.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
	made.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(f.clock)}}
	if _, err := f.kubernetes.BatchV1().Jobs("shop").Update(f.t.Context(), made, metav1.UpdateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}
