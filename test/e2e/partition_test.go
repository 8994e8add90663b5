// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// holdWithin is how long it may take until the status says that nobody can take over.
	holdWithin = 60 * time.Second
	// serverAway is how long writes go on without the API server, before a replica dies and after that.
	serverAway = 16 * time.Second
	// leaseFresh is the age of the lease of a controller that leads; it renews it every second.
	leaseFresh = 3 * time.Second
)

// primaryCut: clients on the primary's node go on to reach it, and must not be told OK once another leads; those elsewhere
// reach the new one.
func (f *fixture) primaryCut(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	l := f.load(t, "primary_cut", f.elsewhere(t, primary))
	heal := f.CutNode(t, nodeOf(before))
	f.transition(t, before, v1beta1.TransitionFailover)
	f.acknowledged(t, l.service, 20)
	side := l.beside[primary]
	tried := tries(side.History())
	f.Eventually(t, f.namespace, "clients on the node that is cut off to have tried to write", 30*time.Second, func(context.Context) error {
		if now := tries(side.History()); now < tried+5 {
			return fmt.Errorf("they tried %d times", now-tried)
		}
		return nil
	})
	heal()
	l.settle(t)
	f.sameData(t, before)
}

// tries are the writes that a writer knows anything of.
func tries(h workload.History) int { return len(h.Acknowledged) + len(h.Refused) + len(h.Unknown) }

// majorityCut cuts two of three nodes off, the primary's among them, so that a controller is left with one replica. That
// one may lack what the other replica acknowledged.
func (f *fixture) majorityCut(t *testing.T) {
	before := f.healthy(t)
	rest := f.controllersNode(t, before)
	l := f.load(t, "majority_cut", rest)
	var heals []func()
	for _, node := range must(f.Kubernetes.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}))(t).Items {
		if node.Name != rest {
			heals = append(heals, f.CutNode(t, node.Name))
		}
	}
	f.impossible(t, before, "")
	acknowledged := len(l.service.History().Acknowledged)
	now := must(f.Get(t.Context(), f.namespace, f.name))(t)
	if now.Status.Replication.LastOpened.Epoch != before.Status.Replication.Epoch {
		t.Errorf("epoch %d was opened by one of three", now.Status.Replication.LastOpened.Epoch)
	}
	if more := len(l.service.History().Acknowledged) - acknowledged; more > 0 {
		t.Errorf("%d writes were acknowledged by one of three", more)
	}
	for _, heal := range heals {
		heal()
	}
	l.settle(t)
	f.sameData(t, before)
}

// controllersNode is a node with a controller and without the primary.
func (f *fixture) controllersNode(t *testing.T, cluster *v1beta1.MySQLCluster) string {
	t.Helper()
	node := ""
	f.Eventually(t, world.SystemNamespace, "a controller on another node than "+cluster.Status.Primary, time.Minute, func(ctx context.Context) error {
		pods, err := f.Kubernetes.CoreV1().Pods(world.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=controller"})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp == nil && pod.Status.Phase == "Running" && pod.Spec.NodeName != nodeOf(cluster) {
				node = pod.Spec.NodeName
				return nil
			}
		}
		return errors.New("there is none")
	})
	return node
}

// impossible waits until the status says that a failover is not possible and names the missing instance.
func (f *fixture) impossible(t *testing.T, before *v1beta1.MySQLCluster, missing string) {
	t.Helper()
	f.Eventually(t, f.namespace, "FailoverPossible=False with the name of the missing "+missing, holdWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		found := apimeta.FindStatusCondition(cluster.Status.Conditions, v1beta1.ConditionFailoverPossible)
		if found == nil || found.Status != metav1.ConditionFalse {
			return fmt.Errorf("the condition is %+v; decision %+v", found, cluster.Status.Decision)
		}
		named := missing
		for _, i := range before.Status.Instances {
			if missing == "" && i.Name != before.Status.Primary && strings.Contains(found.Message, i.Name) {
				named = i.Name
			}
		}
		if named == "" || !strings.Contains(found.Message, named) {
			return fmt.Errorf("the condition names nobody: %s", found.Message)
		}
		t.Logf("%s: %s", found.Reason, found.Message)
		return nil
	})
}

