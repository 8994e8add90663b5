// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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
	"github.com/moco-mysql/moco/pkg/controller/backup"
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
	// resyncMost bounds how long nothing is looked at: ages pass, and nothing reports that.
	resyncMost = 10 * time.Minute
)

// kind of the objects that are synced.
var kind = v1beta1.SchemeGroupVersion.WithKind("MySQLBackupSchedule")

// Config of the controller.
type Config struct {
	// AgentImage holds the program of the Jobs.
	AgentImage string
	// Workers that sync schedules at the same time; 1 to 64.
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
	// Moco holds MySQLBackupSchedules, MySQLBackups and MySQLClusters.
	Moco mocoinformers.Interface
	// Objects are those of clusters (render.ManagedSelector), Jobs those of backups (job.Selector).
	Objects, Jobs informers.SharedInformerFactory
}

// Controller syncs MySQLBackupSchedules.
type Controller struct {
	config  Config
	moco    versioned.Interface
	events  record.EventRecorder
	now     func() time.Time
	jobs    *job.Control
	secrets stores.Reader

	schedules  mocolisters.MySQLBackupScheduleLister
	backups    mocolisters.MySQLBackupLister
	clusters   mocolisters.MySQLClusterLister
	configMaps corelisters.ConfigMapLister
	synced     []cache.InformerSynced

	queue workqueue.TypedRateLimitingInterface[cache.ObjectName]
	// syncHandler is what a worker calls; tests replace it.
	syncHandler func(ctx context.Context, key cache.ObjectName) (time.Duration, error)
}

// New wires a controller to its informers.
func New(ctx context.Context, config Config, from Informers, clients Clients) (*Controller, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configuring the schedule controller: %w", err)
	}
	c := &Controller{
		config: config, moco: clients.Moco, events: clients.Events, now: config.Now,
		jobs: job.New(clients.Kubernetes, from.Jobs, config.Now), secrets: stores.NewReader(clients.Kubernetes),
		schedules: from.Moco.MySQLBackupSchedules().Lister(), backups: from.Moco.MySQLBackups().Lister(), clusters: from.Moco.MySQLClusters().Lister(),
		configMaps: from.Objects.Core().V1().ConfigMaps().Lister(),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](retryFirst, retryMost),
			workqueue.TypedRateLimitingQueueConfig[cache.ObjectName]{Name: "mysqlbackupschedule"},
		),
	}
	c.syncHandler = c.sync
	c.synced = append(c.synced, from.Objects.Core().V1().ConfigMaps().Informer().HasSynced)
	owner := func(object metav1.Object) []string {
		if name, ok := job.OwnerName(object, kind.Kind); ok {
			return []string{name}
		}
		return nil
	}
	return c, errors.Join(
		c.watch(ctx, from.Moco.MySQLBackupSchedules().Informer(), func(o metav1.Object) []string { return []string{o.GetName()} }),
		c.watch(ctx, from.Moco.MySQLBackups().Informer(), labelled),
		c.watch(ctx, from.Moco.MySQLClusters().Informer(), c.gapped),
		c.watch(ctx, from.Jobs.Batch().V1().Jobs().Informer(), owner),
		c.watch(ctx, from.Jobs.Core().V1().Pods().Informer(), owner),
	)
}

// labelled names the schedule that made a backup.
func labelled(o metav1.Object) []string {
	if name := o.GetLabels()[v1beta1.LabelSchedule]; name != "" {
		return []string{name}
	}
	return nil
}

// gapped names the schedules of a cluster whose archive has a gap; the status of a cluster changes too often for all.
func (c *Controller) gapped(o metav1.Object) []string {
	cluster, ok := o.(*v1beta1.MySQLCluster)
	if !ok || gapSince(cluster) == nil {
		return nil
	}
	all, err := c.schedules.MySQLBackupSchedules(cluster.Namespace).List(labels.Everything())
	if err != nil {
		return nil // a lister over a cache has no errors
	}
	var names []string
	for _, s := range all {
		if s.Spec.ClusterName == cluster.Name {
			names = append(names, s.Name)
		}
	}
	return names
}

