// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// badInputDocument is the table a user reads; the tests below take what they expect from it.
const badInputDocument = "docs/bad-input.md"

// badInputWithin is how long a user waits to be told.
const badInputWithin = 2 * time.Minute

// promised is a row of the document.
type promised struct {
	// told is where: "apply" or, for example, "Valid=False, OptionRefused".
	told string
	// words that are in the message, the field and the remedy among them.
	words []string
}

// mistake makes a cluster or, where change is set, changes the one that runs.
type mistake struct {
	create func(cluster *v1beta1.MySQLCluster)
	change map[string]any
	// revert takes the change back.
	revert map[string]any
}

// mistakes by their names in the document. The emptied Secret is in a test of its own.
var mistakes = map[string]mistake{
	"`replicas: 0`":  {create: func(c *v1beta1.MySQLCluster) { c.Spec.Replicas = 0 }, change: map[string]any{"replicas": 0}},
	"`replicas: 10`": {create: func(c *v1beta1.MySQLCluster) { c.Spec.Replicas = 10 }, change: map[string]any{"replicas": 10}},
	"two instances with `topology: Standalone`": {
		create: func(c *v1beta1.MySQLCluster) { c.Spec.Topology, c.Spec.Replicas = v1beta1.Standalone, 2 },
		change: map[string]any{"replicas": 2},
	},
	"a smaller `storage.size`":          {change: map[string]any{"storage": map[string]any{"size": "1Gi"}}},
	"a name of more than 40 characters": {create: func(c *v1beta1.MySQLCluster) { c.Name = strings.Repeat("n", 41) }},
	"a forced option in `config`": {
		create: func(c *v1beta1.MySQLCluster) { c.Spec.Config = map[string]string{"sync-binlog": "0"} },
		change: map[string]any{"config": map[string]any{"sync-binlog": "0"}}, revert: map[string]any{"config": nil},
	},
	"an unknown option in `config`": {
		create: func(c *v1beta1.MySQLCluster) { c.Spec.Config = map[string]string{"no_such_option": "1"} },
		change: map[string]any{"config": map[string]any{"no_such_option": "1"}}, revert: map[string]any{"config": nil},
	},
	"a `configMapRef` that leads nowhere": {
		create: func(c *v1beta1.MySQLCluster) { c.Spec.ConfigMapRef = &corev1.LocalObjectReference{Name: "nowhere"} },
		change: map[string]any{"configMapRef": map[string]any{"name": "nowhere"}}, revert: map[string]any{"configMapRef": nil},
	},
	"a `podTemplate` with a field that does not exist": {
		create: func(c *v1beta1.MySQLCluster) {
			c.Spec.PodTemplate = &runtime.RawExtension{Raw: []byte(`{"spec":{"nodeSelektor":{"disk":"fast"}}}`)}
		},
		change: map[string]any{"podTemplate": map[string]any{"spec": map[string]any{"nodeSelektor": map[string]any{"disk": "fast"}}}},
		revert: map[string]any{"podTemplate": nil},
	},
	"an `image` that cannot be pulled": {create: func(c *v1beta1.MySQLCluster) { c.Spec.Image = "registry.invalid/mysql:9.7.4" }},
	"an `image` without mysqld":        {create: func(c *v1beta1.MySQLCluster) { c.Spec.Image = "local/nomysql:1" }},
	"an `image` older than 8.4":        {create: func(c *v1beta1.MySQLCluster) { c.Spec.Image = "local/oldmysql:1" }},
	"an unusable `image` for a running cluster": {
		change: map[string]any{"image": "registry.invalid/mysql:9.7.4"}, revert: map[string]any{"image": world.Image},
	},
	"a volume that cannot be bound": {create: func(c *v1beta1.MySQLCluster) {
		class := "no-such-class"
		c.Spec.Storage.StorageClassName = &class
	}},
}

