// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
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
	// Nodes is where nodes are looked up, for all scopes the same, trimmed by TrimNode; nil: nothing is done when one is gone.
	Nodes coreinformers.NodeInformer
	// Backups is where it is looked up whether a backup closes a gap of an archive; nil: a gap is shown as long as it is there.
	Backups mocolisters.MySQLBackupLister
	// Decisions is where decisions are kept for people; nil for nowhere.
	Decisions *Decisions
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
	// nodes is nil when nodes are not looked at.
	nodes  corelisters.NodeLister
	synced []cache.InformerSynced

	queue    workqueue.TypedRateLimitingInterface[cache.ObjectName]
	memories memories
	fleet    *fleet
	identity atomic.Pointer[identity]
	// commands are those that are under way; some outlast the sync that sent them.
	commands sync.WaitGroup
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
	if config.Nodes != nil {
		c.nodes = config.Nodes.Lister()
		if err := c.watchNodes(config.Nodes.Informer()); err != nil {
			return nil, fmt.Errorf("watching Nodes: %w", err)
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
		c.commands.Wait()
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
	}
	if after > 0 { // after a failure, too: an object that cannot be written must not delay a failover
		c.queue.AddAfter(key, after)
	}
	return true
}

// sync brings one cluster a step nearer to its spec. It returns when to look again although nothing is reported.
func (c *Controller) sync(ctx context.Context, key cache.ObjectName) (time.Duration, error) {
	cluster, err := c.clusters.MySQLClusters(key.Namespace).Get(key.Name)
	if apierrors.IsNotFound(err) {
		c.fleet.listen(ctx, key, nil)
		c.memories.forget(key)
		c.config.Decisions.forget(key)
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
	archiveErr, restoreErr := c.loadArchive(ctx, w), c.loadRestore(ctx, w)
	c.observe(w)
	c.judgeRestore(w)
	configured, configureErr := c.configure(ctx, w)
	replaceErr := c.seekReplacements(ctx, w)
	plan, did, executeErr := c.act(ctx, w, configured)
	primaryErr := c.syncPrimary(ctx, w)
	c.concludeTransition(w)
	var purgeErr error
	if !did.acted && len(configured) == 0 {
		purgeErr = c.purge(ctx, w)
	}
	out := outcome{decision: plan.Decision}
	if c.objectsDue(w, plan) {
		out.pendingPods, out.objects = c.syncChildren(ctx, w)
		w.memory.objects = objectsLook{pending: out.pendingPods, err: out.objects, problem: w.settings.problem, at: c.now()}
	} else if w.settings.problem == nil {
		w.settings.problem = w.memory.objects.problem
	}
	out.pendingPods, out.objects = w.memory.objects.pending, errors.Join(credentialsErr, primaryErr, w.memory.objects.err)
	var publishErr error
	if c.publishDue(w, plan) {
		publishErr = c.publish(ctx, w, out)
	}
	err = errors.Join(settleErr, archiveErr, restoreErr, configureErr, replaceErr, purgeErr, executeErr, out.objects, publishErr)
	return w.lookAgain(plan, len(configured) > 0 || did.acted || w.urgent(plan)), err
}

// maxRounds bounds how often one sync decides: after a record was written, what follows from it is done at once.
const maxRounds = 4

// act decides and carries out, again as long as the record moves on.
func (c *Controller) act(ctx context.Context, w *world, configured map[string]bool) (plan topology.Plan, did effect, err error) {
	name := cache.MetaObjectToName(w.cluster)
	for range maxRounds {
		c.noteRequest(w, c.inquiry(w).ended())
		want := desired(w)
		plan = w.decide(want)
		c.noteRequest(w, c.inquiry(w).planned(plan))
		w.memory.history.planned(&w.seen, plan, c.now())
		c.fleet.attend(name, plan.Decision.Rule != topology.RuleSteady)
		klog.FromContext(ctx).V(4).Info("Decided", "cluster", name, "rule", plan.Decision.Rule, "reason", plan.Decision.Reason, "actions", len(plan.Actions))
		if err := c.config.Decisions.note(name, c.now(), want, w.seen, plan); err != nil {
			utilruntime.HandleErrorWithContext(ctx, err, "Keeping a decision failed", "cluster", name)
		}
		// What was configured moved on and would refuse; its news brings the next sync.
		todo := plan
		todo.Actions = slices.DeleteFunc(slices.Clone(plan.Actions), func(a topology.Action) bool { return configured[a.Instance] })
		awake := len(todo.Actions)
		todo.Actions = slices.DeleteFunc(todo.Actions, func(a topology.Action) bool { return a.Kind == topology.Open && w.rests(a.Instance, c.now()) })
		did.acted = did.acted || len(todo.Actions) < awake
		w.reading = plan.Decision.Rule == topology.RuleReadVolumes
		done, err := c.execute(ctx, w, todo)
		did.acted = did.acted || done.acted
		if err != nil || !done.wrote {
			return plan, did, err
		}
		c.observe(w)
	}
	return plan, did, nil
}

// restFor is how long a former primary serves nobody after another was opened. As long as a kube-proxy still leads to it,
// clients that mean the primary would connect to a server that is read-only, and stay.
const restFor = 5 * time.Second

// rests reports whether an instance has just handed over or was just replaced.
func (w *world) rests(instance string, now time.Time) bool {
	last := w.memory.history.last
	if last == nil {
		last = w.cluster.Status.LastTransition
	}
	if last == nil || last.From != instance || last.To == instance {
		return false
	}
	opened := last.StartedAt.Add(time.Duration(last.WritePauseMillis) * time.Millisecond)
	return now.Before(opened.Add(restFor)) && w.seen.Record != nil && w.seen.Record.Primary != nil && w.seen.Record.Primary.Name != instance
}

// leadsToServing reports whether a rule is a step on the way to a primary that serves.
func leadsToServing(rule topology.Rule) bool {
	switch rule {
	case topology.RuleFailover, topology.RuleSwitchover, topology.RuleChoose, topology.RulePrepare, topology.RuleMark, topology.RuleOpen:
		return true
	default:
		return false
	}
}

// urgent reports whether clients may be waiting for a plan: objects and words come after it. Nobody waits for a cluster in
// the making, nor for a growth beside an open primary.
func (w *world) urgent(plan topology.Plan) bool {
	r := w.seen.Record
	if !leadsToServing(plan.Decision.Rule) || r == nil || r.LastOpened == nil {
		return false
	}
	return r.Primary == nil || plan.Decision.Rule == topology.RuleSwitchover || !isOpen(holder(&w.seen, r.Primary.Incarnation))
}

// objectsLook is how a look at the Kubernetes objects ended.
type objectsLook struct {
	pending []string
	err     error
	problem *invalid
	at      time.Time
}

const (
	// objectsInterval and publishInterval are how often objects are looked at, and words are written, while clients may be
	// waiting. A change of the read Service's slices would make kube-proxy carry out that of the primary's a second later.
	objectsInterval = 5 * time.Second
	publishInterval = 500 * time.Millisecond
)

// objectsDue reports whether the Kubernetes objects are to be looked at now.
func (c *Controller) objectsDue(w *world, plan topology.Plan) bool {
	return !w.urgent(plan) || c.now().Sub(w.memory.objects.at) >= objectsInterval
}

// publishDue reports whether the status is to be written now.
func (c *Controller) publishDue(w *world, plan topology.Plan) bool {
	news := w.requestNews() ||
		(w.memory.history.last != nil && !reflect.DeepEqual(w.memory.history.last, w.cluster.Status.LastTransition))
	return !w.urgent(plan) || news || c.now().Sub(w.memory.publishedAt) >= publishInterval
}

// lookAgain is when to sync again although nothing is reported: soon after something was done, and when a silence has
// lasted as long as it takes to suspect a primary.
func (w *world) lookAgain(plan topology.Plan, acted bool) time.Duration {
	after := plan.Requeue
	if acted {
		after = soon
	}
	detection := detectionOf(w.cluster)
	for n := range w.seen.Instances {
		i := &w.seen.Instances[n]
		if left := detection - i.Silent + time.Millisecond; i.Agent == nil && left > 0 && (after == 0 || left < after) {
			after = left
		}
	}
	return after
}

// concludeTransition keeps and announces a change of the primary whose new primary serves.
func (c *Controller) concludeTransition(w *world) {
	history := &w.memory.history
	made := history.finish(w.seen.Record, w.openedAt())
	if made == nil && history.now == nil && history.last == nil {
		made = unseen(w.seen.Record, w.cluster.Status.LastTransition)
		history.last = made
	}
	if made == nil {
		return
	}
	if len(made.AcceptedLoss) > 0 {
		w.memory.acceptance.used = w.cluster.Annotations[v1beta1.AnnotationAcceptLoss]
	}
	c.events.Event(w.cluster, corev1.EventTypeNormal, string(made.Kind), announcement(made))
}

// notYet is the decision of a sync that could not begin.
func notYet(err error) topology.Decision {
	return topology.Decision{Rule: topology.RuleHold, Reason: "the account Secrets and certificates are not in order", WaitingFor: err.Error()}
}
