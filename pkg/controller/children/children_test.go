// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

func newCluster(uid string) *v1beta1.MySQLCluster {
	return &v1beta1.MySQLCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop", UID: types.UID(uid)},
		Spec: v1beta1.MySQLClusterSpec{
			Topology: v1beta1.Replication, Replicas: 3, Image: "mysql:9.7.4",
			Storage:   v1beta1.Storage{Size: resource.MustParse("10Gi"), Retain: v1beta1.RetainKeep},
			Bootstrap: &v1beta1.Bootstrap{Database: "orders", User: "shop"},
		},
	}
}

// letters is a source of randomness that gives one letter.
type letters byte

func (l letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(l)
	}
	return len(p), nil
}

// world is a Control over an API server in memory.
type world struct {
	*Control
	fake *fake.Clientset
	ctx  context.Context
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	client := fake.NewClientset(objects...)
	control := New(client)
	control.Random = letters(0)
	return &world{Control: control, fake: client, ctx: t.Context()}
}

// writes lists what was written since the last call, as "verb resource".
func (w *world) writes() []string {
	var found []string
	for _, action := range w.fake.Actions() {
		if verb := action.GetVerb(); verb != "get" && verb != "list" && verb != "watch" {
			found = append(found, verb+" "+action.GetResource().Resource)
		}
	}
	w.fake.ClearActions()
	return found
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func wantWrites(t *testing.T, w *world, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.writes()); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func primaryService(t *testing.T, cluster *v1beta1.MySQLCluster) *corev1.Service {
	t.Helper()
	return must[*corev1.Service](t)(render.PrimaryService(cluster))
}

func TestServiceIsWrittenOnlyWhenItMustBe(t *testing.T) {
	cluster := newCluster("u1")
	cases := map[string]struct {
		drift  func(*corev1.Service)
		writes []string
	}{
		"as applied":              {drift: func(*corev1.Service) {}},
		"others added something":  {drift: func(s *corev1.Service) { s.Labels["x"] = "y"; s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }},
		"others added a port":     {drift: func(s *corev1.Service) { s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "x", Port: 1}) }},
		"the type was changed":    {drift: func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, writes: []string{"patch services"}},
		"a label was taken off":   {drift: func(s *corev1.Service) { delete(s.Labels, v1beta1.LabelCluster) }, writes: []string{"patch services"}},
		"another hash is applied": {drift: func(s *corev1.Service) { s.Annotations[render.AnnotationAppliedHash] = "old" }, writes: []string{"patch services"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			live := primaryService(t, cluster)
			tc.drift(live)
			w := newWorld(t, live)
			service := must[*corev1.Service](t)(w.EnsureService(w.ctx, cluster, primaryService(t, cluster), live))
			wantWrites(t, w, tc.writes...)
			if service.Spec.Type != corev1.ServiceTypeClusterIP || service.Labels[v1beta1.LabelCluster] != "db" {
				t.Errorf("the Service is %v", service)
			}
		})
	}
}

func TestServiceIsCreatedOnce(t *testing.T) {
	cluster := newCluster("u1")
	w := newWorld(t)
	must[*corev1.Service](t)(w.EnsureService(w.ctx, cluster, primaryService(t, cluster), nil))
	wantWrites(t, w, "create services")
	// The cache has not seen it yet.
	must[*corev1.Service](t)(w.EnsureService(w.ctx, cluster, primaryService(t, cluster), nil))
	wantWrites(t, w, "create services")
}

func TestFieldsNoLongerWantedAreRemoved(t *testing.T) {
	cluster := newCluster("u1")
	cluster.Spec.PrimaryService = &v1beta1.ServiceTemplate{Annotations: map[string]string{"pool": "a"}}
	w := newWorld(t)
	live := must[*corev1.Service](t)(w.EnsureService(w.ctx, cluster, primaryService(t, cluster), nil))
	if live.Annotations["pool"] != "a" {
		t.Fatalf("annotations: %v", live.Annotations)
	}
	cluster.Spec.PrimaryService = nil
	live = must[*corev1.Service](t)(w.EnsureService(w.ctx, cluster, primaryService(t, cluster), live))
	if _, has := live.Annotations["pool"]; has {
		t.Errorf("annotations: %v", live.Annotations)
	}
}

