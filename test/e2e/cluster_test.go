// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// fixture is the cluster of three instances that most scenarios share, one after the other.
type fixture struct {
	*suite
	namespace, name string
}

const greetings = "CREATE TABLE greetings (id INT PRIMARY KEY, text VARCHAR(100) NOT NULL)"

// TestCluster makes one cluster and lives with it until it is deleted and brought back.
func TestCluster(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-main"), name: "db"}
	ready := scenario(t, "apply one object and get a cluster", f.create)
	if !ready {
		t.Fatal("without a cluster there is nothing to test")
	}
	scenario(t, "a write through the primary Service is on both replicas", f.writeAndReadBack)
	scenario(t, "every instance runs with the settings that keep writes safe", f.safetyVariables)
	scenario(t, "connections and replication are encrypted", f.encrypted)
	scenario(t, "a client in a Pod uses the Service's name and verifies it", f.clientPod)
	scenario(t, "every instance tells its role", f.roles)
	scenario(t, "the exporters tell how mysqld is", f.exporters)
	scenario(t, "the controller may do no more than it needs", f.leastPrivilege)
	scenario(t, "kubectl get and describe tell a person how it is", f.readable)
	scenario(t, "strict compatibility", f.compatibility)
	scenario(t, "large transactions replicate while others go on", f.largeTransactions)
	scenario(t, "the agent dies and mysqld does not notice", f.agentKilled)
	scenario(t, "the primary's mysqld dies and nothing acknowledged is lost", f.primaryKilled)
	scenario(t, "kubelet stops a primary with a waiting commit and its client is never told OK", f.terminatedWhileWaiting)
	scenario(t, "an emptied account Secret is filled again", f.emptiedSecret)
	scenario(t, "each node in turn is drained", f.drained)
	scenario(t, "deleted and applied again it comes back with its data", f.deletedAndApplied)
}

func (f *fixture) spec() *v1beta1.MySQLCluster {
	cluster := world.Cluster(f.namespace, f.name, 3)
	cluster.Spec.Storage.Size = resource.MustParse("8Gi")
	cluster.Spec.Resources.Limits["memory"] = resource.MustParse("1Gi")
	cluster.Spec.Bootstrap.InitSQL = greetings
	return cluster
}

func (f *fixture) create(t *testing.T) {
	began := time.Now()
	f.Create(t, f.spec())
	f.Available(t, f.namespace, f.name)
	t.Logf("available after %s", time.Since(began).Round(100*time.Millisecond))
	f.Healthy(t, f.namespace, f.name)
	t.Logf("healthy after %s", time.Since(began).Round(100*time.Millisecond))
}

// pods names the instances: the primary first.
func (f *fixture) pods(t *testing.T) (primary string, replicas []string) {
	t.Helper()
	cluster := must(f.Get(t.Context(), f.namespace, f.name))(t)
	for _, i := range cluster.Status.Instances {
		if i.Name != cluster.Status.Primary {
			replicas = append(replicas, i.Name)
		}
	}
	if cluster.Status.Primary == "" || len(replicas) == 0 {
		f.Fatal(t, f.namespace, "%d replicas of primary %q", len(replicas), cluster.Status.Primary)
	}
	return cluster.Status.Primary, replicas
}

// everybody opens every instance with the login of a Secret.
func (f *fixture) everybody(t *testing.T, suffix string) map[string]*sql.DB {
	t.Helper()
	login := must(f.SecretLogin(t.Context(), f.namespace, f.name, suffix))(t)
	primary, replicas := f.pods(t)
	all := map[string]*sql.DB{}
	for _, pod := range append(slices.Clone(replicas), primary) {
		all[pod] = f.Instance(t, f.namespace, f.name, pod, login)
	}
	return all
}

// begin starts a writer and waits until it has been acknowledged a few times.
func (f *fixture) begin(t *testing.T, table string) *workload.Writer {
	t.Helper()
	w := must(workload.Start(t.Context(), f.Primary(t, f.namespace, f.name), table))(t)
	t.Cleanup(func() { w.Stop() })
	f.acknowledged(t, w, 20)
	return w
}

// acknowledged waits until the writer was acknowledged that many times more.
func (f *fixture) acknowledged(t *testing.T, w *workload.Writer, more int) {
	t.Helper()
	goal := len(w.History().Acknowledged) + more
	f.Eventually(t, f.namespace, fmt.Sprintf("%d more acknowledged writes", more), world.AvailableWithin, func(context.Context) error {
		if h := w.History(); len(h.Acknowledged) < goal {
			return fmt.Errorf("%s; last error: %w", h, orNone(h.LastError))
		}
		return nil
	})
}

func orNone(err error) error {
	if err == nil {
		return fmt.Errorf("none")
	}
	return err
}

// converged waits until all instances hold exactly what the history allows.
func (f *fixture) converged(t *testing.T, table string, h workload.History) {
	t.Helper()
	for pod, db := range f.everybody(t, "app") {
		f.Eventually(t, f.namespace, "every acknowledged row on "+pod, 60*time.Second, func(ctx context.Context) error {
			return workload.Check(ctx, db, table, h)
		})
	}
	t.Log(h)
}
