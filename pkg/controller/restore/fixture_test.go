// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	"github.com/moco-mysql/moco/pkg/controller/render"
	mocofake "github.com/moco-mysql/moco/pkg/generated/clientset/versioned/fake"
	mocoinformers "github.com/moco-mysql/moco/pkg/generated/informers/externalversions"
)

var errSilent = errors.New("the Pod does not answer")

// fixture is a controller over fake clients. Its caches hold what the API holds only after refresh.
type fixture struct {
	*Controller
	t          *testing.T
	kubernetes *fake.Clientset
	moco       *mocofake.Clientset
	from       Informers
	clock      time.Time
	answer     wire.JobProgress
	events     *record.FakeRecorder
}

func newRestore() *v1beta1.MySQLRestore {
	r := &v1beta1.MySQLRestore{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "back", UID: "0a1b2c3d-1111-2222-3333-444455556666", Generation: 1}}
	r.Spec.ClusterName, r.Spec.Mode, r.Spec.Tables = "db", v1beta1.RestoreTables, []string{"shop.orders"}
	r.Spec.Source.BackupName = "first"
	return r
}

func newBackup() *v1beta1.MySQLBackup {
	b := &v1beta1.MySQLBackup{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "first", UID: "backup-uid"}}
	b.Spec.ClusterName = "db"
	b.Spec.Store.S3 = &v1beta1.S3Store{Bucket: "vault", CredentialsSecretRef: corev1.LocalObjectReference{Name: "keys"}}
	b.Status.Phase, b.Status.ID, b.Status.ClusterUID = v1beta1.BackupSucceeded, "20260320T115900Z-0a1b2c3d", "old-uid"
	return b
}

func newCluster() *v1beta1.MySQLCluster {
	c := &v1beta1.MySQLCluster{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "cluster-uid"}}
	c.Spec.Image, c.Spec.Storage.Size = "mysql:9.7.4", resource.MustParse("10Gi")
	apimeta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1beta1.ConditionAvailable, Status: metav1.ConditionTrue, Reason: "Serving"})
	return c
}

// around are the objects of a cluster that can take tables.
func around(cluster *v1beta1.MySQLCluster) []runtime.Object {
	secret := func(name string, data map[string]string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Data: map[string][]byte{}}
		for key, value := range data {
			s.Data[key] = []byte(value)
		}
		return s
	}
	objects := []runtime.Object{
		secret("keys", map[string]string{"accessKeyID": "me", "secretAccessKey": "secret"}),
		secret(render.AccountSecretName(cluster, render.AccountRoot), map[string]string{"username": "root", "password": "pass"}),
		secret(render.CASecretName(cluster), map[string]string{"ca.crt": "PEM"}),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: render.ConfigMapName(cluster)}, Data: map[string]string{"my.cnf": "[mysqld]"}},
	}
	return objects
}

func newFixture(t *testing.T, restored *v1beta1.MySQLRestore, backup *v1beta1.MySQLBackup, cluster *v1beta1.MySQLCluster, objects ...runtime.Object) *fixture {
	t.Helper()
	kinds := []runtime.Object{restored, backup}
	if cluster != nil {
		kinds = append(kinds, cluster)
	}
	f := &fixture{t: t, kubernetes: fake.NewClientset(objects...), moco: mocofake.NewClientset(kinds...), clock: time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)}
	made := 0
	f.kubernetes.PrependReactor("create", "jobs", func(action clienttesting.Action) (bool, runtime.Object, error) {
		j := action.(clienttesting.CreateAction).GetObject().(*batchv1.Job)
		made++
		j.UID, j.CreationTimestamp = types.UID(fmt.Sprintf("job-%d", made)), metav1.NewTime(f.clock)
		return false, nil, nil
	})
	f.from = Informers{
		Moco:    mocoinformers.NewSharedInformerFactory(f.moco, 0).Moco().V1beta1(),
		Objects: informers.NewSharedInformerFactory(f.kubernetes, 0), Jobs: informers.NewSharedInformerFactory(f.kubernetes, 0),
	}
	f.events = record.NewFakeRecorder(100)
	c, err := New(t.Context(), Config{AgentImage: "agent:1", Workers: 1, Now: func() time.Time { return f.clock }}, f.from,
		Clients{Kubernetes: f.kubernetes, Moco: f.moco, Events: f.events})
	if err != nil {
		t.Fatal(err)
	}
	c.ask = func(_ context.Context, ip string) (wire.JobProgress, error) {
		if ip == "" {
			return wire.JobProgress{}, errSilent
		}
		return f.answer, nil
	}
	f.Controller = c
	f.refresh()
	return f
}

// refresh brings the caches up to date.
func (f *fixture) refresh() {
	f.t.Helper()
	f.refreshKinds()
	ctx, all := f.t.Context(), metav1.ListOptions{}
	jobs, err := f.kubernetes.BatchV1().Jobs("").List(ctx, all)
	fill(f.t, f.from.Jobs.Batch().V1().Jobs().Informer(), jobs, err)
	pods, err := f.kubernetes.CoreV1().Pods("").List(ctx, all)
	fill(f.t, f.from.Jobs.Core().V1().Pods().Informer(), pods, err)
	maps, err := f.kubernetes.CoreV1().ConfigMaps("").List(ctx, all)
	fill(f.t, f.from.Objects.Core().V1().ConfigMaps().Informer(), maps, err)
}