func TestSelectorOfThePrimaryServiceIsRemoved(t *testing.T) {
	cluster := newCluster("u1")
	live := primaryService(t, cluster)
	live.UID, live.ResourceVersion = "s1", "7"
	live.Spec.Selector = map[string]string{"app": "x"}
	w := newWorld(t, live)
	service := must[*corev1.Service](t)(w.EnsureService(w.ctx, cluster, primaryService(t, cluster), live))
	if len(service.Spec.Selector) != 0 {
		t.Errorf("the selector is still %v", service.Spec.Selector)
	}
	patch := lastPatch(t, w)
	for _, guard := range []string{`"uid":"s1"`, `"selector":null`} {
		if !strings.Contains(patch, guard) {
			t.Errorf("%s is not in %s", guard, patch)
		}
	}
}

func lastPatch(t *testing.T, w *world) string {
	t.Helper()
	for _, action := range slices.Backward(w.fake.Actions()) {
		if patch, ok := action.(clienttesting.PatchAction); ok {
			return string(patch.GetPatch())
		}
	}
	t.Fatal("nothing was patched")
	return ""
}

func TestSelectorOfTheHeadlessServiceIsRestored(t *testing.T) {
	cluster := newCluster("u1")
	desired := must[*corev1.Service](t)(render.HeadlessService(cluster))
	live := desired.DeepCopy()
	live.Spec.Selector["app"] = "x"
	w := newWorld(t, live)
	service := must[*corev1.Service](t)(w.EnsureService(w.ctx, cluster, desired, live))
	if diff := cmp.Diff(desired.Spec.Selector, service.Spec.Selector); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
}

func TestForeignObjectsAreLeftAlone(t *testing.T) {
	cluster := newCluster("u1")
	ours := primaryService(t, cluster)
	cases := map[string]struct {
		change func(*corev1.Service)
		reason string
	}{
		"it has no owner":              {func(s *corev1.Service) { s.OwnerReferences = nil }, "it was not made for this MySQLCluster; delete it or give the cluster another name"},
		"it is of an earlier cluster":  {func(s *corev1.Service) { s.OwnerReferences[0].UID = "u0" }, "it belongs to an earlier MySQLCluster of this name and goes with it"},
		"it is of something else":      {func(s *corev1.Service) { s.OwnerReferences[0].UID = "u0"; s.OwnerReferences[0].Kind = "Chart" }, "it is controlled by Chart db; give the cluster another name"},
		"its owner is not in control":  {func(s *corev1.Service) { s.OwnerReferences[0].Controller = nil }, "it was not made for this MySQLCluster; delete it or give the cluster another name"},
		"it only looks like one of us": {func(s *corev1.Service) { s.OwnerReferences = nil; s.Annotations = nil }, "it was not made for this MySQLCluster; delete it or give the cluster another name"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			live := ours.DeepCopy()
			tc.change(live)
			for seen, observed := range map[string]*corev1.Service{"seen": live, "not seen": nil} {
				w := newWorld(t, live.DeepCopy())
				_, err := w.EnsureService(w.ctx, cluster, ours, observed)
				var foreign *Foreign
				if !errors.As(err, &foreign) || foreign.Reason != tc.reason || foreign.Name != "db-mysql" || foreign.Kind != "Service" {
					t.Errorf("%s: %v", seen, err)
				}
				left := must[*corev1.Service](t)(w.fake.CoreV1().Services("shop").Get(w.ctx, "db-mysql", metav1.GetOptions{}))
				left.ManagedFields = nil
				left.TypeMeta, live.TypeMeta = metav1.TypeMeta{}, metav1.TypeMeta{}
				if diff := cmp.Diff(live, left); diff != "" {
					t.Errorf("%s: it was changed (-before +after):\n%s", seen, diff)
				}
			}
		})
	}
}

