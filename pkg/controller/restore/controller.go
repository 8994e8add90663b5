// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/job"
	"github.com/moco-mysql/moco/pkg/controller/stores"
	"github.com/moco-mysql/moco/pkg/generated/clientset/versioned"
	mocoinformers "github.com/moco-mysql/moco/pkg/generated/informers/externalversions/moco/v1beta1"
	mocolisters "github.com/moco-mysql/moco/pkg/generated/listers/moco/v1beta1"
)

const (
	// retryFirst and retryMost bound the wait after a failed sync.
	retryFirst = 500 * time.Millisecond
	retryMost  = time.Minute
)

// kind of the objects that are synced.
var kind = v1beta1.SchemeGroupVersion.WithKind("MySQLRestore")

// Config of the controller.
type Config struct {
	// AgentImage holds the program of the Jobs.
	AgentImage string
	// Workers that sync restores at the same time; 1 to 64.
	Workers int
	// Now is the clock.
	Now func() time.Time
}

// Validate reports what is missing or out of range.
func (c *Config) Validate() error {
	var problems []error
	if c.AgentImage == "" {
		problems = append(problems, errors.New("the agent image is empty"))
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

// Informers of the controller.
type Informers struct {
	// Moco holds MySQLRestores, MySQLBackups and MySQLClusters.
	Moco mocoinformers.Interface
	// Objects are those of clusters (render.ManagedSelector), Jobs those made for stores (job.Selector).
	Objects, Jobs informers.SharedInformerFactory
}

// Controller syncs MySQLRestores.
type Controller struct {
	config     Config
	kubernetes kubernetes.Interface
	moco       versioned.Interface
	events     record.EventRecorder
	now        func() time.Time
	jobs       *job.Control
	secrets    stores.Reader

	restores   mocolisters.MySQLRestoreLister
	clusters   mocolisters.MySQLClusterLister
	backups    mocolisters.MySQLBackupLister
	configMaps corelisters.ConfigMapLister
	synced     []cache.InformerSynced

	queue  workqueue.TypedRateLimitingInterface[cache.ObjectName]
	probes probes
	// ask a Pod how far it is; tests replace it.
	ask func(ctx context.Context, ip string) (wire.JobProgress, error)
	// syncHandler is what a worker calls; tests replace it.
	syncHandler func(ctx context.Context, key cache.ObjectName) (time.Duration, error)
}

// New wires a controller to its informers.
func New(ctx context.Context, config Config, from Informers, clients Clients) (*Controller, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configuring the restore controller: %w", err)
	}
	c := &Controller{
		config: config, kubernetes: clients.Kubernetes, moco: clients.Moco, events: clients.Events, now: config.Now,
		jobs: job.New(clients.Kubernetes, from.Jobs, config.Now), secrets: stores.NewReader(clients.Kubernetes), ask: job.Ask,
		restores: from.Moco.MySQLRestores().Lister(), clusters: from.Moco.MySQLClusters().Lister(),
		backups:    from.Moco.MySQLBackups().Lister(),
		configMaps: from.Objects.Core().V1().ConfigMaps().Lister(),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](retryFirst, retryMost),
			workqueue.TypedRateLimitingQueueConfig[cache.ObjectName]{Name: "mysqlrestore"},
		),
	}
	c.syncHandler = c.sync
	for _, informer := range []cache.SharedIndexInformer{
		from.Moco.MySQLClusters().Informer(), from.Moco.MySQLBackups().Informer(), from.Objects.Core().V1().ConfigMaps().Informer(),
	} {
		c.synced = append(c.synced, informer.HasSynced)
	}
	self := func(object metav1.Object) (string, bool) { return object.GetName(), true }
	owner := func(object metav1.Object) (string, bool) { return job.OwnerName(object, kind.Kind) }
	return c, errors.Join(
		c.watch(ctx, from.Moco.MySQLRestores().Informer(), self),
		c.watch(ctx, from.Jobs.Batch().V1().Jobs().Informer(), owner),
		c.watch(ctx, from.Jobs.Core().V1().Pods().Informer(), owner),
	)
}

