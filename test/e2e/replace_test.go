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

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// replaceWithin is how long it may take until an instance votes again with a new volume, a clone included.
	replaceWithin = 2 * world.HealthyWithin
	// nodeBack bounds the return of a node whose kubelet was killed.
	nodeBack = 3 * time.Minute
)

// TestReplace gives instances new volumes: because a person asks for it, and because a node is gone for good while what ran
// there goes on.
func TestReplace(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-replace"), name: "re"}
	ready := scenario(t, "a cluster of three", func(t *testing.T) {
		f.Create(t, world.Cluster(f.namespace, f.name, 3))
		f.healthy(t)
	})
	if !ready {
		t.Fatal("without a cluster there is nothing to replace")
	}
	for _, s := range []struct {
		name string
		body func(*testing.T)
	}{
		{"what must not be replaced is not touched", f.notReplaced},
		{"a replica gets a new volume under load, because a person asks", f.replaced},
		{"a node is deleted while its kubelet is dead and its mysqld goes on: the replica goes on elsewhere", f.nodeDeleted},
	} {
		if ok := scenario(t, s.name, s.body); !ok && f.Wait(t.Context(), recoverWithin, f.recovered) != nil {
			t.Fatal("the cluster did not become healthy again, so nothing more can be learnt from it")
		}
	}
}

// askReplace asks for a new volume.
func (f *fixture) askReplace(t *testing.T, value string) {
	t.Helper()
	must(f.Kubectl(t.Context(), "annotate", "mysqlcluster", "-n", f.namespace, f.name, "--overwrite", v1beta1.AnnotationReplace+"="+value))(t)
}

func (f *fixture) notReplaced(t *testing.T) {
	before := f.healthy(t)
	for value, says := range map[string]string{before.Status.Primary + "=1": "is the primary", f.name + "-mysql-7=1": "no instance"} {
		f.askReplace(t, value)
		if answer := f.answeredTo(t, v1beta1.AnnotationReplace, value); answer.State != v1beta1.RequestRefused || !strings.Contains(answer.Message, says) {
			t.Errorf("%s: %+v", value, answer)
		}
	}
	if after := f.healthy(t); after.Status.Replication.Epoch != before.Status.Replication.Epoch {
		t.Errorf("epoch %d became %d", before.Status.Replication.Epoch, after.Status.Replication.Epoch)
	}
	f.sameData(t, before)
}

func (f *fixture) replaced(t *testing.T) {
	before := f.healthy(t)
	victim := f.replica(before)
	l := f.load(t, "replaced", f.elsewhere(t, victim.Name))
	value := victim.Name + "=by-hand"
	f.askReplace(t, value)
	f.renewed(t, victim)
	if answer := f.answeredTo(t, v1beta1.AnnotationReplace, value); answer.State != v1beta1.RequestSucceeded {
		t.Errorf("%+v", answer)
	}
	h := l.settle(t)
	if len(h.Refused)+len(h.Unknown) > 0 {
		t.Errorf("writes failed while a replica was replaced: %s; %v", h, h.LastError)
	}
	f.checkRetired(t, victim)
}

// replica is the first instance that does not lead.
func (f *fixture) replica(cluster *v1beta1.MySQLCluster) v1beta1.InstanceStatus {
	for _, i := range cluster.Status.Instances {
		if i.Name != cluster.Status.Primary {
			return i
		}
	}
	return v1beta1.InstanceStatus{}
}

// renewed waits until an instance votes with other data on another volume.
func (f *fixture) renewed(t *testing.T, victim v1beta1.InstanceStatus) {
	t.Helper()
	f.Eventually(t, f.namespace, victim.Name+" to be a voter on another volume", replaceWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		now := cluster.Status.Instances[victim.Ordinal]
		if now.Incarnation == "" || now.Incarnation == victim.Incarnation || now.Volume == victim.Volume || !now.Voter {
			return fmt.Errorf("it holds %q on %s, before %q on %s; voter %t, state %s: %s; decision %+v",
				now.Incarnation, now.Volume, victim.Incarnation, victim.Volume, now.Voter, now.State, now.Reason, cluster.Status.Decision)
		}
		return nil
	})
}

// checkRetired checks that the former volume is kept and used by nobody, and that its data does not vote.
func (f *fixture) checkRetired(t *testing.T, victim v1beta1.InstanceStatus) {
	t.Helper()
	claim := must(f.Kubernetes.CoreV1().PersistentVolumeClaims(f.namespace).Get(t.Context(), victim.Volume, metav1.GetOptions{}))(t)
	if claim.Labels[v1beta1.LabelRetired] != "true" || claim.DeletionTimestamp != nil || len(claim.OwnerReferences) > 0 {
		t.Errorf("the former volume is %+v", claim.ObjectMeta)
	}
	for _, pod := range must(f.Kubernetes.CoreV1().Pods(f.namespace).List(t.Context(), metav1.ListOptions{}))(t).Items {
		for _, volume := range pod.Spec.Volumes {
			if source := volume.PersistentVolumeClaim; source != nil && source.ClaimName == victim.Volume {
				t.Errorf("%s uses the retired volume", pod.Name)
			}
		}
	}
	if record := must(f.Get(t.Context(), f.namespace, f.name))(t).Status.Replication; topology.IsVoter(record, victim.Incarnation) {
		t.Errorf("the former data votes: %+v", record.LastOpened)
	}
}

// nodeDeleted kills a kubelet, so that nobody ends what runs on its node, and deletes the Node. The former mysqld goes on to
// reach the primary, and is refused there. When the kubelet is back it ends what it finds.
func (f *fixture) nodeDeleted(t *testing.T) {
	before := f.healthy(t)
	victim := f.replica(before)
	zombie := must(f.Mysqld(t.Context(), f.namespace, victim.Name))(t)
	l := f.load(t, "node_deleted", f.elsewhere(t, victim.Name))
	back := f.killKubelet(t, victim.Node)
	must(f.Kubectl(t.Context(), "delete", "node", victim.Node, "--wait=false"))(t)
	f.renewed(t, victim)
	if _, err := zombie.Running(); err != nil {
		t.Errorf("the former mysqld has ended, so nothing was learnt of one that goes on: %v", err)
	}
	if now := must(f.Get(t.Context(), f.namespace, f.name))(t).Status.Instances[victim.Ordinal]; now.Node == victim.Node {
		t.Errorf("it is on %s again", now.Node)
	}
	f.acknowledged(t, l.service, 50)
	back()
	f.Eventually(t, f.namespace, "the former mysqld to be ended by the kubelet that came back", nodeBack, func(context.Context) error {
		if _, err := zombie.Running(); err == nil {
			return errors.New("it goes on")
		}
		return nil
	})
	l.settle(t)
	f.checkRetired(t, victim)
}

// killKubelet kills the kubelet of a node until the returned function is called or the test ends.
func (f *fixture) killKubelet(t *testing.T, node string) (back func()) {
	t.Helper()
	kubelet := must(f.Kubelet(node))(t)
	back = func() {
		ctx, cancel := context.WithTimeout(context.Background(), nodeBack)
		defer cancel()
		if err := f.Local(ctx, "up", "-without-product"); err != nil {
			t.Error(err)
			return
		}
		err := f.Wait(ctx, nodeBack, func(ctx context.Context) error {
			found, err := f.Kubernetes.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range found.Status.Conditions {
				if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return errors.New(node + " is not ready")
		})
		if err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		if _, err := f.Kubelet(node); err != nil {
			back()
		}
	})
	if err := kubelet.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return back
}