// TestBadInput makes every mistake of the document, with clusters of its own and with one that runs.
func TestBadInput(t *testing.T) {
	f := &fixture{suite: the, namespace: the.Namespace(t, "e2e-bad"), name: "steady"}
	document := promises(t)
	steady := world.Cluster(f.namespace, f.name, 1)
	steady.Spec.Topology, steady.Spec.Storage.Size = v1beta1.Standalone, resource.MustParse("2Gi")
	f.Create(t, steady)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(document)), slices.Sorted(maps.Keys(mistakes))); diff != "" {
		t.Errorf("rows of %s and tests (-document +tests):\n%s", badInputDocument, diff)
	}
	t.Run("in a new cluster", func(t *testing.T) {
		n := 0
		for name, m := range mistakes {
			if n++; m.create != nil {
				cluster := world.Cluster(f.namespace, fmt.Sprintf("bad-%d", n), 1)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					scenario(t, "new", func(t *testing.T) { f.createBad(t, cluster, m, document[name]) })
				})
			}
		}
	})
	f.Healthy(t, f.namespace, f.name)
	for name, m := range mistakes {
		if m.change != nil {
			t.Run("in a running cluster/"+name, func(t *testing.T) {
				scenario(t, "running", func(t *testing.T) { f.changeBadly(t, m, document[name]) })
			})
		}
	}
	scenario(t, "in a running cluster, an emptied Secret", f.emptiedAccount)
}

// createBad makes a cluster with a mistake and looks for the words.
func (f *fixture) createBad(t *testing.T, cluster *v1beta1.MySQLCluster, m mistake, want promised) {
	m.create(cluster)
	err := f.post(t, cluster)
	if want.told == "apply" {
		refusedWith(t, err, want)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	f.told(t, cluster.Name, want)
	if err := f.Moco.MocoV1beta1().MySQLClusters(f.namespace).Delete(t.Context(), cluster.Name, metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// post sends the cluster as a user's YAML would say it: the typed client leaves out a number that is zero.
func (f *fixture) post(t *testing.T, cluster *v1beta1.MySQLCluster) error {
	t.Helper()
	object := must(runtime.DefaultUnstructuredConverter.ToUnstructured(cluster))(t)
	if err := unstructured.SetNestedField(object, int64(cluster.Spec.Replicas), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	body := must((&unstructured.Unstructured{Object: object}).MarshalJSON())(t)
	return f.Moco.MocoV1beta1().RESTClient().Post().Namespace(f.namespace).Resource("mysqlclusters").Body(body).Do(t.Context()).Error()
}

// changeBadly changes the running cluster, looks for the words, and that nothing was disturbed.
func (f *fixture) changeBadly(t *testing.T, m mistake, want promised) {
	before := must(f.Mysqld(t.Context(), f.namespace, f.name+"-mysql-0"))(t)
	err := f.Change(t.Context(), f.namespace, f.name, m.change)
	if want.told == "apply" {
		refusedWith(t, err, want)
	} else {
		if err != nil {
			t.Fatal(err)
		}
		f.told(t, f.name, want)
	}
	f.undisturbed(t, before)
	if m.revert != nil {
		if err := f.Change(t.Context(), f.namespace, f.name, m.revert); err != nil {
			t.Fatal(err)
		}
		f.Healthy(t, f.namespace, f.name)
		f.undisturbed(t, before)
	}
}

func refusedWith(t *testing.T, err error, want promised) {
	t.Helper()
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, words := range want.words {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("the API server says %q; want %q", err, words)
		}
	}
}

// told waits until the condition says what the document promises, and an event says the same.
func (f *fixture) told(t *testing.T, name string, want promised) {
	t.Helper()
	state, reason, _ := strings.Cut(want.told, ", ")
	condition, status, _ := strings.Cut(state, "=")
	f.Eventually(t, f.namespace, fmt.Sprintf("%s: %s with %q", name, want.told, want.words), badInputWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, name)
		if err != nil {
			return err
		}
		found := apimeta.FindStatusCondition(cluster.Status.Conditions, condition)
		if found == nil || string(found.Status) != status || found.Reason != reason || found.ObservedGeneration != cluster.Generation {
			return fmt.Errorf("the conditions are %+v", cluster.Status.Conditions)
		}
		if missing := lacks(found.Message, want.words); len(missing) > 0 {
			return fmt.Errorf("the condition says %q and not %q", found.Message, missing)
		}
		return f.event(ctx, cluster, want.words)
	})
}

// event looks for the words in the events of a cluster.
func (f *fixture) event(ctx context.Context, cluster *v1beta1.MySQLCluster, words []string) error {
	events, err := f.Kubernetes.CoreV1().Events(f.namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(cluster.UID)})
	if err != nil {
		return fmt.Errorf("listing events: %w", err)
	}
	var said []string
	for _, e := range events.Items {
		if len(lacks(strings.ToLower(e.Message), lower(words))) == 0 {
			return nil
		}
		said = append(said, e.Message)
	}
	return fmt.Errorf("no event says %q; they say %q", words, said)
}