func TestBudgetIsDeletedByUID(t *testing.T) {
	cluster := newCluster("u1")
	live, err := render.Budget(cluster, 3)
	if err != nil {
		t.Fatal(err)
	}
	live.UID = "p1"
	w := newWorld(t, live)
	if err := w.EnsureBudget(w.ctx, cluster, nil, live); err != nil {
		t.Fatal(err)
	}
	deleted, ok := w.fake.Actions()[0].(clienttesting.DeleteAction)
	if !ok || *deleted.GetDeleteOptions().Preconditions.UID != "p1" {
		t.Errorf("actions: %v", w.fake.Actions())
	}
	w.fake.ClearActions()
	foreign := live.DeepCopy()
	foreign.OwnerReferences = nil
	if err := w.EnsureBudget(w.ctx, cluster, nil, foreign); err != nil {
		t.Fatal(err)
	}
	wantWrites(t, w)
}

func TestBudgetFollowsTheVoters(t *testing.T) {
	cluster := newCluster("u1")
	w := newWorld(t)
	for _, voters := range []int{3, 5} {
		desired, err := render.Budget(cluster, voters)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.EnsureBudget(w.ctx, cluster, desired, nil); err != nil {
			t.Fatal(err)
		}
	}
	live, err := w.fake.PolicyV1().PodDisruptionBudgets("shop").Get(w.ctx, "db-mysql", metav1.GetOptions{})
	if err != nil || live.Spec.MinAvailable.IntValue() != 4 {
		t.Errorf("%v, %v", live, err)
	}
}

