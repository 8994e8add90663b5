// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// longestSwitch is how long writes may stand still while a primary hands over, on a busy machine with two cores. What
	// it takes is in the benchmarks.
	longestSwitch = 15 * time.Second
	// alternations of kill and switchover; with soakVariable set it is soakAlternations.
	alternations     = 10
	soakAlternations = 100
	soakVariable     = "MOCO_SOAK"
)

// TestFailover lives with one cluster through every fault that takes its primary away, one after the other. After each
// the cluster becomes healthy untouched, and everything that was acknowledged is on every instance.
func TestFailover(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-failover"), name: "ha"}
	ready := scenario(t, "a cluster of three can lose its primary", func(t *testing.T) {
		f.Create(t, world.Cluster(f.namespace, f.name, 3))
		f.Healthy(t, f.namespace, f.name)
		f.Condition(t, f.namespace, f.name, v1beta1.ConditionFailoverPossible, metav1.ConditionTrue, time.Minute)
	})
	if !ready {
		t.Fatal("without a cluster there is nothing to lose")
	}
	for _, s := range []struct {
		name string
		body func(*testing.T)
	}{
		{"the primary's mysqld is killed: another leads, and the old one comes back by rewind", f.mysqldKilled},
		{"the primary's mysqld stands still and goes on later", f.mysqldFrozen},
		{"the whole primary stands still and goes on later", f.instanceFrozen},
		{"the primary's Pod is deleted: it hands over first", f.podDeleted},
		{"the primary's Pod is deleted by force", f.podForced},
		{"a switchover to a named Pod, to any, and to one that does not exist", f.switchovers},
		{"the leading controller is killed right after it claimed an epoch", f.claimantKilled},
		{"the primary's node is cut off with sessions on both sides", f.primaryCut},
		{"the primary and a replica are cut off: nobody takes over", f.majorityCut},
		{"a replica is cut off and the primary's mysqld is killed: the primary itself comes back", f.salvaged},
		{"the API server is away, and a replica dies meanwhile", f.serverless},
		{"all Pods are deleted at once", f.allDeleted},
		{"with mode Manual a lost primary is replaced when a person says so", f.manual},
		{"a replica loses its volume and gets its vote back", f.volumeLost},
		{"kills and switchovers in turn", f.alternating},
	} {
		if ok := scenario(t, s.name, s.body); !ok && f.Wait(t.Context(), recoverWithin, f.recovered) != nil {
			t.Fatal("the cluster did not become healthy again, so nothing more can be learnt from it")
		}
	}
}

// recoverWithin is how long a cluster may take to become healthy after a scenario that failed.
const recoverWithin = time.Minute

// recovered says what is missing to a healthy cluster.
func (f *fixture) recovered(ctx context.Context) error {
	cluster, err := f.Get(ctx, f.namespace, f.name)
	if err == nil && !apimeta.IsStatusConditionTrue(cluster.Status.Conditions, v1beta1.ConditionHealthy) {
		err = fmt.Errorf("the decision is %+v", cluster.Status.Decision)
	}
	return err
}

// healthy waits for a cluster without a fault and returns its state.
func (f *fixture) healthy(t *testing.T) *v1beta1.MySQLCluster {
	t.Helper()
	f.Condition(t, f.namespace, f.name, v1beta1.ConditionFailoverPossible, metav1.ConditionTrue, world.HealthyWithin)
	return f.Healthy(t, f.namespace, f.name)
}

func (f *fixture) mysqldKilled(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	l := f.load(t, "mysqld_killed", f.elsewhere(t, primary))
	f.kill(t, primary)
	f.transition(t, before, v1beta1.TransitionFailover)
	h := l.settle(t)
	f.sameData(t, before)
	if h.LongestGap > transitionWithin {
		t.Errorf("writes stood still for %s", h.LongestGap)
	}
}

// kill ends the mysqld of an instance as kill -9 does.
func (f *fixture) kill(t *testing.T, pod string) {
	t.Helper()
	if err := must(f.Mysqld(t.Context(), f.namespace, pod))(t).Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// mysqldFrozen: the agent of the primary is well, so it ends the server that does not answer.
func (f *fixture) mysqldFrozen(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	l := f.load(t, "mysqld_frozen", f.elsewhere(t, primary))
	thaw := stopped(t, must(f.Mysqld(t.Context(), f.namespace, primary))(t))
	f.transition(t, before, v1beta1.TransitionFailover)
	f.acknowledged(t, l.service, 20)
	thaw()
	l.settle(t)
	f.sameData(t, before)
}

// instanceFrozen: nobody on the primary's side can do anything, as when a machine is paused. What goes on later believes
// that it leads, until its agent hears otherwise; no write of its clients may be acknowledged.
func (f *fixture) instanceFrozen(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	l := f.load(t, "instance_frozen", f.elsewhere(t, primary))
	thaw := stopped(t, must(f.Agent(t.Context(), f.namespace, primary))(t), must(f.Mysqld(t.Context(), f.namespace, primary))(t))
	f.transition(t, before, v1beta1.TransitionFailover)
	f.acknowledged(t, l.service, 20)
	thaw()
	l.settle(t)
	f.sameData(t, before)
}

func (f *fixture) podDeleted(t *testing.T) {
	before := f.healthy(t)
	l := f.load(t, "pod_deleted", f.elsewhere(t, before.Status.Primary))
	must(f.Kubectl(t.Context(), "delete", "pod", "-n", f.namespace, before.Status.Primary, "--wait=false"))(t)
	f.transition(t, before, v1beta1.TransitionSwitchover)
	h := l.settle(t)
	f.sameData(t, before)
	// Whoever had a transaction open loses it; everybody else is refused at once and comes again.
	if len(h.Unknown) > 5 || h.LongestGap > longestSwitch {
		t.Errorf("the client of the Service met %s; last %v", h, h.LastError)
	}
}

// podForced: Kubernetes forgets the Pod at once, and makes the next one while the containers of the first are being ended.
func (f *fixture) podForced(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	l := f.load(t, "pod_forced", f.elsewhere(t, primary))
	uid := must(f.Pod(t.Context(), f.namespace, primary))(t).UID
	must(f.Kubectl(t.Context(), "delete", "pod", "-n", f.namespace, primary, "--grace-period=0", "--force"))(t)
	f.Eventually(t, f.namespace, "a new Pod "+primary, world.AvailableWithin, func(ctx context.Context) error {
		pod, err := f.Pod(ctx, f.namespace, primary)
		if err == nil && pod.UID == uid {
			err = errors.New("it is the old one")
		}
		return err
	})
	f.moved(t, before)
	l.settle(t)
	f.sameData(t, before)
}

// moved waits until the record shows a later epoch that is open.
func (f *fixture) moved(t *testing.T, before *v1beta1.MySQLCluster) *v1beta1.MySQLCluster {
	t.Helper()
	var after *v1beta1.MySQLCluster
	f.Eventually(t, f.namespace, fmt.Sprintf("an epoch after %d", before.Status.Replication.Epoch), transitionWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		record := cluster.Status.Replication
		if record.Epoch <= before.Status.Replication.Epoch || record.Phase != v1beta1.RecordOpened {
			return fmt.Errorf("epoch %d is %s; decision %+v", record.Epoch, record.Phase, cluster.Status.Decision)
		}
		after = cluster
		return nil
	})
	return after
}

