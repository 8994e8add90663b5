// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	mocofake "github.com/moco-mysql/moco/pkg/generated/clientset/versioned/fake"
	mocoinformers "github.com/moco-mysql/moco/pkg/generated/informers/externalversions"
	"github.com/moco-mysql/moco/pkg/topology"
)

// fixture is a controller over fake clients whose caches are filled by hand.
type fixture struct {
	*Controller
	kubernetes *fake.Clientset
	moco       *mocofake.Clientset
	clusters   cache.Indexer
	objects    informers.SharedInformerFactory
	clock      time.Time
}

func newFixture(t *testing.T, cluster *v1beta1.MySQLCluster, existing ...*corev1.Service) *fixture {
	t.Helper()
	f := &fixture{kubernetes: fake.NewClientset(), moco: mocofake.NewClientset(cluster), clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	f.objects = informers.NewSharedInformerFactory(f.kubernetes, 0)
	clusters := mocoinformers.NewSharedInformerFactory(f.moco, 0).Moco().V1beta1().MySQLClusters()
	config := Config{
		Namespace: "moco-system", AgentImage: "agent:1", ExporterImage: "exporter:1", ClusterDomain: "cluster.local", Workers: 1,
		Now: func() time.Time { return f.clock }, Nodes: f.objects.Core().V1().Nodes(),
	}
	c, err := New(t.Context(), config, clusters, f.objects, Clients{Kubernetes: f.kubernetes, Moco: f.moco, Events: record.NewFakeRecorder(100)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.refreshIdentity(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.children.DryRun = func(context.Context, string, []byte) error { return nil } // the fake has no dry run
	f.Controller, f.clusters = c, clusters.Informer().GetIndexer()
	if err := f.clusters.Add(cluster); err != nil {
		t.Fatal(err)
	}
	for _, service := range existing {
		if _, err := f.kubernetes.CoreV1().Services(service.Namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func newCluster(replicas int32) *v1beta1.MySQLCluster {
	return &v1beta1.MySQLCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "uid-1", ResourceVersion: "1", Generation: 1},
		Spec: v1beta1.MySQLClusterSpec{
			Topology: v1beta1.Replication, Replicas: replicas, Image: "mysql:9.7.4", Storage: v1beta1.Storage{Size: resource.MustParse("1Gi")},
		},
	}
}

// syncOnce syncs and returns the cluster as it is stored afterwards.
func (f *fixture) syncOnce(t *testing.T, cluster *v1beta1.MySQLCluster) (*v1beta1.MySQLCluster, error) {
	t.Helper()
	_, syncErr := f.sync(t.Context(), cache.MetaObjectToName(cluster))
	stored, err := f.moco.MocoV1beta1().MySQLClusters(cluster.Namespace).Get(t.Context(), cluster.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.clusters.Update(stored); err != nil {
		t.Fatal(err)
	}
	return stored, syncErr
}

func TestANewClusterGetsItsObjects(t *testing.T) {
	cluster := newCluster(3)
	f := newFixture(t, cluster)
	stored, err := f.syncOnce(t, cluster)
	if err != nil {
		t.Fatal(err)
	}
	ctx, options := t.Context(), metav1.ListOptions{}
	pods, _ := f.kubernetes.CoreV1().Pods("shop").List(ctx, options)
	claims, _ := f.kubernetes.CoreV1().PersistentVolumeClaims("shop").List(ctx, options)
	services, _ := f.kubernetes.CoreV1().Services("shop").List(ctx, options)
	secrets, _ := f.kubernetes.CoreV1().Secrets("shop").List(ctx, options)
	if len(pods.Items) != 3 || len(claims.Items) != 3 || len(services.Items) != 3 || len(secrets.Items) != 8 {
		t.Errorf("%d Pods, %d claims, %d Services, %d Secrets", len(pods.Items), len(claims.Items), len(services.Items), len(secrets.Items))
	}
	if stored.Status.Phase != v1beta1.PhasePending || stored.Status.Decision == nil || stored.Status.Ready != "0/3" {
		t.Errorf("status %+v", stored.Status)
	}
	if stored.Status.Replication != nil {
		t.Error("a record was written before any volume was read")
	}
}

func TestASecondSyncWritesNothing(t *testing.T) {
	cluster := newCluster(1)
	f := newFixture(t, cluster)
	if _, err := f.syncOnce(t, cluster); err != nil {
		t.Fatal(err)
	}
	fill(t, f)
	if _, err := f.syncOnce(t, cluster); err != nil { // Services are in the cache now: slices follow
		t.Fatal(err)
	}
	fill(t, f)
	f.kubernetes.ClearActions()
	f.moco.ClearActions()
	if _, err := f.syncOnce(t, cluster); err != nil {
		t.Fatal(err)
	}
	for _, a := range append(f.kubernetes.Actions(), f.moco.Actions()...) {
		if a.GetVerb() != "get" {
			t.Errorf("wrote: %s %s/%s", a.GetVerb(), a.GetResource().Resource, a.GetSubresource())
		}
	}
}

// fill makes the caches what the API holds.
func fill(t *testing.T, f *fixture) {
	t.Helper()
	ctx, options := context.Background(), metav1.ListOptions{}
	pods, _ := f.kubernetes.CoreV1().Pods("shop").List(ctx, options)
	replace(t, f.objects.Core().V1().Pods().Informer(), pods.Items)
	claims, _ := f.kubernetes.CoreV1().PersistentVolumeClaims("shop").List(ctx, options)
	replace(t, f.objects.Core().V1().PersistentVolumeClaims().Informer(), claims.Items)
	services, _ := f.kubernetes.CoreV1().Services("shop").List(ctx, options)
	replace(t, f.objects.Core().V1().Services().Informer(), services.Items)
	slices, _ := f.kubernetes.DiscoveryV1().EndpointSlices("shop").List(ctx, options)
	replace(t, f.objects.Discovery().V1().EndpointSlices().Informer(), slices.Items)
	nodes, _ := f.kubernetes.CoreV1().Nodes().List(ctx, options)
	replace(t, f.objects.Core().V1().Nodes().Informer(), nodes.Items)
}

// replace makes a cache hold these objects and no others.
func replace[T any](t *testing.T, informer cache.SharedIndexInformer, items []T) {
	t.Helper()
	var all []any
	for n := range items {
		all = append(all, &items[n])
	}
	if err := informer.GetIndexer().Replace(all, ""); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCannotBeCarriedOutIsSaidInValid(t *testing.T) {
	cases := map[string]struct {
		change func(c *v1beta1.MySQLCluster)
		reason string
		says   []string
	}{
		"a forced option": {
			func(c *v1beta1.MySQLCluster) { c.Spec.Config = map[string]string{"sync-binlog": "0"} }, "OptionRefused", []string{"sync", "spec.config"},
		},
		"a ConfigMap that does not exist": {
			func(c *v1beta1.MySQLCluster) { c.Spec.ConfigMapRef = &corev1.LocalObjectReference{Name: "tuning"} }, "ConfigMapNotFound",
			[]string{"tuning", "spec.configMapRef.name", "create it"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster(1)
			c.change(cluster)
			f := newFixture(t, cluster)
			stored, err := f.syncOnce(t, cluster)
			if err != nil {
				t.Fatal(err)
			}
			valid := apimeta.FindStatusCondition(stored.Status.Conditions, v1beta1.ConditionValid)
			if valid == nil || valid.Status != metav1.ConditionFalse || valid.Reason != c.reason || stored.Status.Phase != v1beta1.PhaseInvalid {
				t.Fatalf("condition %+v, phase %s", valid, stored.Status.Phase)
			}
			for _, text := range c.says {
				if !strings.Contains(valid.Message, text) {
					t.Errorf("%q does not name %q", valid.Message, text)
				}
			}
		})
	}
}

func TestAForeignObjectIsLeftAlone(t *testing.T) {
	cluster := newCluster(1)
	foreign := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db-mysql"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "shop"}}}
	f := newFixture(t, cluster, foreign)
	stored, err := f.syncOnce(t, cluster)
	if err == nil {
		t.Error("no error")
	}
	condition := apimeta.FindStatusCondition(stored.Status.Conditions, v1beta1.ConditionReconciled)
	if condition == nil || condition.Status != metav1.ConditionFalse || !strings.Contains(condition.Message, "db-mysql") {
		t.Errorf("condition %+v", condition)
	}
	live, _ := f.kubernetes.CoreV1().Services("shop").Get(t.Context(), "db-mysql", metav1.GetOptions{})
	if live.Spec.Selector["app"] != "shop" {
		t.Error("the foreign Service was changed")
	}
	pods, _ := f.kubernetes.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
	if len(pods.Items) != 1 {
		t.Error("one foreign object kept the others from being made")
	}
}

func TestTheRecordIsWrittenOnlyOverWhatWasRead(t *testing.T) {
	cluster := newCluster(1)
	f := newFixture(t, cluster)
	first := &topology.Record{Version: 1, Epoch: 1, Phase: v1beta1.RecordChosen, Claim: "a", ClusterUUID: "u"}
	written, err := f.claimRecord(t.Context(), cluster, nil, first)
	if err != nil || written.Status.Replication.Claim != "a" {
		t.Fatalf("the first: %v, %v", written, err)
	}
	if _, err := f.claimRecord(t.Context(), cluster, nil, first); !apierrors.IsConflict(err) {
		t.Errorf("a second first record: %v", err)
	}
	second := first.DeepCopy()
	second.Epoch, second.Claim = 2, "b"
	if _, err := f.claimRecord(t.Context(), written, first, second); err != nil {
		t.Fatalf("the second: %v", err)
	}
	late := first.DeepCopy()
	late.Epoch, late.Claim = 2, "c"
	if _, err := f.claimRecord(t.Context(), written, first, late); err == nil {
		t.Error("a claim on an outdated record was accepted")
	}
}

func TestTheNewerOfTwoRecordsIsFollowed(t *testing.T) {
	chosen := &topology.Record{Epoch: 2, Phase: v1beta1.RecordChosen}
	opened := &topology.Record{Epoch: 2, Phase: v1beta1.RecordOpened}
	next := &topology.Record{Epoch: 3, Phase: v1beta1.RecordClaimed}
	cases := map[string]struct{ cached, own, want *topology.Record }{
		"no record at all":           {nil, nil, nil},
		"the cache is behind":        {chosen, opened, opened},
		"the cache is ahead":         {next, opened, next},
		"the cache has not heard it": {nil, chosen, chosen},
		"nothing of our own":         {opened, nil, opened},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := newerRecord(c.cached, c.own); got != c.want {
				t.Errorf("got %+v", got)
			}
		})
	}
}
