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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

func (f *fixture) agentKilled(t *testing.T) {
	primary, _ := f.pods(t)
	server := must(f.Mysqld(t.Context(), f.namespace, primary))(t)
	agent := must(f.Agent(t.Context(), f.namespace, primary))(t)
	w := f.begin(t, "agent_killed")
	if err := agent.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.Eventually(t, f.namespace, "a new agent", 60*time.Second, func(ctx context.Context) error {
		next, err := f.Agent(ctx, f.namespace, primary)
		if err == nil && next == agent {
			err = errors.New("the old one lives")
		}
		return err
	})
	f.Healthy(t, f.namespace, f.name)
	f.acknowledged(t, w, 20)
	h := w.Stop()
	if after := must(f.Mysqld(t.Context(), f.namespace, primary))(t); after != server {
		t.Errorf("mysqld was process %+v and is %+v", server, after)
	}
	if len(h.Refused)+len(h.Unknown) > 0 {
		t.Errorf("writes failed while only the agent was away: %s; %v", h, h.LastError)
	}
	f.converged(t, "agent_killed", h)
}

// primaryKilled: another instance leads at once, and the old primary follows it with the data it has.
func (f *fixture) primaryKilled(t *testing.T) {
	before := f.healthy(t)
	primary := before.Status.Primary
	server := must(f.Mysqld(t.Context(), f.namespace, primary))(t)
	w := f.begin(t, "primary_killed")
	if err := server.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	f.transition(t, before, v1beta1.TransitionFailover)
	f.Eventually(t, f.namespace, "mysqld to be started again", 60*time.Second, func(ctx context.Context) error {
		next, err := f.Mysqld(ctx, f.namespace, primary)
		if err == nil && next == server {
			err = errors.New("the old one lives")
		}
		return err
	})
	f.acknowledged(t, w, 50)
	h := w.Stop()
	f.Healthy(t, f.namespace, f.name)
	f.sameData(t, before)
	f.converged(t, "primary_killed", h)
}

// terminatedWhileWaiting: a bare mysqld that gets SIGTERM answers OK to clients whose write no replica has. Here the
// replicas are frozen, so that a commit waits, and then the primary's Pod is deleted.
func (f *fixture) terminatedWhileWaiting(t *testing.T) {
	primary, replicas := f.pods(t)
	app := f.Primary(t, f.namespace, f.name)
	if _, err := app.ExecContext(t.Context(), "CREATE TABLE IF NOT EXISTS waiting (id INT PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	thaw := f.freeze(t, replicas)
	answer := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
		defer cancel()
		_, err := app.ExecContext(ctx, "INSERT INTO waiting VALUES (1)")
		answer <- err
	}()
	f.waitsForAck(t, primary, answer)
	must(f.Kubectl(t.Context(), "delete", "pod", "-n", f.namespace, primary, "--wait=false"))(t)
	select {
	case err := <-answer:
		if err == nil {
			t.Error("the client was told OK although no replica has its write")
		}
		t.Logf("the client was told: %v", err)
	case <-time.After(2 * time.Minute):
		f.Fatal(t, f.namespace, "the client was told nothing although the primary was stopped")
	}
	thaw()
	f.Healthy(t, f.namespace, f.name)
	f.agreed(t, "waiting")
}