// refreshKinds brings only the caches of our own kinds up to date.
func (f *fixture) refreshKinds() {
	f.t.Helper()
	ctx, all := f.t.Context(), metav1.ListOptions{}
	backups, err := f.moco.MocoV1beta1().MySQLBackups("").List(ctx, all)
	fill(f.t, f.from.Moco.MySQLBackups().Informer(), backups, err)
	restores, err := f.moco.MocoV1beta1().MySQLRestores("").List(ctx, all)
	fill(f.t, f.from.Moco.MySQLRestores().Informer(), restores, err)
	clusters, err := f.moco.MocoV1beta1().MySQLClusters("").List(ctx, all)
	fill(f.t, f.from.Moco.MySQLClusters().Informer(), clusters, err)
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

// step syncs once over the caches as they are and returns the restore as it is stored then.
func (f *fixture) step() *v1beta1.MySQLRestore {
	f.t.Helper()
	if _, err := f.sync(f.t.Context(), cache.NewObjectName("shop", "back")); err != nil {
		f.t.Fatalf("syncing: %v", err)
	}
	found, err := f.moco.MocoV1beta1().MySQLRestores("shop").Get(f.t.Context(), "back", metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

// steps refreshes and syncs until nothing changes.
func (f *fixture) steps() *v1beta1.MySQLRestore {
	f.t.Helper()
	var last []byte
	for range 20 {
		f.refresh()
		restored := f.step()
		text, err := json.Marshal([]any{restored, f.jobNames()})
		if err != nil {
			f.t.Fatal(err)
		}
		if string(text) == string(last) {
			return restored
		}
		last = text
	}
	f.t.Fatal("the controller does not come to rest")
	return nil
}

func (f *fixture) allJobs() []batchv1.Job {
	f.t.Helper()
	list, err := f.kubernetes.BatchV1().Jobs("shop").List(f.t.Context(), metav1.ListOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return list.Items
}

func (f *fixture) jobNames() []string {
	f.t.Helper()
	var found []string
	for _, j := range f.allJobs() {
		found = append(found, j.Name)
	}
	return found
}

// pod stores the Pod of the only Job in a state.
func (f *fixture) pod(s corev1.ContainerState) {
	f.t.Helper()
	jobs := f.allJobs()
	if len(jobs) != 1 {
		f.t.Fatalf("the Jobs are %v", f.jobNames())
	}
	f.store(&jobs[0], s)
}

// store stores the Pod of a Job in a state.
func (f *fixture) store(made *batchv1.Job, s corev1.ContainerState) {
	f.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: made.Namespace, Name: made.Name + "-x", Labels: map[string]string{batchv1.ControllerUidLabel: string(made.UID)},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(made, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Status: corev1.PodStatus{PodIP: "10.0.0.9", ContainerStatuses: []corev1.ContainerStatus{{Name: job.Container, State: s}}},
	}
	maps.Copy(pod.Labels, made.Labels)
	client := f.kubernetes.CoreV1().Pods("shop")
	_ = client.Delete(f.t.Context(), pod.Name, metav1.DeleteOptions{})
	if _, err := client.Create(f.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) podRuns() {
	f.t.Helper()
	f.pod(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
}

// podEnds lets the Pod of the only Job leave a result; nil leaves none.
func (f *fixture) podEnds(result *wire.JobResult) {
	f.t.Helper()
	f.pod(ended(f.t, result))
}

// podOf lets the Pod of a Job leave a result.
func (f *fixture) podOf(made *batchv1.Job, result *wire.JobResult) {
	f.t.Helper()
	f.store(made, ended(f.t, result))
}

func ended(t *testing.T, result *wire.JobResult) corev1.ContainerState {
	t.Helper()
	end := &corev1.ContainerStateTerminated{Reason: "Completed"}
	if result != nil {
		text, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		end.Message = string(text)
	}
	if result == nil || !result.Succeeded {
		end.ExitCode = 1
	}
	return corev1.ContainerState{Terminated: end}
}

// podGoes removes every Pod of Jobs.
func (f *fixture) podGoes() {
	f.t.Helper()
	list, err := f.kubernetes.CoreV1().Pods("shop").List(f.t.Context(), metav1.ListOptions{LabelSelector: job.Selector()})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, p := range list.Items {
		if err := f.kubernetes.CoreV1().Pods("shop").Delete(f.t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// input is what the only Job is told.
func (f *fixture) input() *wire.JobInput {
	f.t.Helper()
	secret, err := f.kubernetes.CoreV1().Secrets("shop").Get(f.t.Context(), f.jobNames()[0], metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	var in wire.JobInput
	if err := json.Unmarshal(secret.Data["job.json"], &in); err != nil {
		f.t.Fatal(err)
	}
	return &in
}