func TestHolds(t *testing.T) {
	type tree = map[string]any
	cases := map[string]struct {
		found, wanted any
		want          bool
	}{
		"more fields":             {tree{"a": 1, "b": 2}, tree{"a": 1}, true},
		"a missing field":         {tree{"b": 2}, tree{"a": 1}, false},
		"an empty map for none":   {nil, tree{}, true},
		"an empty list for none":  {nil, []any{}, true},
		"a list in another order": {[]any{tree{"n": "y"}, tree{"n": "x", "p": 1}}, []any{tree{"n": "x"}, tree{"n": "y"}}, true},
		"a missing list item":     {[]any{tree{"n": "y"}}, []any{tree{"n": "x"}}, false},
		"another value":           {tree{"a": "1"}, tree{"a": "2"}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := holds(tc.found, tc.wanted); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func secretData(t *testing.T, w *world, name string) map[string]string {
	t.Helper()
	secret := must[*corev1.Secret](t)(w.fake.CoreV1().Secrets("shop").Get(w.ctx, name, metav1.GetOptions{}))
	data := map[string]string{}
	for key, value := range secret.Data {
		data[key] = string(value)
	}
	return data
}

func TestAccountsAreMadeOnceAndCompleted(t *testing.T) {
	cluster := newCluster("u1")
	w := newWorld(t)
	first := must[[]accountLogin](t)(logins(w, cluster))
	if len(first) != 6 || first[0].user != "root" || len(first[0].password) < 32 {
		t.Fatalf("logins: %v", first)
	}
	wantWrites(t, w, slices.Repeat([]string{"create secrets"}, 6)...)
	w.Random = letters(1)
	if diff := cmp.Diff(first, must[[]accountLogin](t)(logins(w, cluster)), cmp.AllowUnexported(accountLogin{})); diff != "" {
		t.Errorf("the second time (-first +second):\n%s", diff)
	}
	wantWrites(t, w)

	emptied := must[*corev1.Secret](t)(w.fake.CoreV1().Secrets("shop").Get(w.ctx, "db-mysql-account-moco-monitoring", metav1.GetOptions{}))
	emptied.Data = nil
	must[*corev1.Secret](t)(w.fake.CoreV1().Secrets("shop").Update(w.ctx, emptied, metav1.UpdateOptions{FieldManager: "kubectl-edit"}))
	w.fake.ClearActions()
	third := must[[]accountLogin](t)(logins(w, cluster))
	for i := range third {
		if changed := third[i] != first[i]; changed != (third[i].user == "moco-monitoring") {
			t.Errorf("%s: changed: %v", third[i].user, changed)
		}
	}
	data := secretData(t, w, "db-mysql-account-moco-monitoring")
	if data["username"] != "moco-monitoring" || !strings.Contains(data["my.cnf"], data["password"]) || data["password"] == "" {
		t.Errorf("the emptied Secret has %v", slices.Sorted(maps.Keys(data)))
	}
}

type accountLogin struct{ user, password string }

func logins(w *world, cluster *v1beta1.MySQLCluster) ([]accountLogin, error) {
	accounts, err := w.EnsureAccounts(w.ctx, cluster)
	var found []accountLogin
	for _, account := range accounts {
		found = append(found, accountLogin{account.Username, account.Password})
	}
	return found, err
}

func TestKeptSecretsAreAdopted(t *testing.T) {
	w := newWorld(t)
	before := must[[]accountLogin](t)(logins(w, newCluster("u1")))
	application := must[*api.Account](t)(w.EnsureApplication(w.ctx, newCluster("u1")))
	w.Random = letters(1)
	again := newCluster("u2")
	if diff := cmp.Diff(before, must[[]accountLogin](t)(logins(w, again)), cmp.AllowUnexported(accountLogin{})); diff != "" {
		t.Errorf("passwords (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(application, must[*api.Account](t)(w.EnsureApplication(w.ctx, again))); diff != "" {
		t.Errorf("application (-before +after):\n%s", diff)
	}
	secret := must[*corev1.Secret](t)(w.fake.CoreV1().Secrets("shop").Get(w.ctx, "db-mysql-account-root", metav1.GetOptions{}))
	if got := secret.Annotations[v1beta1.AnnotationClusterUID]; got != "u2" {
		t.Errorf("it was made for %q", got)
	}
}

func TestSecretsOfOthersAreNotRead(t *testing.T) {
	cluster := newCluster("u1")
	cases := map[string]struct {
		name string
		meta metav1.ObjectMeta
	}{
		"no annotation": {"db-mysql-ca", metav1.ObjectMeta{Labels: render.Labels(cluster)}},
		"other labels": {"db-mysql-ca", metav1.ObjectMeta{
			Labels: map[string]string{v1beta1.LabelCluster: "other"}, Annotations: map[string]string{v1beta1.AnnotationClusterUID: "u0"},
		}},
		"certificates without an owner": {"db-mysql-tls", metav1.ObjectMeta{
			Labels: render.Labels(cluster), Annotations: map[string]string{v1beta1.AnnotationClusterUID: "u0"},
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.meta.Name, tc.meta.Namespace = tc.name, "shop"
			w := newWorld(t, &corev1.Secret{ObjectMeta: tc.meta, Data: map[string][]byte{"k": []byte("v")}})
			data, err := w.ReadSecret(w.ctx, cluster, tc.name)
			var foreign *Foreign
			if !errors.As(err, &foreign) || data != nil {
				t.Errorf("%v, %v", data, err)
			}
		})
	}
}

func TestRetainPolicyOfASecretCanChange(t *testing.T) {
	cluster := newCluster("u1")
	w := newWorld(t)
	for _, step := range []struct {
		retain v1beta1.RetainPolicy
		owners int
	}{{v1beta1.RetainKeep, 0}, {v1beta1.RetainDelete, 1}, {v1beta1.RetainKeep, 0}} {
		cluster.Spec.Storage.Retain = step.retain
		desired := must[*corev1.Secret](t)(render.CASecret(cluster, []byte("bundle"), []byte("key")))
		secret := must[*corev1.Secret](t)(w.EnsureSecret(w.ctx, cluster, desired))
		if len(secret.OwnerReferences) != step.owners {
			t.Errorf("with %s it has owners %v", step.retain, secret.OwnerReferences)
		}
	}
}
