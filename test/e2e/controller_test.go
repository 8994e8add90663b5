// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// rulesElsewhere are the rules that the making of a healthy cluster does not pass, each with the reason. A rule that is
// neither here nor met by the test fails it.
var rulesElsewhere = map[string]string{
	"RecordTooNew":  "needs a record of a newer controller",
	"ReadVolumes":   "needs a record that was lost",
	"RebuildRecord": "needs a record that was lost",
	"Hold":          "needs a primary that is gone",
	"Reopen":        "needs a primary that was stopped",
	"Rejoin":        "needs a replica that was stopped",
	"Failover":      "needs a primary that was lost",
	"Switchover":    "needs a primary that hands over",
	"Choose":        "needs a primary that was lost or hands over",
	"Shrink":        "needs a replica that stays away",
	"Reconcile":     "needs an instance that left the history of the primary",
	"Stop":          "needs a primary that is stopped without a successor",
}

// killWithin is how long a cluster may take to become healthy although its controllers are killed.
const killWithin = 2 * world.HealthyWithin

// attempts bounds the clusters that are made: a rule that lasts for milliseconds may be missed with the first.
const attempts = 4

// TestControllerKilledAtEveryStep kills the leading controller when the status of a cluster in the making first shows a
// rule, for every rule there is.
func TestControllerKilledAtEveryStep(t *testing.T) {
	wanted := slices.DeleteFunc(rules(t), func(rule string) bool { return rulesElsewhere[rule] != "" })
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-killed")}
	met := map[string]bool{}
	scenario(t, "kills", func(t *testing.T) {
		for n := 0; n < attempts && len(met) < len(wanted); n++ {
			f.name = "step-" + strconv.Itoa(n)
			f.killThrough(t, wanted, met)
			if err := f.Moco.MocoV1beta1().MySQLClusters(f.namespace).Delete(t.Context(), f.name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, rule := range wanted {
			if !met[rule] {
				t.Errorf("no status showed rule %s", rule)
			}
		}
	})
}

// rules reads the names of all rules from the source.
func rules(t *testing.T) []string {
	t.Helper()
	file := must(parser.ParseFile(token.NewFileSet(), filepath.Join(the.Repo, "pkg/topology/plan.go"), nil, 0))(t)
	var found []string
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		kind, ok := spec.Type.(*ast.Ident)
		literal, isLiteral := spec.Values[0].(*ast.BasicLit)
		if ok && isLiteral && kind.Name == "Rule" {
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, name)
		}
		return true
	})
	if len(found) < 10 {
		t.Fatalf("only the rules %q were found in the source", found)
	}
	return found
}

// killThrough makes a cluster, kills the leader at every rule that was not met before, and checks what came of it.
func (f *fixture) killThrough(t *testing.T, wanted []string, met map[string]bool) {
	t.Helper()
	cluster := world.Cluster(f.namespace, f.name, 3)
	cluster.Spec.Bootstrap.InitSQL = "CREATE TABLE once (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO once VALUES ()"
	made := f.Create(t, cluster)
	ctx, cancel := context.WithTimeout(t.Context(), killWithin)
	defer cancel()
	kills, err := f.killAt(ctx, made, wanted, met)
	t.Logf("%s: killed at %s", f.name, strings.Join(kills, ", "))
	if err != nil {
		f.Fatal(t, f.namespace, "%s with kills at %q: %v", f.name, kills, err)
	}
	f.Healthy(t, f.namespace, f.name)
	for pod, db := range f.everybody(t, "app") {
		f.Eventually(t, f.namespace, "what was made at the beginning, once, on "+pod, 30*time.Second, func(ctx context.Context) error {
			var rows int
			err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM once").Scan(&rows)
			if err == nil && rows != 1 {
				err = fmt.Errorf("there are %d rows", rows)
			}
			return err
		})
	}
}

// killAt kills the leader at every rule that was not met before, until the cluster is healthy.
func (f *fixture) killAt(ctx context.Context, made *v1beta1.MySQLCluster, wanted []string, met map[string]bool) (kills []string, err error) {
	seen := make(chan string, 1024)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	// The channel holds more than a cluster in the making ever says, so that the watchers never wait.
	wg.Go(func() { f.statuses(ctx, made, seen) })
	wg.Go(func() { f.announcements(ctx, made, seen) })
	for {
		select {
		case rule := <-seen:
			if rule == healthy {
				return kills, nil
			}
			if met[rule] || !slices.Contains(wanted, rule) {
				continue
			}
			met[rule] = true
			kills = append(kills, rule)
			if err := f.killLeader(ctx); err != nil {
				return kills, err
			}
		case <-ctx.Done():
			return kills, ctx.Err()
		}
	}
}

// healthy stands among the rules for a cluster that is as specified.
const healthy = ""

// statuses tells the rule of every stored status of a cluster, and healthy after the rule of one that is.
func (f *fixture) statuses(ctx context.Context, cluster *v1beta1.MySQLCluster, rules chan<- string) {
	version := cluster.ResourceVersion
	for ctx.Err() == nil {
		watch, err := f.Moco.MocoV1beta1().MySQLClusters(f.namespace).Watch(ctx, metav1.ListOptions{
			FieldSelector: "metadata.name=" + cluster.Name, ResourceVersion: version,
		})
		if err != nil {
			continue
		}
		for event := range watch.ResultChan() {
			stored, ok := event.Object.(*v1beta1.MySQLCluster)
			if !ok {
				break
			}
			version = stored.ResourceVersion
			if stored.Status.Decision != nil {
				rules <- stored.Status.Decision.Rule
			}
			if apimeta.IsStatusConditionTrue(stored.Status.Conditions, v1beta1.ConditionHealthy) {
				rules <- healthy
			}
		}
		watch.Stop()
	}
}

// announcements tells the rules that writes of the record are announced with: such a rule stands for a moment only, and
// the status of that moment is not always stored.
func (f *fixture) announcements(ctx context.Context, cluster *v1beta1.MySQLCluster, rules chan<- string) {
	for ctx.Err() == nil {
		watch, err := f.Kubernetes.CoreV1().Events(f.namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(cluster.UID)})
		if err != nil {
			continue
		}
		for event := range watch.ResultChan() {
			if said, ok := event.Object.(*corev1.Event); ok {
				rules <- said.Reason
			}
		}
		watch.Stop()
	}
}

// killLeader kills the process of the controller that holds the lease, and its Pod, so that the next one is not made to
// wait by the back-off of kubelet.
func (f *fixture) killLeader(ctx context.Context) error {
	leader := ""
	err := f.Wait(ctx, 30*time.Second, func(ctx context.Context) error {
		lease, err := f.Kubernetes.CoordinationV1().Leases(world.SystemNamespace).Get(ctx, "moco-controller", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return errors.New("nobody leads")
		}
		leader = *lease.Spec.HolderIdentity
		process, err := f.Controller(ctx, leader)
		if err != nil {
			return err // the lease of one that was killed before
		}
		return process.Signal(syscall.SIGKILL)
	})
	if err != nil {
		return fmt.Errorf("killing the leader: %w", err)
	}
	_, err = f.Kubectl(ctx, "delete", "pod", "-n", world.SystemNamespace, leader, "--grace-period=0", "--force", "--ignore-not-found")
	return err
}