// salvaged: the one replica that is left may lack what the other one acknowledged, so only the primary itself, whose disk
// holds everything, may lead again.
func (f *fixture) salvaged(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	_, replicas := f.pods(t)
	l := f.load(t, "salvaged", f.elsewhere(t, replicas[0]))
	heal := f.CutNode(t, f.nodes(t)[replicas[0]])
	f.impossible(t, before, replicas[0])
	f.acknowledged(t, l.service, 20)
	server := must(f.Mysqld(t.Context(), f.namespace, primary))(t)
	f.kill(t, primary)
	f.Eventually(t, f.namespace, "another mysqld of "+primary, transitionWithin, func(ctx context.Context) error {
		next, err := f.Mysqld(ctx, f.namespace, primary)
		if err == nil && next == server {
			err = errors.New("it is the old one")
		}
		return err
	})
	f.acknowledged(t, l.service, 20)
	if now := must(f.Get(t.Context(), f.namespace, f.name))(t); now.Status.Primary != primary {
		t.Errorf("%s leads with one of two replicas, it was %s", now.Status.Primary, primary)
	}
	heal()
	l.settle(t)
	f.sameData(t, before)
}

// serverless: without the API server nobody decides, and nobody needs to. A replica that dies meanwhile is taken up again
// afterwards; the other one acknowledges.
func (f *fixture) serverless(t *testing.T) {
	before := f.healthy(t)
	_, replicas := f.pods(t)
	victim := must(f.Mysqld(t.Context(), f.namespace, replicas[0]))(t)
	l := f.load(t, "serverless", f.elsewhere(t))
	start := f.StopAPI(t)
	f.goesOn(t, l)
	if err := victim.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.goesOn(t, l)
	start()
	// kube-proxy takes its time until the nodes find the API server again.
	f.Eventually(t, f.namespace, "a controller that leads", world.AvailableWithin, func(ctx context.Context) error {
		lease, err := f.Kubernetes.CoordinationV1().Leases(world.SystemNamespace).Get(ctx, "moco-controller", metav1.GetOptions{})
		if err == nil && (lease.Spec.RenewTime == nil || time.Since(lease.Spec.RenewTime.Time) > leaseFresh) {
			err = fmt.Errorf("the lease was renewed at %s", lease.Spec.RenewTime)
		}
		return err
	})
	f.Eventually(t, f.namespace, "another mysqld of "+replicas[0], world.AvailableWithin, func(ctx context.Context) error {
		next, err := f.Mysqld(ctx, f.namespace, replicas[0])
		if err == nil && next == victim {
			err = errors.New("it is the old one")
		}
		return err
	})
	h := l.settle(t)
	f.sameData(t, before)
	if after := must(f.Get(t.Context(), f.namespace, f.name))(t); after.Status.Primary != before.Status.Primary || after.Status.Replication.Epoch != before.Status.Replication.Epoch {
		t.Errorf("epoch %d of %s became epoch %d of %s", before.Status.Replication.Epoch, before.Status.Primary, after.Status.Replication.Epoch, after.Status.Primary)
	}
	if h.LongestGap > longestStall {
		t.Errorf("writes stood still for %s", h.LongestGap)
	}
}

// goesOn waits until writes were acknowledged for the time of serverAway.
func (f *fixture) goesOn(t *testing.T, l *load) {
	t.Helper()
	began := time.Now()
	f.Eventually(t, f.namespace, fmt.Sprintf("acknowledged writes for %s", serverAway), 2*serverAway, func(context.Context) error {
		h := l.service.History()
		if last := h.Spans[len(h.Spans)-1].Ended; last.Sub(began) < serverAway {
			return fmt.Errorf("the last one came after %s", last.Sub(began).Round(time.Second))
		}
		return nil
	})
}
