// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// nameless is how long there is no DNS.
	nameless = 60 * time.Second
	// rivalry is how many changes of the primary there are while two controllers lead.
	rivalry = 6
	// rival is the Pod of the controller that leads without asking for the lease.
	rival = "moco-controller-rival"
	// repairWithin bounds the undoing of a fault of these scenarios.
	repairWithin = 60 * time.Second
)

// TestAdversity changes the primary while something that one would count on is missing, or there twice.
func TestAdversity(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-adversity"), name: "ad"}
	ready := scenario(t, "a cluster of three among adversities", func(t *testing.T) {
		f.Create(t, world.Cluster(f.namespace, f.name, 3))
		f.healthy(t)
	})
	if !ready {
		t.Fatal("without a cluster there is nothing to disturb")
	}
	for _, s := range []struct {
		name string
		body func(*testing.T)
	}{
		{"there is no DNS while the primary is lost", f.nameless},
		{"only the port of MySQL is cut between the primary and its replicas", f.replicationCut},
		{"two controllers lead at once", f.rivals},
	} {
		if ok := scenario(t, s.name, s.body); !ok && f.Wait(t.Context(), recoverWithin, f.recovered) != nil {
			t.Fatal("the cluster did not become healthy again, so nothing more can be learnt from it")
		}
	}
}

// nameless stops the cluster's DNS for a while. No name may be needed to replace a primary, nor for it to come back.
func (f *fixture) nameless(t *testing.T) {
	before := f.healthy(t)
	l := f.load(t, "nameless", f.elsewhere(t, before.Status.Primary))
	again := f.stopDNS(t)
	began := time.Now()
	f.kill(t, before.Status.Primary)
	f.transition(t, before, v1beta1.TransitionFailover)
	f.healthy(t)
	f.Eventually(t, f.namespace, fmt.Sprintf("acknowledged writes until %s are over", nameless), 2*nameless, func(context.Context) error {
		h := l.service.History()
		if last := h.Spans[len(h.Spans)-1].Ended; last.Sub(began) < nameless {
			return fmt.Errorf("the last one came after %s", last.Sub(began).Round(time.Second))
		}
		return nil
	})
	again()
	l.settle(t)
	f.sameData(t, before)
}

// stopDNS ends CoreDNS until the returned function is called or the test ends.
func (f *fixture) stopDNS(t *testing.T) (again func()) {
	t.Helper()
	const name, replicas = "coredns", "-o=jsonpath={.spec.replicas}"
	had := must(f.Kubectl(t.Context(), "get", "deployment", "-n", metav1.NamespaceSystem, name, replicas))(t)
	scale := func(ctx context.Context, count string) error {
		_, err := f.Kubectl(ctx, "scale", "deployment", "-n", metav1.NamespaceSystem, name, "--replicas="+strings.TrimSpace(count))
		return err
	}
	again = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), repairWithin)
		defer cancel()
		if err := scale(ctx, had); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(again)
	if err := scale(t.Context(), "0"); err != nil {
		t.Fatal(err)
	}
	f.Eventually(t, metav1.NamespaceSystem, "CoreDNS to be gone", time.Minute, func(ctx context.Context) error {
		pods, err := f.Kubernetes.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d Pods are left", len(pods.Items))
		}
		return err
	})
	return again
}

// replicationCut: the agent of the primary answers, and mysqld is well, but nobody can acknowledge what it writes.
func (f *fixture) replicationCut(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	l := f.load(t, "replication_cut", f.elsewhere(t, primary))
	heal := f.cutPort(t, nodeOf(before), must(f.Pod(t.Context(), f.namespace, primary))(t).Status.PodIP)
	f.transition(t, before, v1beta1.TransitionFailover)
	f.acknowledged(t, l.service, 20)
	heal()
	l.settle(t)
	f.sameData(t, before)
}

// cutPort drops on a node what comes from others for port 3306 of a Pod, until the returned function is called or the test
// ends.
func (f *fixture) cutPort(t *testing.T, node, ip string) (heal func()) {
	t.Helper()
	filter := func(ctx context.Context, operation string) error {
		arguments := append([]string{"netns", "exec", "moco-" + node, "iptables", "-w", operation, "FORWARD"}, "-p", "tcp", "-d", ip, "--dport", "3306", "-j", "DROP")
		if out, err := exec.CommandContext(ctx, "ip", arguments...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	heal = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), repairWithin)
		defer cancel()
		if err := filter(ctx, "-D"); err != nil {
			t.Error(err)
		}
	})
	if err := filter(t.Context(), "-I"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(heal)
	return heal
}

// rivals: the lease is no fence. A second controller leads without it while primaries are killed and hand over; each may undo
// what the other began, and nothing acknowledged may be lost, nor may two instances serve.
func (f *fixture) rivals(t *testing.T) {
	first := f.healthy(t)
	l := f.load(t, "rivals", f.elsewhere(t))
	end := f.startRival(t)
	for i := range rivalry {
		before := f.healthy(t)
		if i%2 == 0 {
			f.kill(t, before.Status.Primary)
			f.moved(t, before)
			continue
		}
		f.ask(t, fmt.Sprintf("any=rivals-%d", i))
		f.answered(t, fmt.Sprintf("any=rivals-%d", i))
	}
	end()
	l.settle(t)
	f.sameData(t, first)
}

// startRival runs another controller with the rights and the options of the first, but for the leader election.
func (f *fixture) startRival(t *testing.T) (end func()) {
	t.Helper()
	deployment := must(f.Kubernetes.AppsV1().Deployments(world.SystemNamespace).Get(t.Context(), "moco-controller", metav1.GetOptions{}))(t)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: world.SystemNamespace, Name: rival, Labels: map[string]string{"app.kubernetes.io/component": "rival"}},
		Spec:       *deployment.Spec.Template.Spec.DeepCopy(),
	}
	pod.Spec.Containers[0].Args = append(pod.Spec.Containers[0].Args, "--leader-elect=false")
	pods := f.Kubernetes.CoreV1().Pods(world.SystemNamespace)
	end = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), repairWithin)
		defer cancel()
		if err := pods.Delete(ctx, rival, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	must(pods.Create(t.Context(), pod, metav1.CreateOptions{}))(t)
	t.Cleanup(end)
	f.Eventually(t, world.SystemNamespace, "the rival to be ready", world.AvailableWithin, func(ctx context.Context) error {
		found, err := f.Pod(ctx, world.SystemNamespace, rival)
		if err != nil {
			return err
		}
		for _, c := range found.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("it is not")
	})
	return end
}
