// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	policylisters "k8s.io/client-go/listers/policy/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/children"
	"github.com/moco-mysql/moco/pkg/generated/clientset/versioned"
	mocoinformers "github.com/moco-mysql/moco/pkg/generated/informers/externalversions/moco/v1beta1"
	mocolisters "github.com/moco-mysql/moco/pkg/generated/listers/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

const (
	// retryFirst and retryMost bound the wait after a failed sync. A failover must not wait for the 1000 s of the default.
	retryFirst = 200 * time.Millisecond
	retryMost  = 30 * time.Second
	// soon is when to look again after something was done, should the agents' news be lost.
	soon = 500 * time.Millisecond
	// identityInterval is how often the controller's certificate is looked at.
	identityInterval = 12 * time.Hour
)

// Config of the controller.
type Config struct {
	// Namespace the controller runs in; its own Secret is kept there.
	Namespace string
	// AgentImage and ExporterImage of the MySQL Pods.
	AgentImage, ExporterImage string
	// ClusterDomain of the Kubernetes cluster, for names in certificates; usually cluster.local.
	ClusterDomain string
	// Workers that sync clusters at the same time; 1 to 64.
	Workers int
	// Now is the clock.
	Now func() time.Time
}

// Validate reports what is missing or out of range.
func (c *Config) Validate() error {
	var problems []error
	for name, value := range map[string]string{"namespace": c.Namespace, "agent image": c.AgentImage, "exporter image": c.ExporterImage, "cluster domain": c.ClusterDomain} {
		if value == "" {
			problems = append(problems, fmt.Errorf("the %s is empty", name))
		}
	}
	if c.Workers < 1 || c.Workers > 64 {
		problems = append(problems, fmt.Errorf("%d workers: want 1 to 64", c.Workers))
	}
	if c.Now == nil {
		problems = append(problems, errors.New("no clock was given"))
	}
	return errors.Join(problems...)
}

// Clients of the controller.
type Clients struct {
	Kubernetes kubernetes.Interface
	Moco       versioned.Interface
	Events     record.EventRecorder
}

// Controller syncs MySQLClusters.
type Controller struct {
	config     Config
	kubernetes kubernetes.Interface
	moco       versioned.Interface
	events     record.EventRecorder
	children   *children.Control
	now        func() time.Time

	clusters   mocolisters.MySQLClusterLister
	pods       corelisters.PodLister
	claims     corelisters.PersistentVolumeClaimLister
	services   corelisters.ServiceLister
	configMaps corelisters.ConfigMapLister
	budgets    policylisters.PodDisruptionBudgetLister
	slices     discoverylisters.EndpointSliceLister
	synced     []cache.InformerSynced

	queue    workqueue.TypedRateLimitingInterface[cache.ObjectName]
	memories memories
	fleet    *fleet
	identity atomic.Pointer[identity]
	// remarksMu guards what parallel commands write into the memories.
	remarksMu sync.Mutex
	// syncHandler is what a worker calls; tests replace it.
	syncHandler func(ctx context.Context, key cache.ObjectName) (time.Duration, error)
}

