// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

func newPod(t *testing.T, cluster *v1beta1.MySQLCluster, epoch int64) *corev1.Pod {
	t.Helper()
	pod := must[*corev1.Pod](t)(render.Pod(cluster, render.PodInput{AgentImage: "agent:1", ExporterImage: "exporter:1", Epoch: epoch}))
	pod.UID, pod.ResourceVersion = "pod-1", "5"
	pod.Status.PodIP = "10.0.0.5"
	return pod
}

func newSlice(t *testing.T, cluster *v1beta1.MySQLCluster, epoch int64, pods ...*corev1.Pod) *discoveryv1.EndpointSlice {
	t.Helper()
	slices := must[[]*discoveryv1.EndpointSlice](t)(render.EndpointSlices(cluster, render.SliceInput{
		Service: render.PrimaryServiceName(cluster), Epoch: epoch, Pods: pods,
	}))
	return slices[0]
}

func TestSliceFollowsTheEpoch(t *testing.T) {
	cluster := newCluster("u1")
	pod := newPod(t, cluster, 7)
	cases := map[string]struct {
		live   *discoveryv1.EndpointSlice
		writes []string
		stale  bool
	}{
		"there is none":                       {nil, []string{"create endpointslices"}, false},
		"it is as wanted":                     {newSlice(t, cluster, 7, pod), nil, false},
		"it is of an earlier epoch":           {newSlice(t, cluster, 6, pod), []string{"update endpointslices"}, false},
		"it leads nowhere":                    {newSlice(t, cluster, 7), []string{"update endpointslices"}, false},
		"it is of a later epoch":              {newSlice(t, cluster, 8), nil, true},
		"its epoch was overwritten by nobody": {unreadableEpoch(newSlice(t, cluster, 7)), []string{"update endpointslices"}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.live != nil {
				w = newWorld(t, tc.live)
			}
			for range 2 { // the second time as seen by a cache that has caught up
				slice, err := w.EnsureSlice(w.ctx, cluster, newSlice(t, cluster, 7, pod), tc.live)
				var stale *StaleEpoch
				if errors.As(err, &stale) != tc.stale || err != nil && !tc.stale {
					t.Fatalf("error %v", err)
				}
				wantWrites(t, w, tc.writes...)
				if err != nil {
					return
				}
				if diff := cmp.Diff([]string{"10.0.0.5"}, slice.Endpoints[0].Addresses); diff != "" {
					t.Errorf("addresses (-want +got):\n%s", diff)
				}
				tc.live, tc.writes = slice, nil
			}
		})
	}
}

func unreadableEpoch(slice *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	slice.Annotations[v1beta1.AnnotationEpoch] = "yesterday"
	return slice
}

// conflictOnce makes the first write of that verb fail, after change was applied to the live objects.
func conflictOnce(w *world, verb, resourceName string, change func(clienttesting.ObjectTracker) error) {
	done := false
	w.fake.PrependReactor(verb, resourceName, func(clienttesting.Action) (bool, runtime.Object, error) {
		if done {
			return false, nil, nil
		}
		done = true
		if err := change(w.fake.Tracker()); err != nil {
			return true, nil, err
		}
		return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: resourceName}, "x", errors.New("changed"))
	})
}

func TestSliceWrittenMeanwhileUnderALaterEpochWins(t *testing.T) {
	cluster := newCluster("u1")
	seen := newSlice(t, cluster, 6)
	w := newWorld(t, seen.DeepCopy())
	conflictOnce(w, "update", "endpointslices", func(tracker clienttesting.ObjectTracker) error {
		return tracker.Update(discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), newSlice(t, cluster, 9), "shop")
	})
	_, err := w.EnsureSlice(w.ctx, cluster, newSlice(t, cluster, 7, newPod(t, cluster, 7)), seen)
	var stale *StaleEpoch
	if !errors.As(err, &stale) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff(&StaleEpoch{Kind: "EndpointSlice", Name: "db-mysql-ipv4", Have: 9, Want: 7}, stale); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSliceIsTriedAgainAfterAHarmlessConflict(t *testing.T) {
	cluster := newCluster("u1")
	seen := newSlice(t, cluster, 6)
	w := newWorld(t, seen.DeepCopy())
	conflictOnce(w, "update", "endpointslices", func(clienttesting.ObjectTracker) error { return nil })
	slice := must[*discoveryv1.EndpointSlice](t)(w.EnsureSlice(w.ctx, cluster, newSlice(t, cluster, 7, newPod(t, cluster, 7)), seen))
	if len(slice.Endpoints) != 1 || slice.Annotations[v1beta1.AnnotationEpoch] != "7" {
		t.Errorf("got %v", slice)
	}
}

