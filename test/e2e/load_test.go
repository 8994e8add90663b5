// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// besidePace is the time between two writes that are tried on each instance, whoever leads.
	besidePace = 50 * time.Millisecond
	// besidePatience and servicePatience bound one write, connecting included.
	besidePatience  = time.Second
	servicePatience = time.Second
	servicePace     = 10 * time.Millisecond
	// rangeOfIDs keeps the writers of one table apart.
	rangeOfIDs = int64(1_000_000_000)
	// watchAgain is the time between two attempts to watch while the API server is away.
	watchAgain = 200 * time.Millisecond
)

// load is what runs beside a fault: a writer that uses the primary Service as a client does, one writer for each
// instance that tries that very instance from its own node, whoever leads, and somebody who watches the record and
// the Service.
type load struct {
	*fixture
	table   string
	service *workload.Writer
	beside  map[string]*workload.Writer
	watched *watched
	ended   sync.Once
}

// load starts everything, the client of the Service on the node that is named, which no fault of the scenario may cut off.
func (f *fixture) load(t *testing.T, table, node string) *load {
	t.Helper()
	login := must(f.SecretLogin(t.Context(), f.namespace, f.name, "app"))(t)
	db := f.ServiceFrom(t, node, f.namespace, f.name, f.name+"-mysql", login)
	if err := workload.Create(t.Context(), db, table); err != nil {
		f.Fatal(t, f.namespace, "%v", err)
	}
	l := &load{fixture: f, table: table, beside: map[string]*workload.Writer{}, watched: f.watched(t)}
	ctx := context.WithoutCancel(t.Context())
	l.service = workload.Begin(ctx, db, workload.Options{Table: table, First: 1, Pace: servicePace, Patience: servicePatience})
	for _, i := range must(f.Get(t.Context(), f.namespace, f.name))(t).Status.Instances {
		l.beside[i.Name] = workload.Begin(ctx, f.Beside(t, i.Node, f.namespace, f.name, i.Name, login), workload.Options{
			Table: table, First: rangeOfIDs * int64(i.Ordinal+1), Pace: besidePace, Patience: besidePatience,
		})
	}
	t.Cleanup(l.end)
	f.acknowledged(t, l.service, 20)
	return l
}

// end stops all writers.
func (l *load) end() {
	l.ended.Do(func() {
		l.service.Stop()
		for _, w := range l.beside {
			w.Stop()
		}
	})
}

// settle waits until writes go on and the cluster is healthy again, stops the writers and checks everything: each
// acknowledged row is on every instance once, no two instances acknowledged at a time, and the Service never led to two.
// It returns the history of the client of the Service.
func (l *load) settle(t *testing.T) workload.History {
	t.Helper()
	l.acknowledged(t, l.service, 20)
	l.Healthy(t, l.namespace, l.name)
	l.end()
	service := l.service.History()
	beside, all := map[string]workload.History{}, []workload.History{service}
	for pod, w := range l.beside {
		beside[pod] = w.History()
		all = append(all, beside[pod])
	}
	merged := workload.Merge(all...)
	for pod, db := range l.everybody(t, "app") {
		l.Eventually(t, l.namespace, "every acknowledged row on "+pod, 60*time.Second, func(ctx context.Context) error {
			return workload.Check(ctx, db, l.table, merged)
		})
	}
	primaries, endpoints := l.watched.end()
	if n := workload.Alternations(beside); n > len(primaries)-1 {
		l.Fatal(t, l.namespace, "the instance that acknowledged changed %d times, the primary of the record was %q", n, primaries)
	}
	if endpoints > 1 {
		t.Errorf("the primary Service led to %d instances at once", endpoints)
	}
	t.Logf("primaries %q; %s; %d acknowledged in all", primaries, service, len(merged.Acknowledged))
	return service
}

// watched are what was seen of the record and of the primary Service.
type watched struct {
	cancel func()
	wg     sync.WaitGroup

	mu        sync.Mutex
	primaries []string
	endpoints map[string]int
	most      int
}

func (f *fixture) watched(t *testing.T) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &watched{cancel: cancel, endpoints: map[string]int{}}
	s.primary(must(f.Get(ctx, f.namespace, f.name))(t))
	s.wg.Go(func() { f.watchCluster(ctx, func(c *v1beta1.MySQLCluster) bool { s.primary(c); return false }) })
	s.wg.Go(func() { f.watchEndpoints(ctx, s.slice) })
	t.Cleanup(func() { s.end() })
	return s
}

// end returns the primaries in their order and the most endpoints that the primary Service had at a time.
func (s *watched) end() (primaries []string, most int) {
	s.cancel()
	s.wg.Wait()
	return s.primaries, s.most
}

func (s *watched) primary(cluster *v1beta1.MySQLCluster) {
	record := cluster.Status.Replication
	if record == nil || record.LastOpened == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := record.LastOpened.Primary.Name; len(s.primaries) == 0 || s.primaries[len(s.primaries)-1] != name {
		s.primaries = append(s.primaries, name)
	}
}

func (s *watched) slice(event watch.EventType, slice *discoveryv1.EndpointSlice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[slice.Name] = len(slice.Endpoints)
	if event == watch.Deleted {
		delete(s.endpoints, slice.Name)
	}
	n := 0
	for _, some := range s.endpoints {
		n += some
	}
	s.most = max(s.most, n)
}