// New wires a controller to its informers. objects must be filtered to what MOCO manages (render.ManagedSelector).
func New(ctx context.Context, config Config, clusters mocoinformers.MySQLClusterInformer, objects informers.SharedInformerFactory, clients Clients) (*Controller, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configuring the cluster controller: %w", err)
	}
	c := &Controller{
		config: config, kubernetes: clients.Kubernetes, moco: clients.Moco, events: clients.Events, now: config.Now,
		children:   children.New(clients.Kubernetes),
		clusters:   clusters.Lister(),
		pods:       objects.Core().V1().Pods().Lister(),
		claims:     objects.Core().V1().PersistentVolumeClaims().Lister(),
		services:   objects.Core().V1().Services().Lister(),
		configMaps: objects.Core().V1().ConfigMaps().Lister(),
		budgets:    objects.Policy().V1().PodDisruptionBudgets().Lister(),
		slices:     objects.Discovery().V1().EndpointSlices().Lister(),
		memories:   memories{all: map[cache.ObjectName]*memory{}},
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](retryFirst, retryMost),
			workqueue.TypedRateLimitingQueueConfig[cache.ObjectName]{Name: "mysqlcluster"},
		),
	}
	c.fleet = newFleet(config.Now, c.queue.AddAfter)
	c.syncHandler = c.sync
	if err := c.watch(ctx, clusters.Informer(), enqueueSelf); err != nil {
		return nil, err
	}
	owned := map[string]cache.SharedIndexInformer{
		"Pods": objects.Core().V1().Pods().Informer(), "PersistentVolumeClaims": objects.Core().V1().PersistentVolumeClaims().Informer(),
		"Services": objects.Core().V1().Services().Informer(), "EndpointSlices": objects.Discovery().V1().EndpointSlices().Informer(),
		"PodDisruptionBudgets": objects.Policy().V1().PodDisruptionBudgets().Informer(), "ConfigMaps": objects.Core().V1().ConfigMaps().Informer(),
	}
	for kind, informer := range owned {
		if err := c.watch(ctx, informer, enqueueCluster); err != nil {
			return nil, fmt.Errorf("watching %s: %w", kind, err)
		}
	}
	return c, nil
}

// keyOf says which cluster an object concerns.
type keyOf func(object metav1.Object) (cache.ObjectName, bool)

// enqueueSelf is the key of a MySQLCluster.
func enqueueSelf(object metav1.Object) (cache.ObjectName, bool) {
	return cache.MetaObjectToName(object), true
}

// enqueueCluster is the key of the cluster an object is labelled with.
func enqueueCluster(object metav1.Object) (cache.ObjectName, bool) {
	name := object.GetLabels()[v1beta1.LabelCluster]
	return cache.NewObjectName(object.GetNamespace(), name), name != ""
}

// watch enqueues the cluster of every object that changes.
func (c *Controller) watch(ctx context.Context, informer cache.SharedIndexInformer, key keyOf) error {
	enqueue := func(changed any) {
		if gone, ok := changed.(cache.DeletedFinalStateUnknown); ok {
			changed = gone.Obj
		}
		object, ok := changed.(metav1.Object)
		if !ok {
			utilruntime.HandleErrorWithContext(ctx, nil, "Unexpected object in a watch", "type", fmt.Sprintf("%T", changed))
			return
		}
		if name, ok := key(object); ok {
			c.queue.Add(name)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, DeleteFunc: enqueue,
		UpdateFunc: func(old, changed any) {
			if sameVersion(old, changed) {
				return
			}
			enqueue(changed)
		},
	})
	c.synced = append(c.synced, informer.HasSynced)
	return err
}

// sameVersion reports whether an update is a resync only.
func sameVersion(old, changed any) bool {
	a, okA := old.(metav1.Object)
	b, okB := changed.(metav1.Object)
	return okA && okB && a.GetResourceVersion() == b.GetResourceVersion()
}

