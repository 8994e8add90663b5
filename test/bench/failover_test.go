// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// manyVariable and fewVariable set how often a fault is measured: the quick ones, and those of the network or of a
	// process that stands still.
	manyVariable, many = "MOCO_BENCH_N", 100
	fewVariable, few   = "MOCO_BENCH_SLOW_N", 20
	// clientPace and clientPatience are those of the client that is measured; the pace bounds the precision.
	clientPace     = 5 * time.Millisecond
	clientPatience = 500 * time.Millisecond
	// transitionWithin bounds one change of the primary, convergedWithin the return of the old one.
	transitionWithin = 2 * time.Minute
	convergedWithin  = 5 * time.Minute
	// unrelatedEvery is how often somebody else's EndpointSlice changes in one of the measurements.
	unrelatedEvery = time.Second
	// table of the clients.
	table = "measured"
)

// arena is a cluster that loses its primary again and again.
type arena struct {
	*world.World
	namespace, name string
	rounds          int64
	told            []workload.History
}

// fault takes the primary away. It returns what undoes it, to be called when another leads.
type fault func(t *testing.T, primary v1beta1.InstanceStatus) (undo func())

// TestFailoverTimes measures how long the client of the primary Service cannot write when the primary is lost or hands
// over, what the status says of the steps, and how long the old primary takes to vote again.
func TestFailoverTimes(t *testing.T) {
	a := &arena{World: open(t), name: "ha"}
	a.namespace = a.Namespace(t, "bench-failover")
	a.Create(t, world.Cluster(a.namespace, a.name, 3))
	a.ready(t)
	quick, slow := Times(t, manyVariable, many), Times(t, fewVariable, few)
	text := ""
	for _, row := range []struct {
		name   string
		n      int
		fault  fault
		beside func(t *testing.T) (stop func())
	}{
		{"kill -9 of the primary's mysqld", quick, a.kill, nil},
		{"the same while another EndpointSlice changes every second", quick, a.kill, a.unrelated},
		{"switchover", quick, a.switchover, nil},
		{"SIGSTOP of the primary's mysqld", slow, a.freeze, nil},
		{"the primary's node is cut off", slow, a.cut, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.beside != nil {
				defer row.beside(t)()
			}
			m := newMeasured(row.name)
			for range row.n {
				a.round(t, m, row.fault)
			}
			a.nothingLost(t)
			text += m.String() + "\n"
			Publish(t, a.Repo, "failover.md", text)
		})
	}
}

// measured is what is known of one kind of fault.
type measured struct {
	name              string
	gap, pause, again *Distribution
	steps             []*Distribution
}

func newMeasured(name string) *measured {
	return &measured{
		name:  name,
		gap:   &Distribution{Name: name + ": longest time between two OKs", Unit: "s"},
		pause: &Distribution{Name: name + ": pause that the status tells", Unit: "s"},
		again: &Distribution{Name: name + ": until all instances serve and vote again", Unit: "s"},
	}
}

// step returns the distribution of a step of a transition.
func (m *measured) step(name string) *Distribution {
	name = m.name + ": step " + name
	for _, d := range m.steps {
		if d.Name == name {
			return d
		}
	}
	d := &Distribution{Name: name, Unit: "s"}
	m.steps = append(m.steps, d)
	return d
}

func (m *measured) String() string {
	return Table(append([]*Distribution{m.gap, m.pause, m.again}, m.steps...)...)
}

// ready waits until the cluster can lose its primary, and returns its state.
func (a *arena) ready(t *testing.T) *v1beta1.MySQLCluster {
	t.Helper()
	a.Condition(t, a.namespace, a.name, v1beta1.ConditionFailoverPossible, metav1.ConditionTrue, convergedWithin)
	return a.Healthy(t, a.namespace, a.name)
}

// round takes the primary away once and adds what was measured.
func (a *arena) round(t *testing.T, m *measured, take fault) {
	t.Helper()
	before := a.ready(t)
	primary, client := before.Status.Instances[0], ""
	for _, i := range before.Status.Instances {
		if i.Name == before.Status.Primary {
			primary = i
		} else {
			client = i.Node
		}
	}
	db := a.client(t, client)
	defer func() { _ = db.Close() }()
	a.rounds++
	w := workload.Begin(t.Context(), db, workload.Options{Table: table, First: a.rounds * 1_000_000, Pace: clientPace, Patience: clientPatience})
	defer w.Stop()
	a.acknowledged(t, w, 50)
	began := time.Now()
	undo := take(t, primary)
	after := a.transition(t, before)
	a.acknowledged(t, w, 50)
	if after == nil {
		a.told = append(a.told, w.Stop())
		return
	}
	last := after.Status.LastTransition
	h := w.Stop()
	a.told = append(a.told, h)
	m.gap.Add(longest(h.Spans).Seconds())
	m.pause.Add(float64(last.WritePauseMillis) / 1000)
	for _, s := range last.Steps {
		m.step(s.Name).Add(float64(s.Millis) / 1000)
	}
	if undo != nil {
		began = time.Now()
		undo()
	}
	a.Eventually(t, a.namespace, "all instances to serve", convergedWithin, a.whole)
	m.again.Add(time.Since(began).Seconds())
}

// client opens the primary Service from a node and makes the table.
func (a *arena) client(t *testing.T, node string) *sql.DB {
	t.Helper()
	login, err := a.SecretLogin(t.Context(), a.namespace, a.name, "app")
	if err != nil {
		t.Fatal(err)
	}
	db := a.ServiceFrom(t, node, a.namespace, a.name, a.name+"-mysql", login)
	if err := workload.Create(t.Context(), db, table); err != nil {
		a.Fatal(t, a.namespace, "%v", err)
	}
	return db
}