func TestStrangersAreRemoved(t *testing.T) {
	cluster := newCluster("u1")
	made := func(name, service, manager string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{
			discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: manager,
		}}}
	}
	mirrored := made("mirrored", "db-mysql-ro", "endpointslicemirroring-controller.k8s.io")
	mirrored.OwnerReferences = []metav1.OwnerReference{{Kind: "Endpoints", Name: "db-mysql-ro", UID: "e1", Controller: new(bool)}}
	*mirrored.OwnerReferences[0].Controller = true
	all := []*discoveryv1.EndpointSlice{
		newSlice(t, cluster, 7),
		made("selected", "db-mysql", "endpointslice-controller.k8s.io"),
		mirrored,
		made("by-hand", "db-mysql", ""),
		made("headless", "db-mysql-headless", "endpointslice-controller.k8s.io"),
		made("unrelated", "other", "endpointslice-controller.k8s.io"),
	}
	var objects []runtime.Object
	for _, slice := range all {
		objects = append(objects, slice)
	}
	endpoints := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "db-mysql-ro", Namespace: "shop"}} //nolint:staticcheck // what is mirrored
	w := newWorld(t, append(objects, endpoints)...)
	if err := w.RemoveStrangers(w.ctx, cluster, all); err != nil {
		t.Fatal(err)
	}
	wantWrites(t, w, "delete endpointslices", "delete endpoints", "delete endpointslices", "delete endpointslices")
	left, err := w.fake.DiscoveryV1().EndpointSlices("shop").List(w.ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range left.Items {
		names = append(names, left.Items[i].Name)
	}
	if diff := cmp.Diff([]string{"db-mysql-ipv4", "headless", "unrelated"}, names); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

func TestPodIsMarked(t *testing.T) {
	cluster := newCluster("u1")
	cases := map[string]struct {
		before, marks Marks
		patches       int
		stale         bool
	}{
		"nothing changes":           {before: Marks{Role: "primary", Voter: true, Epoch: 7}, marks: Marks{Role: "primary", Voter: true, Epoch: 7}},
		"it becomes the primary":    {before: Marks{Epoch: 6}, marks: Marks{Role: "primary", Voter: true, Epoch: 7}, patches: 1},
		"it may not serve any more": {before: Marks{Role: "primary", Voter: true, Epoch: 6}, marks: Marks{Epoch: 7}, patches: 1},
		"only the epoch moves on":   {before: Marks{Role: "replica", Epoch: 6}, marks: Marks{Role: "replica", Epoch: 7}, patches: 1},
		"it was marked later":       {before: Marks{Role: "replica", Epoch: 8}, marks: Marks{Role: "primary", Epoch: 7}, stale: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			pod := newPod(t, cluster, 1)
			setMarks(pod, tc.before)
			w := newWorld(t, pod)
			marked, err := w.MarkPod(w.ctx, cluster, pod, tc.marks)
			var stale *StaleEpoch
			if errors.As(err, &stale) != tc.stale || err != nil && !tc.stale {
				t.Fatalf("error %v", err)
			}
			if got := len(w.writes()); got != tc.patches {
				t.Errorf("%d patches, want %d", got, tc.patches)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tc.marks, marksOf(marked)); diff != "" {
				t.Errorf("marks (-want +got):\n%s", diff)
			}
			if marked.Labels["moco.dev/ordinal"] != "0" {
				t.Errorf("other labels were lost: %v", marked.Labels)
			}
		})
	}
}

func setMarks(pod *corev1.Pod, marks Marks) {
	labels, _ := marks.wanted()
	for key, value := range labels {
		if value != nil {
			pod.Labels[key] = *value
		}
	}
	pod.Annotations[v1beta1.AnnotationEpoch] = strconv.FormatInt(marks.Epoch, 10)
}

func marksOf(pod *corev1.Pod) Marks {
	epoch, _ := render.EpochOf(pod)
	return Marks{Role: pod.Labels[v1beta1.LabelRole], Voter: pod.Labels[v1beta1.LabelVoter] == "true", Epoch: epoch}
}

func TestAnotherPodOfTheNameIsNotMarked(t *testing.T) {
	cluster := newCluster("u1")
	seen := newPod(t, cluster, 1)
	w := newWorld(t, seen.DeepCopy())
	conflictOnce(w, "patch", "pods", func(tracker clienttesting.ObjectTracker) error {
		other := newPod(t, cluster, 1)
		other.UID = "pod-2"
		return tracker.Update(corev1.SchemeGroupVersion.WithResource("pods"), other, "shop")
	})
	if _, err := w.MarkPod(w.ctx, cluster, seen, Marks{Role: "primary", Epoch: 7}); !apierrors.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	live := must[*corev1.Pod](t)(w.fake.CoreV1().Pods("shop").Get(w.ctx, "db-mysql-0", metav1.GetOptions{}))
	if live.Labels[v1beta1.LabelRole] != "" {
		t.Errorf("it was marked: %v", live.Labels)
	}
}