// Run syncs until ctx ends. It returns when all workers and streams have stopped.
func (c *Controller) Run(ctx context.Context) error {
	defer utilruntime.HandleCrashWithContext(ctx)
	logger := klog.FromContext(ctx)
	if err := c.refreshIdentity(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer func() {
		c.queue.ShutDown()
		wg.Wait()
		c.fleet.close()
	}()
	logger.Info("Starting the cluster controller", "workers", c.config.Workers)
	if !cache.WaitForNamedCacheSyncWithContext(ctx, c.synced...) {
		return nil
	}
	for range c.config.Workers {
		wg.Go(func() { wait.UntilWithContext(ctx, c.work, time.Second) })
	}
	wg.Go(func() { wait.UntilWithContext(ctx, c.keepIdentity, identityInterval) })
	<-ctx.Done()
	logger.Info("Stopping the cluster controller")
	return nil
}

// refreshIdentity reads the controller's certificate, and makes or renews it.
func (c *Controller) refreshIdentity(ctx context.Context) error {
	own, err := loadIdentity(ctx, c.kubernetes, c.config.Namespace, c.now())
	if err != nil {
		return fmt.Errorf("loading the controller's identity: %w", err)
	}
	c.identity.Store(own)
	return nil
}

// keepIdentity renews the certificate in good time; a third of its life is left for failures.
func (c *Controller) keepIdentity(ctx context.Context) {
	if err := c.refreshIdentity(ctx); err != nil {
		utilruntime.HandleErrorWithContext(ctx, err, "Renewing the controller's certificate failed")
	}
}

// work syncs keys until the queue shuts down.
func (c *Controller) work(ctx context.Context) {
	for c.next(ctx) {
	}
}

// next syncs one key. A failed one comes back later each time; none is dropped.
func (c *Controller) next(ctx context.Context) bool {
	key, shutdown := c.queue.Get()
	if shutdown {
		return false
	}
	defer c.queue.Done(key)
	after, err := c.syncHandler(ctx, key)
	switch {
	case err != nil && (apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)):
		klog.FromContext(ctx).V(4).Info("A sync met a newer object", "cluster", key, "err", err)
		c.queue.AddRateLimited(key)
	case err != nil:
		utilruntime.HandleErrorWithContext(ctx, err, "Syncing a cluster failed", "cluster", key)
		c.queue.AddRateLimited(key)
	default:
		c.queue.Forget(key)
		if after > 0 {
			c.queue.AddAfter(key, after)
		}
	}
	return true
}

// sync brings one cluster a step nearer to its spec. It returns when to look again although nothing is reported.
func (c *Controller) sync(ctx context.Context, key cache.ObjectName) (time.Duration, error) {
	cluster, err := c.clusters.MySQLClusters(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.fleet.listen(ctx, key, nil)
		c.memories.forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the cluster: %w", err)
	}
	if cluster.DeletionTimestamp != nil {
		return 0, nil // the garbage collector takes everything that is owned; what is kept has no owner
	}
	started := c.now()
	after, err := c.syncCluster(ctx, cluster)
	klog.FromContext(ctx).V(4).Info("Synced a cluster", "cluster", key, "elapsed", c.now().Sub(started), "err", err)
	return after, err
}

// syncCluster is the order of one sync: what serves first, objects and words after it.
func (c *Controller) syncCluster(ctx context.Context, cluster *v1beta1.MySQLCluster) (time.Duration, error) {
	w, err := c.gather(cluster)
	if err != nil {
		return 0, err
	}
	credentialsErr := c.loadCredentials(ctx, w)
	if w.memory.credentials == nil {
		return 0, errors.Join(credentialsErr, c.publish(ctx, w, outcome{objects: credentialsErr, decision: notYet(credentialsErr)}))
	}
	c.listen(ctx, w)
	c.observe(w)
	settleErr := c.settle(ctx, w)
	c.observe(w)
	configured, configureErr := c.configure(ctx, w)
	plan := topology.Decide(topology.Desired{Replicas: cluster.Spec.Replicas}, w.seen)
	c.fleet.attend(cache.MetaObjectToName(cluster), plan.Decision.Rule != topology.RuleSteady)
	klog.FromContext(ctx).V(4).Info("Decided", "cluster", klog.KObj(cluster), "rule", plan.Decision.Rule, "reason", plan.Decision.Reason, "actions", len(plan.Actions))
	// What was configured moved on and would refuse; its news brings the next sync.
	plan.Actions = slices.DeleteFunc(plan.Actions, func(a topology.Action) bool { return configured[a.Instance] })
	w.reading = plan.Decision.Rule == topology.RuleReadVolumes
	acted, executeErr := c.execute(ctx, w, plan)
	out := outcome{decision: plan.Decision}
	out.pendingPods, out.objects = c.syncChildren(ctx, w)
	out.objects = errors.Join(credentialsErr, out.objects)
	publishErr := c.publish(ctx, w, out)
	if len(configured) > 0 || acted {
		plan.Requeue = soon
	}
	return plan.Requeue, errors.Join(settleErr, configureErr, executeErr, out.objects, publishErr)
}

// notYet is the decision of a sync that could not begin.
func notYet(err error) topology.Decision {
	return topology.Decision{Rule: topology.RuleHold, Reason: "the account Secrets and certificates are not in order", WaitingFor: err.Error()}
}