func (a *arena) acknowledged(t *testing.T, w *workload.Writer, more int) {
	t.Helper()
	goal := len(w.History().Acknowledged) + more
	a.Eventually(t, a.namespace, "acknowledged writes", transitionWithin, func(context.Context) error {
		if h := w.History(); len(h.Acknowledged) < goal {
			return errors.Join(errors.New(h.String()), h.LastError)
		}
		return nil
	})
}

// longest is the longest time between the answers of two acknowledged writes.
func longest(spans []workload.Span) time.Duration {
	var gap time.Duration
	for i := 1; i < len(spans); i++ {
		gap = max(gap, spans[i].Ended.Sub(spans[i-1].Ended))
	}
	return gap
}

// transition waits until the status tells of a new primary. It returns nil for a request that came to another end.
func (a *arena) transition(t *testing.T, before *v1beta1.MySQLCluster) *v1beta1.MySQLCluster {
	t.Helper()
	var after *v1beta1.MySQLCluster
	a.Eventually(t, a.namespace, "another primary than "+before.Status.Primary, transitionWithin, func(ctx context.Context) error {
		cluster, err := a.Get(ctx, a.namespace, a.name)
		if err != nil {
			return err
		}
		if asked := cluster.Status.LastRequest; asked != nil && asked.Value == a.request() && asked.State == v1beta1.RequestRefused {
			t.Errorf("the switchover from %s was not done: %s", before.Status.Primary, asked.Message)
			return nil
		}
		if last := cluster.Status.LastTransition; last == nil || last.Epoch <= before.Status.Replication.Epoch || cluster.Status.Primary != last.To {
			return fmt.Errorf("the decision is %+v", cluster.Status.Decision)
		}
		after = cluster
		return nil
	})
	return after
}

// whole says what is missing to a cluster that can lose its primary.
func (a *arena) whole(ctx context.Context) error {
	cluster, err := a.Get(ctx, a.namespace, a.name)
	if err != nil {
		return err
	}
	for _, i := range cluster.Status.Instances {
		if !i.Voter || i.State != v1beta1.StateServing {
			return fmt.Errorf("%s is %s: %s", i.Name, i.State, i.Reason)
		}
	}
	if !apimeta.IsStatusConditionTrue(cluster.Status.Conditions, v1beta1.ConditionHealthy) {
		return fmt.Errorf("the decision is %+v", cluster.Status.Decision)
	}
	return nil
}

// nothingLost checks that every acknowledged row of all rounds so far is on every instance once.
func (a *arena) nothingLost(t *testing.T) {
	t.Helper()
	login, err := a.SecretLogin(t.Context(), a.namespace, a.name, "app")
	if err != nil {
		t.Fatal(err)
	}
	told := workload.Merge(a.told...)
	for _, i := range a.ready(t).Status.Instances {
		db := a.Instance(t, a.namespace, a.name, i.Name, login)
		a.Eventually(t, a.namespace, "every acknowledged row on "+i.Name, time.Minute, func(ctx context.Context) error {
			return workload.Check(ctx, db, table, told)
		})
	}
	t.Logf("all %d acknowledged rows are on all instances", len(told.Acknowledged))
}

func (a *arena) kill(t *testing.T, primary v1beta1.InstanceStatus) func() {
	t.Helper()
	a.signal(t, primary.Name, syscall.SIGKILL)
	return nil
}

// freeze needs no undoing: the agent of the primary ends the server, which stands still, and starts it again.
func (a *arena) freeze(t *testing.T, primary v1beta1.InstanceStatus) func() {
	t.Helper()
	a.signal(t, primary.Name, syscall.SIGSTOP)
	return nil
}

func (a *arena) signal(t *testing.T, pod string, signal syscall.Signal) {
	t.Helper()
	server, err := a.Mysqld(t.Context(), a.namespace, pod)
	if err == nil {
		err = server.Signal(signal)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (a *arena) cut(t *testing.T, primary v1beta1.InstanceStatus) func() {
	t.Helper()
	return a.CutNode(t, primary.Node)
}

func (a *arena) switchover(t *testing.T, _ v1beta1.InstanceStatus) func() {
	t.Helper()
	value := v1beta1.AnnotationSwitchover + "=" + a.request()
	if _, err := a.Kubectl(t.Context(), "annotate", "mysqlcluster", "-n", a.namespace, a.name, "--overwrite", value); err != nil {
		t.Fatal(err)
	}
	return nil
}

// request is the value of the annotation in this round.
func (a *arena) request() string { return fmt.Sprintf("any=round-%d", a.rounds) }

// unrelated changes the EndpointSlice of another Service every second: kube-proxy puts changes together, so those of the
// primary Service may have to wait for it.
func (a *arena) unrelated(t *testing.T) (stop func()) {
	t.Helper()
	manifest := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"unrelated"},"spec":{"ports":[{"port":80}]}}`
	if _, err := a.KubectlInput(t.Context(), manifest, "apply", "-n", a.namespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	slices := a.Kubernetes.DiscoveryV1().EndpointSlices(a.namespace)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "unrelated", Labels: map[string]string{discoveryv1.LabelServiceName: "unrelated"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: ptr.To(int32(80))}},
	}
	if _, err := slices.Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(unrelatedEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				done <- nil
				return
			}
			slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("192.0.2.%d", n%250+1)}}}
			if _, err := slices.Update(ctx, slice, metav1.UpdateOptions{}); err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("changing another EndpointSlice: %v", err)
		}
	}
}