// freeze stops the servers of instances until the returned function is called, or the test ends.
func (f *fixture) freeze(t *testing.T, pods []string) (thaw func()) {
	t.Helper()
	var frozen []world.Process
	for _, pod := range pods {
		server := must(f.Mysqld(t.Context(), f.namespace, pod))(t)
		if err := server.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		frozen = append(frozen, server)
		f.Eventually(t, f.namespace, pod+" to stand still", 30*time.Second, func(context.Context) error {
			running, err := server.Running()
			if err == nil && running > 0 {
				err = fmt.Errorf("%d threads go on", running)
			}
			return err
		})
	}
	thaw = func() {
		for _, server := range frozen {
			// A server that was stopped with its Pod meanwhile needs no thawing.
			_ = server.Signal(syscall.SIGCONT)
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// waitsForAck waits until a session of the primary waits for an acknowledgement. An answer before that is wrong, whatever
// it is: the replicas cannot have the write.
func (f *fixture) waitsForAck(t *testing.T, primary string, answer <-chan error) {
	t.Helper()
	root := f.Instance(t, f.namespace, f.name, primary, must(f.SecretLogin(t.Context(), f.namespace, f.name, "account-root"))(t))
	f.Eventually(t, f.namespace, "a commit that waits for an acknowledgement", 30*time.Second, func(ctx context.Context) error {
		select {
		case err := <-answer:
			f.Fatal(t, f.namespace, "the client was told %v while all replicas stood still", err)
		default:
		}
		status, err := pairs(ctx, root, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_wait_sessions'")
		if err == nil && status["Rpl_semi_sync_source_wait_sessions"] == "0" {
			err = errors.New("nobody waits")
		}
		return err
	})
}

// agreed waits until all instances hold the same rows of a table.
func (f *fixture) agreed(t *testing.T, table string) {
	t.Helper()
	servers := f.everybody(t, "app")
	f.Eventually(t, f.namespace, "the same rows of "+table+" everywhere", 60*time.Second, func(ctx context.Context) error {
		sums := map[string][]string{}
		for pod, db := range servers {
			sum, err := pairs(ctx, db, "CHECKSUM TABLE "+table)
			if err != nil {
				return fmt.Errorf("%s: %w", pod, err)
			}
			sums[sum["app."+table]] = append(sums[sum["app."+table]], pod)
		}
		if len(sums) != 1 {
			return fmt.Errorf("checksums differ: %v", sums)
		}
		return nil
	})
}

// emptiedSecret empties the password of the application: it gets a new one, the server takes it, and nothing restarts.
func (f *fixture) emptiedSecret(t *testing.T) {
	before := f.processes(t)
	old := must(f.SecretLogin(t.Context(), f.namespace, f.name, "app"))(t)
	must(f.Kubectl(t.Context(), "patch", "secret", "-n", f.namespace, f.name+"-mysql-app", "--type=merge", "-p", `{"data":{"password":""}}`))(t)
	f.Eventually(t, f.namespace, "a new password that the server takes", 2*time.Minute, func(ctx context.Context) error {
		login, err := f.SecretLogin(ctx, f.namespace, f.name, "app")
		if err != nil {
			return err
		}
		if login.Password == "" || login.Password == old.Password {
			return errors.New("no new password yet")
		}
		return f.Service(t, f.namespace, f.name, f.name+"-mysql", login).PingContext(ctx)
	})
	f.same(t, before)
}

// processes of mysqld by Pod.
func (f *fixture) processes(t *testing.T) map[string]world.Process {
	t.Helper()
	primary, replicas := f.pods(t)
	found := map[string]world.Process{}
	for _, pod := range append(replicas, primary) {
		found[pod] = must(f.Mysqld(t.Context(), f.namespace, pod))(t)
	}
	return found
}

// same checks that no mysqld was restarted.
func (f *fixture) same(t *testing.T, before map[string]world.Process) {
	t.Helper()
	for pod, server := range f.processes(t) {
		if server != before[pod] {
			t.Errorf("%s: mysqld was process %+v and is %+v", pod, before[pod], server)
		}
	}
}

// drained: with stock kubectl, under the PodDisruptionBudget. A primary hands over before it goes. A volume of the local
// cluster stays on its node, so an instance comes back when its node is uncordoned.
func (f *fixture) drained(t *testing.T) {
	nodes := must(f.Kubernetes.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}))(t)
	first := f.healthy(t)
	w := f.begin(t, "drained")
	for _, node := range nodes.Items {
		f.drain(t, node.Name)
	}
	f.acknowledged(t, w, 20)
	h := w.Stop()
	if h.LongestGap > longestSwitch {
		t.Errorf("writes stood still for %s while nodes were drained", h.LongestGap)
	}
	f.sameData(t, first)
	f.converged(t, "drained", h)
}

// drain empties one node and waits until the cluster is healthy after its return.
func (f *fixture) drain(t *testing.T, node string) {
	t.Helper()
	before := f.healthy(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, _ = f.Kubectl(ctx, "uncordon", node)
	})
	began := time.Now()
	printed, err := f.Kubectl(t.Context(), "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s")
	if err != nil {
		f.Fatal(t, f.namespace, "draining %s: %v", node, err)
	}
	t.Logf("drained %s in %s: %s", node, time.Since(began).Round(100*time.Millisecond), lastLine(printed))
	if nodeOf(before) == node {
		f.transition(t, before, v1beta1.TransitionSwitchover)
	}
	must(f.Kubectl(t.Context(), "uncordon", node))(t)
	f.Healthy(t, f.namespace, f.name)
}

// nodeOf the primary.
func nodeOf(cluster *v1beta1.MySQLCluster) string {
	for _, i := range cluster.Status.Instances {
		if i.Name == cluster.Status.Primary {
			return i.Node
		}
	}
	return ""
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