func TestPodThatExistsIsOursByUID(t *testing.T) {
	cluster := newCluster("u1")
	now := metav1.Now()
	cases := map[string]struct {
		change func(*corev1.Pod)
		target any
	}{
		"it is ours":             {change: func(*corev1.Pod) {}},
		"it is an earlier one's": {change: func(p *corev1.Pod) { p.OwnerReferences[0].UID = "u0" }, target: new(*Foreign)},
		"it is nobody's":         {change: func(p *corev1.Pod) { p.OwnerReferences = nil }, target: new(*Foreign)},
		"it is going":            {change: func(p *corev1.Pod) { p.DeletionTimestamp = &now; p.Finalizers = []string{"x/y"} }, target: new(*Terminating)},
		"it is an earlier one, too": {change: func(p *corev1.Pod) {
			p.OwnerReferences[0].UID = "u0"
			p.DeletionTimestamp = &now
			p.Finalizers = []string{"x/y"}
		}, target: new(*Foreign)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			live := newPod(t, cluster, 1)
			tc.change(live)
			w := newWorld(t, live)
			pod, err := w.CreatePod(w.ctx, cluster, newPod(t, cluster, 1))
			if tc.target == nil {
				if err != nil || pod.UID != live.UID {
					t.Errorf("%v, %v", pod, err)
				}
			} else if !errors.As(err, tc.target) {
				t.Errorf("got %v, want a %T", err, tc.target)
			}
		})
	}
}

func TestPodIsDeletedByUID(t *testing.T) {
	cluster := newCluster("u1")
	pod := newPod(t, cluster, 1)
	w := newWorld(t, pod)
	if err := w.DeletePod(w.ctx, cluster, pod); err != nil {
		t.Fatal(err)
	}
	deleted, ok := w.fake.Actions()[0].(clienttesting.DeleteAction)
	if !ok || *deleted.GetDeleteOptions().Preconditions.UID != "pod-1" || deleted.GetDeleteOptions().GracePeriodSeconds != nil {
		t.Errorf("actions: %v", w.fake.Actions())
	}
	if err := w.DeletePod(w.ctx, cluster, pod); err != nil {
		t.Errorf("the second time: %v", err)
	}
	pod.OwnerReferences = nil
	var foreign *Foreign
	if err := w.DeletePod(w.ctx, cluster, pod); !errors.As(err, &foreign) {
		t.Errorf("a foreign one: %v", err)
	}
}

func TestClaims(t *testing.T) {
	cluster := newCluster("u2")
	now := metav1.Now()
	earlier := func(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		claim := render.Claim(newCluster("u1"), 0)
		if change != nil {
			change(claim)
		}
		return claim
	}
	cases := map[string]struct {
		live   *corev1.PersistentVolumeClaim
		writes []string
		target any
	}{
		"there is none":             {live: nil, writes: []string{"create persistentvolumeclaims"}},
		"it is ours":                {live: render.Claim(cluster, 0)},
		"it was kept":               {live: earlier(nil), writes: []string{"patch persistentvolumeclaims"}},
		"it is being deleted":       {live: earlier(func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &now; c.Finalizers = []string{"x/y"} }), target: new(*Terminating)},
		"it goes with an old owner": {live: earlier(func(c *corev1.PersistentVolumeClaim) { c.OwnerReferences = ownersOf("u1") }), target: new(*Foreign)},
		"it names no cluster":       {live: earlier(func(c *corev1.PersistentVolumeClaim) { c.Annotations = nil }), target: new(*Foreign)},
		"it is another cluster's":   {live: earlier(func(c *corev1.PersistentVolumeClaim) { c.Labels[v1beta1.LabelCluster] = "x" }), target: new(*Foreign)},
		"it is another instance's":  {live: earlier(func(c *corev1.PersistentVolumeClaim) { c.Labels[v1beta1.LabelOrdinal] = "1" }), target: new(*Foreign)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.live != nil {
				w = newWorld(t, tc.live)
			}
			claim, err := w.EnsureClaim(w.ctx, cluster, render.Claim(cluster, 0), tc.live)
			wantWrites(t, w, tc.writes...)
			if tc.target != nil {
				if !errors.As(err, tc.target) {
					t.Errorf("got %v, want a %T", err, tc.target)
				}
				return
			}
			if err != nil || claim.Annotations[v1beta1.AnnotationClusterUID] != "u2" {
				t.Errorf("%v, %v", claim, err)
			}
		})
	}
}

func ownersOf(uid string) []metav1.OwnerReference {
	return []metav1.OwnerReference{*metav1.NewControllerRef(newCluster(uid), render.ClusterKind)}
}

