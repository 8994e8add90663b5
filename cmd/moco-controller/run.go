// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/controller/backup"
	"github.com/moco-mysql/moco/pkg/controller/cluster"
	"github.com/moco-mysql/moco/pkg/controller/job"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/controller/restore"
	"github.com/moco-mysql/moco/pkg/controller/schedule"
	"github.com/moco-mysql/moco/pkg/generated/clientset/versioned"
	mocoscheme "github.com/moco-mysql/moco/pkg/generated/clientset/versioned/scheme"
	mocoinformers "github.com/moco-mysql/moco/pkg/generated/informers/externalversions"
)

// leaseName of the leader election.
const leaseName = "moco-controller"

// errLeaseLost ends a leader that could not renew: another may act now.
var errLeaseLost = errors.New("the lease was lost")

// shown is what the controllers show on the endpoints.
type shown struct {
	registry  *prometheus.Registry
	decisions *cluster.Decisions
}

// run serves the endpoints and, while leading, the controllers.
func run(ctx context.Context, o *options) error {
	config, err := restConfig(o.kubeconfig)
	if err != nil {
		return fmt.Errorf("configuring the Kubernetes client: %w", err)
	}
	config.QPS, config.Burst = o.qps, o.burst
	config.UserAgent = "moco-controller/" + version
	health, shown := &health{}, &shown{registry: newRegistry(), decisions: cluster.NewDecisions()}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		if err := serve(ctx, o, health, shown); err != nil {
			cancel(err)
		}
	})
	health.ready.Store(true)
	if o.leaderElect {
		err = lead(ctx, o, config, shown)
	} else {
		err = control(ctx, o, config, shown)
	}
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// restConfig reads a kubeconfig, or what a Pod is given.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// lead runs the controllers while this process holds the lease. The lease is released on the way out, so that the other
// replica starts at once.
func lead(ctx context.Context, o *options, config *rest.Config, shown *shown) error {
	// A client of its own: a busy controller must not delay the renewal.
	client, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "leader-election"))
	if err != nil {
		return fmt.Errorf("making the client of the leader election: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("reading the host name: %w", err)
	}
	lock := &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: leaseName}, Client: client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: host},
	}
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: leaseName, ReleaseOnCancel: true,
		LeaseDuration: o.leaseDuration, RenewDeadline: o.renewDeadline, RetryPeriod: o.retryInterval,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				failed <- control(ctx, o, config, shown)
				cancel()
			},
			OnStoppedLeading: func() { klog.FromContext(ctx).Info("Stopped leading", "identity", host) },
		},
	})
	if err != nil {
		return fmt.Errorf("configuring the leader election: %w", err)
	}
	elector.Run(ctx)
	if ctx.Err() == nil {
		return errLeaseLost
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// control runs the controllers until ctx ends.
func control(ctx context.Context, o *options, config *rest.Config, shown *shown) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the Kubernetes client: %w", err)
	}
	moco, err := versioned.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("making the MOCO client: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()
	clients := cluster.Clients{
		Kubernetes: client, Moco: moco,
		Events: broadcaster.NewRecorder(mocoscheme.Scheme, corev1.EventSource{Component: "moco-controller"}),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := informers.NewSharedInformerFactory(client, 0)
	nodes := all.Core().V1().Nodes()
	if err := nodes.Informer().SetTransform(cluster.TrimNode); err != nil {
		return fmt.Errorf("trimming nodes: %w", err)
	}
	all.Start(ctx.Done())
	defer all.Shutdown()
	for _, namespace := range o.watched() {
		wg.Go(func() {
			if err := controlNamespace(ctx, o, namespace, nodes, clients, shown); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// watched are the namespaces to look after; all of them are one scope.
func (o *options) watched() []string {
	if len(o.namespaces) == 0 {
		return []string{metav1.NamespaceAll}
	}
	return o.namespaces
}

// factories are the informers of one scope.
type factories struct {
	// objects are those of clusters, jobs those of backups.
	objects, jobs informers.SharedInformerFactory
	moco          mocoinformers.SharedInformerFactory
	// nodes are those of all scopes.
	nodes coreinformers.NodeInformer
}

func newFactories(clients cluster.Clients, namespace string, nodes coreinformers.NodeInformer) *factories {
	selected := func(selector string) informers.SharedInformerFactory {
		return informers.NewSharedInformerFactoryWithOptions(clients.Kubernetes, 0, informers.WithNamespace(namespace),
			informers.WithTweakListOptions(func(l *metav1.ListOptions) { l.LabelSelector = selector }))
	}
	return &factories{
		objects: selected(render.ManagedSelector()), jobs: selected(job.Selector()), nodes: nodes,
		moco: mocoinformers.NewSharedInformerFactoryWithOptions(clients.Moco, 0, mocoinformers.WithNamespace(namespace)),
	}
}

func (f *factories) start(stop <-chan struct{}) {
	f.objects.Start(stop)
	f.jobs.Start(stop)
	f.moco.Start(stop)
}

func (f *factories) shutdown() {
	f.objects.Shutdown()
	f.jobs.Shutdown()
	f.moco.Shutdown()
}

// controlNamespace runs the controllers of one scope. One that ends with an error ends the others.
func controlNamespace(ctx context.Context, o *options, namespace string, nodes coreinformers.NodeInformer, clients cluster.Clients, shown *shown) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	from := newFactories(clients, namespace, nodes)
	runs, collectors, err := newControllers(ctx, o, from, clients, shown)
	if err != nil {
		return err
	}
	scoped := prometheus.WrapRegistererWith(prometheus.Labels{"scope": namespace}, shown.registry)
	for _, collector := range collectors {
		if err := scoped.Register(collector); err != nil {
			return fmt.Errorf("registering the metrics of the controllers: %w", err)
		}
		defer scoped.Unregister(collector)
	}
	from.start(ctx.Done())
	defer from.shutdown()
	defer cancel(nil) // before the informers are waited for
	var wg sync.WaitGroup
	for _, run := range runs {
		wg.Go(func() {
			if err := run(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// Workers of the controllers that nothing waits for in a hurry.
const (
	backupWorkers   = 4
	scheduleWorkers = 2
	restoreWorkers  = 2
)

// newControllers makes the controllers of one scope: what runs them, and what of them shows metrics.
func newControllers(ctx context.Context, o *options, from *factories, clients cluster.Clients, shown *shown) ([]func(context.Context) error, []prometheus.Collector, error) {
	kinds := from.moco.Moco().V1beta1()
	clusters, err := cluster.New(ctx, cluster.Config{
		Namespace: o.namespace, AgentImage: o.agentImage, ExporterImage: o.exporterImage, ClusterDomain: o.clusterDomain,
		Workers: o.workers, Now: time.Now, Nodes: from.nodes, Backups: kinds.MySQLBackups().Lister(), Decisions: shown.decisions,
	}, kinds.MySQLClusters(), from.objects, clients)
	if err != nil {
		return nil, nil, err
	}
	backups, err := backup.New(ctx, backup.Config{AgentImage: o.agentImage, Workers: backupWorkers, Now: time.Now},
		backup.Informers{Moco: kinds, Objects: from.objects, Jobs: from.jobs}, backup.Clients(clients))
	if err != nil {
		return nil, nil, err
	}
	schedules, err := schedule.New(ctx, schedule.Config{AgentImage: o.agentImage, Workers: scheduleWorkers, Now: time.Now},
		schedule.Informers{Moco: kinds, Objects: from.objects, Jobs: from.jobs}, schedule.Clients(clients))
	if err != nil {
		return nil, nil, err
	}
	restores, err := restore.New(ctx, restore.Config{AgentImage: o.agentImage, Workers: restoreWorkers, Now: time.Now},
		restore.Informers{Moco: kinds, Objects: from.objects, Jobs: from.jobs}, restore.Clients(clients))
	if err != nil {
		return nil, nil, err
	}
	return []func(context.Context) error{clusters.Run, backups.Run, schedules.Run, restores.Run}, []prometheus.Collector{clusters, schedules}, nil
}