// claimantKilled kills the controller that claimed an epoch, between that and the choice: the next one begins again.
func (f *fixture) claimantKilled(t *testing.T) {
	before := f.healthy(t)
	l := f.load(t, "claimant_killed", f.elsewhere(t, before.Status.Primary))
	ctx, cancel := context.WithTimeout(t.Context(), transitionWithin)
	defer cancel()
	claimed := make(chan int64, 1)
	go f.watchCluster(ctx, func(c *v1beta1.MySQLCluster) bool {
		record := c.Status.Replication
		if record == nil || record.Epoch <= before.Status.Replication.Epoch || record.Phase == v1beta1.RecordOpened {
			return false
		}
		claimed <- record.Epoch
		return true
	})
	f.kill(t, before.Status.Primary)
	select {
	case epoch := <-claimed:
		if err := f.killLeader(ctx); err != nil {
			f.Fatal(t, f.namespace, "epoch %d: %v", epoch, err)
		}
		t.Logf("killed the controller when it had claimed epoch %d", epoch)
	case <-ctx.Done():
		f.Fatal(t, f.namespace, "no epoch was claimed")
	}
	f.moved(t, before)
	l.settle(t)
	f.sameData(t, before)
}

func (f *fixture) allDeleted(t *testing.T) {
	before := f.healthy(t)
	l := f.load(t, "all_deleted", f.elsewhere(t))
	must(f.Kubectl(t.Context(), "delete", "pods", "-n", f.namespace, "-l", v1beta1.LabelCluster+"="+f.name, "--wait=false"))(t)
	f.Eventually(t, f.namespace, "other Pods in all places", world.AvailableWithin, func(ctx context.Context) error {
		for _, i := range before.Status.Instances {
			pod, err := f.Pod(ctx, f.namespace, i.Name)
			if err != nil {
				return err
			}
			if string(pod.UID) == i.PodUID {
				return fmt.Errorf("%s is the old one", i.Name)
			}
		}
		return nil
	})
	l.settle(t)
	f.sameData(t, before)
}

// volumeLost deletes a replica with its volume. The Pod protects the volume until it is gone itself.
func (f *fixture) volumeLost(t *testing.T) {
	before := f.healthy(t)
	lost := before.Status.Instances[0]
	if lost.Name == before.Status.Primary {
		lost = before.Status.Instances[1]
	}
	l := f.load(t, "volume_lost", f.elsewhere(t, lost.Name))
	must(f.Kubectl(t.Context(), "delete", "pvc", "-n", f.namespace, lost.Volume, "--wait=false"))(t)
	must(f.Kubectl(t.Context(), "delete", "pod", "-n", f.namespace, lost.Name, "--wait=false"))(t)
	f.Eventually(t, f.namespace, lost.Name+" to be a voter with other data", world.HealthyWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		now := cluster.Status.Instances[lost.Ordinal]
		if now.Incarnation == "" || now.Incarnation == lost.Incarnation || !now.Voter {
			return fmt.Errorf("it holds %q, before %q, voter %t, state %s: %s", now.Incarnation, lost.Incarnation, now.Voter, now.State, now.Reason)
		}
		return nil
	})
	h := l.settle(t)
	if len(h.Refused)+len(h.Unknown) > 0 {
		t.Errorf("writes failed while a replica was made anew: %s; %v", h, h.LastError)
	}
}

// alternating kills the primary and lets it hand over in turn, as soon as the cluster is healthy again.
func (f *fixture) alternating(t *testing.T) {
	n := alternations
	if os.Getenv(soakVariable) != "" {
		n = soakAlternations
	}
	first := f.healthy(t)
	l := f.load(t, "alternating", f.elsewhere(t))
	for i := range n {
		before := f.healthy(t)
		if i%2 == 0 {
			f.kill(t, before.Status.Primary)
			f.transition(t, before, v1beta1.TransitionFailover)
			continue
		}
		f.ask(t, fmt.Sprintf("any=turn-%d", i))
		f.transition(t, before, v1beta1.TransitionSwitchover)
	}
	l.settle(t)
	f.sameData(t, first)
}