// watch enqueues the schedules that every changed object concerns.
func (c *Controller) watch(ctx context.Context, informer cache.SharedIndexInformer, namesOf func(metav1.Object) []string) error {
	enqueue := func(changed any) {
		if gone, ok := changed.(cache.DeletedFinalStateUnknown); ok {
			changed = gone.Obj
		}
		object, ok := changed.(metav1.Object)
		if !ok {
			utilruntime.HandleErrorWithContext(ctx, nil, "Unexpected object in a watch", "type", fmt.Sprintf("%T", changed))
			return
		}
		for _, name := range namesOf(object) {
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
	logger.Info("Starting the schedule controller", "workers", c.config.Workers)
	if !cache.WaitForNamedCacheSyncWithContext(ctx, c.synced...) {
		return nil
	}
	for range c.config.Workers {
		wg.Go(func() { wait.UntilWithContext(ctx, c.work, time.Second) })
	}
	<-ctx.Done()
	logger.Info("Stopping the schedule controller")
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
		klog.FromContext(ctx).V(4).Info("A sync met a newer object", "schedule", key, "err", err)
		c.queue.AddRateLimited(key)
	case err != nil:
		utilruntime.HandleErrorWithContext(ctx, err, "Syncing a schedule failed", "schedule", key)
		c.queue.AddRateLimited(key)
	default:
		c.queue.Forget(key)
		if after > 0 {
			c.queue.AddAfter(key, after)
		}
	}
	return true
}

// sync brings one schedule up to date. It returns when to look again although nothing is reported.
func (c *Controller) sync(ctx context.Context, key cache.ObjectName) (time.Duration, error) {
	schedule, err := c.schedules.MySQLBackupSchedules(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the schedule: %w", err)
	}
	if schedule.DeletionTimestamp != nil {
		return 0, nil // its Jobs go with it, its backups stay
	}
	w, err := c.gather(schedule)
	if err != nil {
		return 0, err
	}
	err = c.syncSchedule(ctx, w)
	err = errors.Join(err, c.publish(ctx, w))
	return w.again(), err
}

// world is one read of everything about a schedule. Objects in it belong to the caches and are not changed.
type world struct {
	schedule *v1beta1.MySQLBackupSchedule
	// cluster is nil when there is none.
	cluster *v1beta1.MySQLCluster
	// ofCluster are all backups of the cluster, own those that the schedule made.
	ofCluster, own []*v1beta1.MySQLBackup
	now            time.Time
	// cron of the backups, invalid why there is none.
	cron    Cron
	invalid error
	// next is the status as it will be.
	next *v1beta1.MySQLBackupScheduleStatus
	// wakes are when to look again.
	wakes []time.Time
	// trouble says why the trial that is due does not go on; "" when it does.
	trouble string
	// refused says why no backup can be made from the template; "" when one can, or none was tried.
	refused string
}

func (c *Controller) gather(schedule *v1beta1.MySQLBackupSchedule) (*world, error) {
	w := &world{schedule: schedule, now: c.now(), next: schedule.Status.DeepCopy()}
	cluster, err := c.clusters.MySQLClusters(schedule.Namespace).Get(schedule.Spec.ClusterName)
	switch {
	case err == nil:
		w.cluster = cluster
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("reading MySQLCluster %s: %w", schedule.Spec.ClusterName, err)
	}
	all, err := c.backups.MySQLBackups(schedule.Namespace).List(labels.Everything())
	if err != nil {
		return nil, fmt.Errorf("listing MySQLBackups: %w", err)
	}
	for _, b := range all {
		if b.Spec.ClusterName == schedule.Spec.ClusterName {
			w.ofCluster = append(w.ofCluster, b)
		}
	}
	w.own = ofSchedule(all, schedule)
	w.cron, w.invalid = Parse(schedule.Spec.Schedule, schedule.Spec.TimeZone)
	return w, nil
}

// wake asks for a look at a time.
func (w *world) wake(at time.Time) {
	if !at.IsZero() {
		w.wakes = append(w.wakes, at)
	}
}

// again is how long to the next look.
func (w *world) again() time.Duration {
	after := resyncMost
	for _, at := range w.wakes {
		after = min(after, max(at.Sub(w.now), time.Second))
	}
	return after
}

// active lists the backups of the schedule that are under way.
func (w *world) active() []*v1beta1.MySQLBackup {
	var found []*v1beta1.MySQLBackup
	for _, b := range w.own {
		if !backup.Done(b) && b.DeletionTimestamp == nil {
			found = append(found, b)
		}
	}
	return found
}

// syncSchedule does everything in order; what fails does not keep the rest from being done.
func (c *Controller) syncSchedule(ctx context.Context, w *world) error {
	w.summarise()
	var failed []error
	if w.cluster != nil && w.cluster.DeletionTimestamp == nil && !w.schedule.Spec.Suspend {
		failed = append(failed, c.make(ctx, w))
	}
	if !w.schedule.Spec.Suspend {
		failed = append(failed, c.retain(ctx, w))
	}
	failed = append(failed, c.verify(ctx, w), c.prune(ctx, w))
	c.conditions(w)
	return errors.Join(failed...)
}

// publish writes the status if it differs, and tells what changed.
func (c *Controller) publish(ctx context.Context, w *world) error {
	if reflect.DeepEqual(w.schedule.Status, *w.next) {
		return nil
	}
	updated := w.schedule.DeepCopy()
	updated.Status = *w.next
	if _, err := c.moco.MocoV1beta1().MySQLBackupSchedules(updated.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	c.announce(w)
	return nil
}