func lower(words []string) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		out = append(out, strings.ToLower(w))
	}
	return out
}

func lacks(message string, words []string) []string {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.Contains(message, w) })
}

// undisturbed checks that the running cluster takes writes in the very same process.
func (f *fixture) undisturbed(t *testing.T, before world.Process) {
	t.Helper()
	if after := must(f.Mysqld(t.Context(), f.namespace, f.name+"-mysql-0"))(t); after != before {
		t.Errorf("mysqld was process %+v and is %+v", before, after)
	}
	if _, err := f.Primary(t, f.namespace, f.name).ExecContext(t.Context(), "CREATE TABLE IF NOT EXISTS undisturbed (id INT AUTO_INCREMENT PRIMARY KEY); INSERT INTO undisturbed VALUES ()"); err != nil {
		t.Errorf("writing: %v", err)
	}
}

// emptiedAccount empties each account Secret in turn; all are filled again without a restart.
func (f *fixture) emptiedAccount(t *testing.T) {
	before := must(f.Mysqld(t.Context(), f.namespace, f.name+"-mysql-0"))(t)
	secrets := []string{"app", "account-root", "account-moco-admin", "account-moco-dataprotection", "account-moco-probe", "account-moco-monitoring", "account-moco-replicator"}
	old := map[string]string{}
	for _, suffix := range secrets {
		old[suffix] = must(f.SecretLogin(t.Context(), f.namespace, f.name, suffix))(t).Password
		must(f.Kubectl(t.Context(), "patch", "secret", "-n", f.namespace, f.name+"-mysql-"+suffix, "--type=json", "-p", `[{"op":"remove","path":"/data"}]`))(t)
	}
	for _, suffix := range secrets {
		f.Eventually(t, f.namespace, "a new password in "+suffix, badInputWithin, func(ctx context.Context) error {
			login, err := f.SecretLogin(ctx, f.namespace, f.name, suffix)
			if err == nil && (login.Password == "" || login.Password == old[suffix] || login.User == "") {
				err = errors.New("it is still empty")
			}
			return err
		})
	}
	for _, suffix := range []string{"app", "account-root"} {
		f.Eventually(t, f.namespace, "the server to take the new password of "+suffix, badInputWithin, func(ctx context.Context) error {
			login, err := f.SecretLogin(ctx, f.namespace, f.name, suffix)
			if err != nil {
				return err
			}
			return f.Service(t, f.namespace, f.name, f.name+"-mysql", login).PingContext(ctx)
		})
	}
	f.Healthy(t, f.namespace, f.name)
	f.undisturbed(t, before)
}

// promises reads the table of the document.
func promises(t *testing.T) map[string]promised {
	t.Helper()
	text := must(os.ReadFile(filepath.Join(the.Repo, badInputDocument)))(t)
	rows := map[string]promised{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || strings.Contains(cells[0], "---") || strings.Contains(cells[0], "What is given") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		row := promised{told: cells[1]}
		for i, part := range strings.Split(cells[2], "`") {
			if i%2 == 1 {
				row.words = append(row.words, part)
			}
		}
		if len(row.words) == 0 {
			t.Errorf("the row of %s quotes nothing", cells[0])
		}
		rows[cells[0]] = row
	}
	return rows
}
