// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

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
var kind = v1beta1.SchemeGroupVersion.WithKind("MySQLBackup")

// Config of the controller.
type Config struct {
	// AgentImage holds the program of the Jobs.
	AgentImage string
	// Workers that sync backups at the same time; 1 to 64.
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
	// Moco holds MySQLBackups and MySQLClusters.
	Moco mocoinformers.Interface
	// Objects are those of clusters (render.ManagedSelector), Jobs those of backups (job.Selector).
	Objects, Jobs informers.SharedInformerFactory
}

// Controller syncs MySQLBackups.
type Controller struct {
	config     Config
	kubernetes kubernetes.Interface
	moco       versioned.Interface
	events     record.EventRecorder
	now        func() time.Time
	jobs       *job.Control
	secrets    stores.Reader

	backups    mocolisters.MySQLBackupLister
	clusters   mocolisters.MySQLClusterLister
	pods       corelisters.PodLister
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
		return nil, fmt.Errorf("configuring the backup controller: %w", err)
	}
	c := &Controller{
		config: config, kubernetes: clients.Kubernetes, moco: clients.Moco, events: clients.Events, now: config.Now,
		jobs: job.New(clients.Kubernetes, from.Jobs, config.Now), secrets: stores.NewReader(clients.Kubernetes), ask: job.Ask,
		backups: from.Moco.MySQLBackups().Lister(), clusters: from.Moco.MySQLClusters().Lister(),
		pods:       from.Objects.Core().V1().Pods().Lister(),
		configMaps: from.Objects.Core().V1().ConfigMaps().Lister(),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](retryFirst, retryMost),
			workqueue.TypedRateLimitingQueueConfig[cache.ObjectName]{Name: "mysqlbackup"},
		),
	}
	c.syncHandler = c.sync
	for _, informer := range []cache.SharedIndexInformer{
		from.Moco.MySQLClusters().Informer(), from.Objects.Core().V1().Pods().Informer(), from.Objects.Core().V1().ConfigMaps().Informer(),
	} {
		c.synced = append(c.synced, informer.HasSynced)
	}
	self := func(object metav1.Object) (string, bool) { return object.GetName(), true }
	owner := func(object metav1.Object) (string, bool) { return job.OwnerName(object, kind.Kind) }
	return c, errors.Join(
		c.watch(ctx, from.Moco.MySQLBackups().Informer(), self),
		c.watch(ctx, from.Jobs.Batch().V1().Jobs().Informer(), owner),
		c.watch(ctx, from.Jobs.Core().V1().Pods().Informer(), owner),
	)
}

// watch enqueues the backup that every changed object concerns.
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
	logger.Info("Starting the backup controller", "workers", c.config.Workers)
	if !cache.WaitForNamedCacheSyncWithContext(ctx, c.synced...) {
		return nil
	}
	for range c.config.Workers {
		wg.Go(func() { wait.UntilWithContext(ctx, c.work, time.Second) })
	}
	<-ctx.Done()
	logger.Info("Stopping the backup controller")
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
		klog.FromContext(ctx).V(4).Info("A sync met a newer object", "backup", key, "err", err)
		c.queue.AddRateLimited(key)
	case err != nil:
		utilruntime.HandleErrorWithContext(ctx, err, "Syncing a backup failed", "backup", key)
		c.queue.AddRateLimited(key)
	default:
		c.queue.Forget(key)
		if after > 0 {
			c.queue.AddAfter(key, after)
		}
	}
	return true
}

// sync brings one backup a step further. It returns when to look again although nothing is reported.
func (c *Controller) sync(ctx context.Context, key cache.ObjectName) (time.Duration, error) {
	backup, err := c.backups.MySQLBackups(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.probes.forget(key)
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the backup: %w", err)
	}
	started := c.now()
	after, err := c.syncBackup(ctx, backup)
	klog.FromContext(ctx).V(4).Info("Synced a backup", "backup", key, "elapsed", c.now().Sub(started), "err", err)
	return after, err
}

// syncBackup leaves the status to one write at its end.
func (c *Controller) syncBackup(ctx context.Context, backup *v1beta1.MySQLBackup) (time.Duration, error) {
	if backup.DeletionTimestamp != nil {
		return c.remove(ctx, backup)
	}
	if Done(backup) {
		c.probes.forget(cache.MetaObjectToName(backup))
		return 0, c.cleanUp(ctx, backup)
	}
	if !held(backup) {
		return 0, c.hold(ctx, backup) // what it changes brings the next sync
	}
	next := backup.Status.DeepCopy()
	after, err := c.advance(ctx, backup, next)
	return after, errors.Join(err, c.publish(ctx, backup, next))
}

// Done reports whether a backup succeeded, or failed for good.
func Done(backup *v1beta1.MySQLBackup) bool {
	return backup.Status.Phase == v1beta1.BackupSucceeded || backup.Status.Phase == v1beta1.BackupFailed
}

// publish writes the status if it differs, and tells what changed.
func (c *Controller) publish(ctx context.Context, backup *v1beta1.MySQLBackup, next *v1beta1.MySQLBackupStatus) error {
	if reflect.DeepEqual(backup.Status, *next) {
		return nil
	}
	updated := backup.DeepCopy()
	updated.Status = *next
	if _, err := c.moco.MocoV1beta1().MySQLBackups(backup.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	c.announce(backup, next)
	return nil
}

// cleanUp deletes the Jobs of a backup that is done: with them go their volumes and credentials.
func (c *Controller) cleanUp(ctx context.Context, backup *v1beta1.MySQLBackup) error {
	made, err := c.jobs.Of(backup, operationOf(backup))
	if err != nil {
		return err
	}
	var failed []error
	for _, j := range made {
		failed = append(failed, c.jobs.Delete(ctx, j))
	}
	return errors.Join(failed...)
}

// operationOf is what makes the backup.
func operationOf(backup *v1beta1.MySQLBackup) wire.Operation {
	if backup.Spec.Method == v1beta1.Logical {
		return wire.OperationDump
	}
	return wire.OperationBackup
}