func TestRetainPolicyOfAClaimCanChange(t *testing.T) {
	cluster := newCluster("u1")
	live := render.Claim(cluster, 0)
	other := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n", UID: "n1"}
	live.OwnerReferences = []metav1.OwnerReference{other}
	w := newWorld(t, live)
	for _, step := range []struct {
		retain v1beta1.RetainPolicy
		want   []metav1.OwnerReference
	}{
		{v1beta1.RetainDelete, append([]metav1.OwnerReference{other}, ownersOf("u1")...)},
		{v1beta1.RetainKeep, []metav1.OwnerReference{other}},
	} {
		cluster.Spec.Storage.Retain = step.retain
		live = must[*corev1.PersistentVolumeClaim](t)(w.EnsureClaim(w.ctx, cluster, render.Claim(cluster, 0), live))
		if diff := cmp.Diff(step.want, live.OwnerReferences); diff != "" {
			t.Errorf("%s: owners (-want +got):\n%s", step.retain, diff)
		}
	}
}

func TestClaimsOnlyGrow(t *testing.T) {
	cases := map[string]struct {
		phase             corev1.PersistentVolumeClaimPhase
		have, want, after string
		writes            []string
	}{
		"more is wanted":          {corev1.ClaimBound, "10Gi", "20Gi", "20Gi", []string{"patch persistentvolumeclaims"}},
		"it is not bound yet":     {corev1.ClaimPending, "10Gi", "20Gi", "10Gi", nil},
		"as much is wanted":       {corev1.ClaimBound, "10Gi", "10240Mi", "10Gi", nil},
		"a kept volume is larger": {corev1.ClaimBound, "50Gi", "10Gi", "50Gi", nil},
		"a byte more is wanted":   {corev1.ClaimBound, "10Gi", "10737418241", "10737418241", []string{"patch persistentvolumeclaims"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster("u1")
			cluster.Spec.Storage.Size = resource.MustParse(tc.have)
			live := render.Claim(cluster, 0)
			live.Status.Phase = tc.phase
			cluster.Spec.Storage.Size = resource.MustParse(tc.want)
			w := newWorld(t, live)
			grown := must[*corev1.PersistentVolumeClaim](t)(w.GrowClaim(w.ctx, render.Claim(cluster, 0), live))
			wantWrites(t, w, tc.writes...)
			if got := grown.Spec.Resources.Requests.Storage().String(); got != tc.after {
				t.Errorf("%s, want %s", got, tc.after)
			}
		})
	}
}

func TestDryRunTellsInvalidFromImpossible(t *testing.T) {
	cluster := newCluster("u1")
	group := schema.GroupResource{Resource: "pods"}
	cases := map[string]struct {
		answer  *apierrors.StatusError
		problem string
	}{
		"taken": {},
		"invalid": {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "x", field.ErrorList{
			field.Invalid(field.NewPath("spec", "containers").Index(0).Child("image"), "", "must not be empty"),
		}), "Pod spec.containers[0].image"},
		"a field the server does not know": {apierrors.NewBadRequest("strict decoding error"), "spec.podTemplate"},
		"forbidden by a policy":            {apierrors.NewForbidden(group, "x", errors.New("quota")), ""},
		"the server is ill":                {apierrors.NewInternalError(errors.New("ill")), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var sent struct {
				query, contentType string
				pod                corev1.Pod
			}
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				sent.query, sent.contentType = req.URL.RawQuery, req.Header.Get("Content-Type")
				body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
				if err != nil || json.Unmarshal(body, &sent.pod) != nil {
					t.Errorf("unreadable: %v", err)
				}
				rw.Header().Set("Content-Type", "application/json")
				answer := any(sent.pod)
				if tc.answer != nil {
					rw.WriteHeader(int(tc.answer.ErrStatus.Code))
					tc.answer.ErrStatus.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
					answer = tc.answer.ErrStatus
				}
				_ = json.NewEncoder(rw).Encode(answer)
			}))
			t.Cleanup(server.Close)
			client, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/vnd.kubernetes.protobuf"}})
			if err != nil {
				t.Fatal(err)
			}
			err = New(client).CheckPodByDryRun(t.Context(), newPod(t, cluster, 1))
			var problems render.Problems
			if errors.As(err, &problems) != (tc.problem != "") || (err != nil) != (tc.answer != nil) {
				t.Fatalf("error %v", err)
			}
			if tc.problem != "" && problems[0].Field != tc.problem {
				t.Errorf("the field is %s", problems[0].Field)
			}
			if sent.pod.Name != "" || sent.pod.GenerateName != "db-mysql-0-dry-run-" || sent.contentType != "application/json" ||
				sent.query != "dryRun=All&fieldManager=moco-controller&fieldValidation=Strict" {
				t.Errorf("sent %q, %q, %q", sent.query, sent.contentType, sent.pod.GenerateName)
			}
		})
	}
}