// watch enqueues the restore that every changed object concerns.
func (c *Controller) watch(ctx context.Context, informer cache.SharedIndexInformer, nameOf func(metav1.Object) (string, bool)) error {
	enqueue := func(changed any) {
		if gone, ok := changed.(cache.DeletedFinalStateUnknown); ok {
			changed = gone.Obj
		}
		object, ok := changed.(metav1.Object)
		if !ok {
			utilruntime.HandleErrorWithContext(ctx, nil, "Unexpected object in a watch", "type", fmt.Sprintf("%T", changed))
			return
		}
		if name, ok := nameOf(object); ok {
			c.queue.Add(cache.NewObjectName(object.GetNamespace(), name))
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, DeleteFunc: enqueue, UpdateFunc: func(_, changed any) { enqueue(changed) },
	})
	c.synced = append(c.synced, informer.HasSynced)
	return err
}

// Run syncs until ctx ends. It returns when all workers have stopped.
func (c *Controller) Run(ctx context.Context) error {
	defer utilruntime.HandleCrashWithContext(ctx)
	logger := klog.FromContext(ctx)
	var wg sync.WaitGroup
	defer func() {
		c.queue.ShutDown()
		wg.Wait()
	}()
	logger.Info("Starting the restore controller", "workers", c.config.Workers)
	if !cache.WaitForNamedCacheSyncWithContext(ctx, c.synced...) {
		return nil
	}
	for range c.config.Workers {
		wg.Go(func() { wait.UntilWithContext(ctx, c.work, time.Second) })
	}
	<-ctx.Done()
	logger.Info("Stopping the restore controller")
	return nil
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
		klog.FromContext(ctx).V(4).Info("A sync met a newer object", "restore", key, "err", err)
		c.queue.AddRateLimited(key)
	case err != nil:
		utilruntime.HandleErrorWithContext(ctx, err, "Syncing a restore failed", "restore", key)
		c.queue.AddRateLimited(key)
	default:
		c.queue.Forget(key)
		if after > 0 {
			c.queue.AddAfter(key, after)
		}
	}
	return true
}

// sync brings one restore a step further. It returns when to look again although nothing is reported.
func (c *Controller) sync(ctx context.Context, key cache.ObjectName) (time.Duration, error) {
	restore, err := c.restores.MySQLRestores(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.probes.forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the restore: %w", err)
	}
	started := c.now()
	after, err := c.syncRestore(ctx, restore)
	klog.FromContext(ctx).V(4).Info("Synced a restore", "restore", key, "elapsed", c.now().Sub(started), "err", err)
	return after, err
}

// syncRestore leaves the status to one write at its end.
func (c *Controller) syncRestore(ctx context.Context, restore *v1beta1.MySQLRestore) (time.Duration, error) {
	if restore.DeletionTimestamp != nil {
		return 0, nil // its Jobs go with it
	}
	if Done(restore) {
		return 0, c.cleanUp(ctx, restore)
	}
	next := restore.Status.DeepCopy()
	after, err := c.advance(ctx, restore, next)
	return after, errors.Join(err, c.publish(ctx, restore, next))
}

// Done reports whether a restore succeeded or failed for good, and nothing is left to do.
func Done(restore *v1beta1.MySQLRestore) bool {
	return restore.Status.Phase == v1beta1.RestoreSucceeded || restore.Status.Phase == v1beta1.RestoreFailed
}

// publish writes the status if it differs, and tells what changed.
func (c *Controller) publish(ctx context.Context, restore *v1beta1.MySQLRestore, next *v1beta1.MySQLRestoreStatus) error {
	if reflect.DeepEqual(restore.Status, *next) {
		return nil
	}
	updated := restore.DeepCopy()
	updated.Status = *next
	if _, err := c.moco.MocoV1beta1().MySQLRestores(restore.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	c.announce(restore, next)
	return nil
}

// cleanUp deletes the Jobs of a restore that is done: with them go their volumes and credentials.
func (c *Controller) cleanUp(ctx context.Context, restore *v1beta1.MySQLRestore) error {
	var failed []error
	for _, operation := range []wire.Operation{wire.OperationRestoreTables, wire.OperationDropRestore} {
		made, err := c.jobs.Of(restore, operation)
		if err != nil {
			return err
		}
		for _, j := range made {
			failed = append(failed, c.jobs.Delete(ctx, j))
		}
	}
	return errors.Join(failed...)
}