// watchCluster shows every stored version of the cluster to see until that returns true or the context ends.
func (f *fixture) watchCluster(ctx context.Context, see func(*v1beta1.MySQLCluster) bool) {
	open := func(version string) (watch.Interface, error) {
		return f.Moco.MocoV1beta1().MySQLClusters(f.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + f.name, ResourceVersion: version})
	}
	follow(ctx, open, func(_ watch.EventType, c *v1beta1.MySQLCluster) bool { return see(c) })
}

// watchEndpoints shows every version of the EndpointSlices of the primary Service until the context ends.
func (f *fixture) watchEndpoints(ctx context.Context, see func(watch.EventType, *discoveryv1.EndpointSlice)) {
	open := func(version string) (watch.Interface, error) {
		return f.Kubernetes.DiscoveryV1().EndpointSlices(f.namespace).Watch(ctx, metav1.ListOptions{
			LabelSelector: discoveryv1.LabelServiceName + "=" + f.name + "-mysql", ResourceVersion: version,
		})
	}
	follow(ctx, open, func(event watch.EventType, s *discoveryv1.EndpointSlice) bool { see(event, s); return false })
}

// follow watches, over restarts of the API server, until see returns true or the context ends.
func follow[T metav1.Object](ctx context.Context, open func(version string) (watch.Interface, error), see func(watch.EventType, T) bool) {
	version := ""
	for ctx.Err() == nil {
		w, err := open(version)
		if err != nil {
			select {
			case <-time.After(watchAgain):
			case <-ctx.Done():
			}
			continue
		}
		for event := range w.ResultChan() {
			object, ok := event.Object.(T)
			if !ok {
				version = "" // too old; begin with what there is now
				break
			}
			version = object.GetResourceVersion()
			if see(event.Type, object) {
				w.Stop()
				return
			}
		}
		w.Stop()
	}
}

// nodes of the instances, by Pod.
func (f *fixture) nodes(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, i := range must(f.Get(t.Context(), f.namespace, f.name))(t).Status.Instances {
		found[i.Name] = i.Node
	}
	return found
}

// elsewhere is a node of none of the Pods that are named.
func (f *fixture) elsewhere(t *testing.T, pods ...string) string {
	t.Helper()
	nodes := f.nodes(t)
	var taken []string
	for _, pod := range pods {
		taken = append(taken, nodes[pod])
	}
	for _, node := range must(f.Kubernetes.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}))(t).Items {
		if !slices.Contains(taken, node.Name) {
			return node.Name
		}
	}
	f.Fatal(t, f.namespace, "no node without any of %q", pods)
	return ""
}

// transition waits until the primary was changed since the cluster was as it is in before, checks the proof in the status
// and returns the new state.
func (f *fixture) transition(t *testing.T, before *v1beta1.MySQLCluster, kind v1beta1.TransitionKind) *v1beta1.MySQLCluster {
	t.Helper()
	var after *v1beta1.MySQLCluster
	f.Eventually(t, f.namespace, fmt.Sprintf("a %s from %s", kind, before.Status.Primary), transitionWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		last := cluster.Status.LastTransition
		if last == nil || last.Epoch <= before.Status.Replication.Epoch || cluster.Status.Primary != last.To {
			return fmt.Errorf("the last transition is %+v, decision %+v", last, cluster.Status.Decision)
		}
		after = cluster
		return nil
	})
	proven(t, before, after.Status.LastTransition, kind)
	return after
}

// transitionWithin is how long a change of the primary may take on a busy machine with two cores.
const transitionWithin = 90 * time.Second

// proven checks what the status says of a transition.
func proven(t *testing.T, before *v1beta1.MySQLCluster, last *v1beta1.Transition, kind v1beta1.TransitionKind) {
	t.Helper()
	if last.Kind != kind || last.From != before.Status.Primary || last.To == last.From {
		t.Errorf("a %s from %s to %s, want a %s from %s to another", last.Kind, last.From, last.To, kind, before.Status.Primary)
	}
	if last.LostTransactions != 0 || len(last.AcceptedLoss) != 0 {
		t.Errorf("%d transactions lost, accepted for %q", last.LostTransactions, last.AcceptedLoss)
	}
	proof := last.Proof
	if int(proof.Required) < 1 || len(proof.PromisedBy) < int(proof.Required) || proof.Chosen != last.To || proof.MarkerGTID == "" || len(proof.AckedBy) == 0 {
		t.Errorf("the proof is %+v", proof)
	}
	t.Logf("%s: %s; %d ms without writes, steps %v", last.Kind, last.Reason, last.WritePauseMillis, last.Steps)
}

// sameData checks that every instance is a voter with the data that it had before: nobody was cloned.
func (f *fixture) sameData(t *testing.T, before *v1beta1.MySQLCluster) {
	t.Helper()
	after := must(f.Get(t.Context(), f.namespace, f.name))(t)
	for i, instance := range after.Status.Instances {
		if was := before.Status.Instances[i]; instance.Incarnation != was.Incarnation {
			t.Errorf("%s held incarnation %s and holds %s", instance.Name, was.Incarnation, instance.Incarnation)
		}
		if !instance.Voter {
			t.Errorf("%s has no vote", instance.Name)
		}
	}
}

// stopped freezes processes until the returned function is called or the test ends.
func stopped(t *testing.T, processes ...world.Process) (thaw func()) {
	t.Helper()
	thaw = func() {
		for _, p := range processes {
			_ = p.Signal(syscall.SIGCONT) // one that was killed meanwhile needs no thawing
		}
	}
	t.Cleanup(thaw)
	for _, p := range processes {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	return thaw
}
