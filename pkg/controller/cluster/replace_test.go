// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/topology"
)

// claim reads a volume claim, nil when there is none.
func (e *ensemble) claim(name string) *corev1.PersistentVolumeClaim {
	e.t.Helper()
	claim, err := e.kubernetes.CoreV1().PersistentVolumeClaims("shop").Get(e.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return claim
}

// pod reads a Pod, nil when there is none.
func (e *ensemble) pod(name string) *corev1.Pod {
	e.t.Helper()
	pod, err := e.kubernetes.CoreV1().Pods("shop").Get(e.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		e.t.Fatal(err)
	}
	return pod
}

// used is the claim of the Pod of an instance.
func (e *ensemble) used(name string) string {
	e.t.Helper()
	if pod := e.pod(name); pod != nil {
		return render.ClaimOf(e.cluster, testOrdinal(name), pod)
	}
	return ""
}

func testOrdinal(name string) int32 { return int32(name[len(name)-1] - '0') }

// tag gives every claim a UID, as an API server does.
func (e *ensemble) tag() {
	e.t.Helper()
	claims := e.kubernetes.CoreV1().PersistentVolumeClaims("shop")
	found, err := claims.List(e.t.Context(), metav1.ListOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	for n := range found.Items {
		found.Items[n].UID = types.UID("uid-" + found.Items[n].Name)
		if _, err := claims.Update(e.t.Context(), &found.Items[n], metav1.UpdateOptions{}); err != nil {
			e.t.Fatal(err)
		}
	}
	fill(e.t, e.fixture)
}

var claimResource = corev1.SchemeGroupVersion.WithResource("persistentvolumeclaims")

// watchPods fails the test when a Pod is removed while the record counts on its data, or made with a retired volume.
func (e *ensemble) watchPods() {
	e.kubernetes.PrependReactor("*", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		switch a := action.(type) {
		case clienttesting.DeleteAction:
			stored, err := e.moco.MocoV1beta1().MySQLClusters("shop").Get(e.t.Context(), "db", metav1.GetOptions{})
			r := stored.Status.Replication
			if err != nil || r.Phase != v1beta1.RecordOpened || topology.Holds(r, a.GetName()) {
				e.t.Errorf("%s is deleted in %+v", a.GetName(), r)
			}
		case clienttesting.CreateAction:
			pod, ok := a.GetObject().(*corev1.Pod)
			if !ok {
				break
			}
			// Not by the client, which waits for this.
			found, err := e.kubernetes.Tracker().Get(claimResource, "shop", render.ClaimOf(e.cluster, testOrdinal(pod.Name), pod))
			claim, ok := found.(*corev1.PersistentVolumeClaim)
			if err != nil || !ok || render.IsRetired(claim) {
				e.t.Errorf("%s is made with %+v: %v", pod.Name, found, err)
			}
		}
		return false, nil, nil
	})
}

func TestAReplicaGetsANewVolumeOnRequest(t *testing.T) {
	for name, forgets := range map[string]bool{"by one controller": false, "by one that is restarted after every step": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnsemble(t)
			e.tag()
			e.watchPods()
			e.ask(v1beta1.AnnotationReplace, "db-mysql-1=a")
			var states []v1beta1.RequestState
			status := e.until(func(s *v1beta1.MySQLClusterStatus) bool {
				if s.LastRequest != nil && !slices.Contains(states, s.LastRequest.State) {
					states = append(states, s.LastRequest.State)
				}
				if forgets && s.Replication.Phase == v1beta1.RecordOpened {
					e.memories.forget(cache.NewObjectName("shop", "db"))
				}
				return s.LastRequest != nil && s.LastRequest.State != v1beta1.RequestRunning
			})
			if diff := cmp.Diff([]v1beta1.RequestState{v1beta1.RequestRunning, v1beta1.RequestSucceeded}, states); diff != "" {
				t.Errorf("states (-want +got):\n%s%+v", diff, status.LastRequest)
			}
			e.checkReplaced(status)
			for range 5 {
				status = &e.sync().Status
			}
			if claims := e.claims("db-mysql-1"); len(claims) != 2 || status.LastRequest.State != v1beta1.RequestSucceeded {
				t.Errorf("it was done again: %v, %+v", claims, status.LastRequest)
			}
		})
	}
}

// checkReplaced checks the volumes, the Pod and the record after the replacement of db-mysql-1.
func (e *ensemble) checkReplaced(status *v1beta1.MySQLClusterStatus) {
	e.t.Helper()
	former := e.claim("data-db-mysql-1")
	next := render.SuccessorClaimName(e.cluster, 1, former.UID)
	if !render.IsRetired(former) || len(former.OwnerReferences) > 0 || former.Annotations[v1beta1.AnnotationRetiredAt] == "" || former.Annotations[v1beta1.AnnotationRetiredBecause] == "" {
		e.t.Errorf("the former volume: %+v", former.ObjectMeta)
	}
	if got := e.used("db-mysql-1"); got != next || e.claim(next) == nil || render.IsRetired(e.claim(next)) {
		e.t.Errorf("the Pod uses %q, want %q", got, next)
	}
	if topology.IsVoter(status.Replication, testMember(1).Incarnation) || topology.Holds(status.Replication, "db-mysql-1") {
		e.t.Errorf("the old data votes: %+v", status.Replication.LastOpened)
	}
}

// claims are the names of the claims of an instance.
func (e *ensemble) claims(instance string) []string {
	e.t.Helper()
	found, err := e.kubernetes.CoreV1().PersistentVolumeClaims("shop").List(e.t.Context(), metav1.ListOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	var names []string
	for _, claim := range found.Items {
		if strings.HasPrefix(claim.Name, "data-"+instance) {
			names = append(names, claim.Name)
		}
	}
	return names
}

func TestAReplacementThatIsNotAllowedChangesNothing(t *testing.T) {
	for value, says := range map[string]string{"db-mysql-0=a": "is the primary", "db-mysql-5=a": "no instance", "any": "no instance"} {
		t.Run(value, func(t *testing.T) {
			e := newEnsemble(t)
			e.ask(v1beta1.AnnotationReplace, value)
			status := e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.LastRequest != nil })
			for range 3 {
				status = &e.sync().Status
			}
			if r := status.LastRequest; r.State != v1beta1.RequestRefused || !strings.Contains(r.Message, says) || r.Annotation != v1beta1.AnnotationReplace {
				t.Errorf("%+v", r)
			}
			if status.Replication.Epoch != 4 || render.IsRetired(e.claim("data-db-mysql-0")) {
				t.Error("something was changed")
			}
		})
	}
}

func TestARequestDoesNotBringAnotherOneBack(t *testing.T) {
	e := newEnsemble(t)
	e.ask(v1beta1.AnnotationSwitchover, "any=1")
	first := e.until(func(s *v1beta1.MySQLClusterStatus) bool {
		return s.LastRequest != nil && s.LastRequest.State != v1beta1.RequestRunning
	})
	stored := e.sync()
	stored.Annotations = map[string]string{v1beta1.AnnotationSwitchover: "any=1", v1beta1.AnnotationReplace: "nobody=1"}
	stored, err := e.moco.MocoV1beta1().MySQLClusters("shop").Update(t.Context(), stored, metav1.UpdateOptions{})
	if err == nil {
		err = e.clusters.Update(stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	e.clock = e.clock.Add(time.Minute)
	status := e.until(func(s *v1beta1.MySQLClusterStatus) bool { return s.LastRequest.Annotation == v1beta1.AnnotationReplace })
	e.memories.forget(cache.NewObjectName("shop", "db"))
	for range 5 {
		status = &e.sync().Status
	}
	if status.Primary != first.Replication.LastOpened.Primary.Name || len(status.Requests) != 2 {
		t.Errorf("%s leads, it was %s; requests %+v", status.Primary, first.Replication.LastOpened.Primary.Name, status.Requests)
	}
}

func TestNoPodIsMadeWithARetiredVolumeThatTheCacheBelievesIn(t *testing.T) {
	e := newEnsemble(t)
	e.tag()
	e.watchPods()
	stale := e.claim("data-db-mysql-2")
	retired := stale.DeepCopy()
	retired.Labels[v1beta1.LabelRetired] = "true"
	if _, err := e.kubernetes.CoreV1().PersistentVolumeClaims("shop").Update(t.Context(), retired, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := e.kubernetes.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), "shop", "db-mysql-2"); err != nil {
		t.Fatal(err)
	}
	fill(t, e.fixture)
	if err := e.objects.Core().V1().PersistentVolumeClaims().Informer().GetIndexer().Update(stale); err != nil {
		t.Fatal(err)
	}
	if _, err := e.syncOnce(t, e.cluster); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("the sync says %v", err)
	}
	if e.pod("db-mysql-2") != nil {
		t.Error("a Pod was made")
	}
	fill(t, e.fixture)
	e.sync()
	if used := e.used("db-mysql-2"); used != render.SuccessorClaimName(e.cluster, 2, stale.UID) {
		t.Errorf("the Pod uses %q", used)
	}
}

func TestAVolumeThatIsSaidToBeRetiredCostsNoVote(t *testing.T) {
	cases := map[string]struct {
		ordinal  int32
		replaced bool
	}{
		"that of a replica is replaced once it does not vote any more": {ordinal: 1, replaced: true},
		"that of the primary stays in use":                             {ordinal: 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := newEnsemble(t)
			e.tag()
			e.strand(func(*corev1.Pod, *corev1.PersistentVolume, *corev1.Node) {})
			e.watchPods()
			instance := testMember(c.ordinal).Name
			claim := e.claim("data-" + instance)
			claim.Labels[v1beta1.LabelRetired] = "true"
			if _, err := e.kubernetes.CoreV1().PersistentVolumeClaims("shop").Update(t.Context(), claim, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			fill(t, e.fixture)
			for range 20 {
				e.sync()
			}
			if replaced := e.used(instance) != claim.Name; replaced != c.replaced {
				t.Errorf("it uses %q", e.used(instance))
			}
		})
	}
}

// strand puts db-mysql-1 on a node and gives it a volume there. The others run on nodes that are well.
func (e *ensemble) strand(change func(pod *corev1.Pod, volume *corev1.PersistentVolume, node *corev1.Node)) {
	e.t.Helper()
	ctx := e.t.Context()
	for n := range 3 {
		name := fmt.Sprintf("node-%d", n)
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		pod, claim := e.pod(testMember(int32(n)).Name), e.claim("data-"+testMember(int32(n)).Name)
		pod.Spec.NodeName, claim.Spec.VolumeName = name, "volume-"+name
		volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName}}
		volume.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
			{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{name}}}},
		}}}
		if n == 1 {
			change(pod, volume, node)
		}
		var failures []error
		_, err := e.kubernetes.CoreV1().Pods("shop").Update(ctx, pod, metav1.UpdateOptions{})
		failures = append(failures, err)
		_, err = e.kubernetes.CoreV1().PersistentVolumeClaims("shop").Update(ctx, claim, metav1.UpdateOptions{})
		failures = append(failures, err)
		_, err = e.kubernetes.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
		failures = append(failures, err)
		if node.Name != "" {
			_, err = e.kubernetes.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
			failures = append(failures, err)
		}
		for _, err := range failures {
			if err != nil {
				e.t.Fatal(err)
			}
		}
	}
	fill(e.t, e.fixture)
	e.fleet.lost(e.members[1].link, fmt.Errorf("no route to host"))
}

func TestAnInstanceWhoseNodeIsGoneGoesOnElsewhere(t *testing.T) {
	deleted := func(_ *corev1.Pod, _ *corev1.PersistentVolume, node *corev1.Node) { node.Name = "" }
	unschedulable := func(since time.Duration) func(*corev1.Pod, *corev1.PersistentVolume, *corev1.Node) {
		return func(pod *corev1.Pod, _ *corev1.PersistentVolume, node *corev1.Node) {
			node.Name, pod.Spec.NodeName = "", ""
			pod.Status.Conditions = []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
				LastTransitionTime: metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(-since)),
			}}
		}
	}
	cases := map[string]struct {
		minutes  *int32
		change   func(pod *corev1.Pod, volume *corev1.PersistentVolume, node *corev1.Node)
		replaced bool // it gets a new volume
		moved    bool // it gets another Pod with its volume
	}{
		"the node was deleted": {change: deleted, replaced: true},
		"the node is out of service": {change: func(_ *corev1.Pod, _ *corev1.PersistentVolume, node *corev1.Node) {
			node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}}
		}, replaced: true},
		"the node was deleted, and the volume is reached from others": {change: func(_ *corev1.Pod, volume *corev1.PersistentVolume, node *corev1.Node) {
			node.Name, volume.Spec.NodeAffinity = "", nil
		}, moved: true},
		"the node does not answer": {change: func(_ *corev1.Pod, _ *corev1.PersistentVolume, node *corev1.Node) {
			node.Status.Conditions[0].Status = corev1.ConditionUnknown
		}},
		"the node was deleted, and nothing is to be done by itself": {minutes: ptr.To[int32](0), change: deleted},
		"the volume has been out of reach for 31 minutes":           {change: unschedulable(31 * time.Minute), replaced: true},
		"the volume has been out of reach for 20 minutes":           {change: unschedulable(20 * time.Minute)},
		"the volume has been out of reach for long enough":          {minutes: ptr.To[int32](5), change: unschedulable(6 * time.Minute), replaced: true},
		"there is no room on any node": {change: func(pod *corev1.Pod, volume *corev1.PersistentVolume, node *corev1.Node) {
			unschedulable(time.Hour)(pod, volume, node)
			node.Name = "node-1"
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := newEnsemble(t)
			e.tag()
			e.cluster.Spec.ReplaceAfterMinutes = c.minutes
			e.edit(func(stored *v1beta1.MySQLCluster) { stored.Spec.ReplaceAfterMinutes = c.minutes })
			e.strand(c.change)
			e.watchPods()
			before := e.pod("db-mysql-1").UID
			var status *v1beta1.MySQLClusterStatus
			for range 20 {
				status = &e.sync().Status
			}
			after := e.pod("db-mysql-1")
			switch {
			case c.replaced:
				e.checkReplaced(status)
			case after == nil || (after.UID == before) == c.moved || e.used("db-mysql-1") != "data-db-mysql-1" || len(e.claims("db-mysql-1")) != 1:
				t.Errorf("the Pod: %+v; it uses %q; claims %v", after, e.used("db-mysql-1"), e.claims("db-mysql-1"))
			}
			if changed := status.Replication.Epoch != 4; changed != (c.replaced || c.moved) {
				t.Errorf("epoch %d", status.Replication.Epoch)
			}
		})
	}
}

// edit changes the stored cluster.
func (e *ensemble) edit(change func(*v1beta1.MySQLCluster)) {
	e.t.Helper()
	clusters := e.moco.MocoV1beta1().MySQLClusters("shop")
	stored, err := clusters.Get(e.t.Context(), "db", metav1.GetOptions{})
	if err == nil {
		change(stored)
		stored, err = clusters.Update(e.t.Context(), stored, metav1.UpdateOptions{})
	}
	if err == nil {
		err = e.clusters.Update(stored)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

func TestWhichVolumeAnInstanceUsesIsReadFromTheObjects(t *testing.T) {
	cluster := newCluster(3)
	base := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	made := func(name string, minute int, retired bool) *corev1.PersistentVolumeClaim {
		claim := render.ClaimNamed(cluster, 1, name)
		claim.UID, claim.CreationTimestamp = types.UID("uid-"+name), metav1.NewTime(base.Add(time.Duration(minute)*time.Minute))
		if retired {
			claim.Labels[v1beta1.LabelRetired] = "true"
		}
		return claim
	}
	const first = "data-db-mysql-1"
	second := render.SuccessorClaimName(cluster, 1, "uid-"+first)
	third := render.SuccessorClaimName(cluster, 1, types.UID("uid-"+second))
	cases := map[string]struct {
		claims []*corev1.PersistentVolumeClaim
		want   string
	}{
		"there is none":                         {nil, first},
		"there is the first":                    {[]*corev1.PersistentVolumeClaim{made(first, 0, false)}, first},
		"the first is retired":                  {[]*corev1.PersistentVolumeClaim{made(first, 0, true)}, second},
		"the second was made":                   {[]*corev1.PersistentVolumeClaim{made(second, 5, false), made(first, 0, true)}, second},
		"the first seems to be in use, still":   {[]*corev1.PersistentVolumeClaim{made(first, 0, false), made(second, 5, false)}, second},
		"both are of one second":                {[]*corev1.PersistentVolumeClaim{made(second, 0, false), made(first, 0, false)}, second},
		"two are retired":                       {[]*corev1.PersistentVolumeClaim{made(second, 5, true), made(first, 0, true)}, third},
		"two of one second are retired":         {[]*corev1.PersistentVolumeClaim{made(second, 0, true), made(first, 0, true)}, third},
		"a person deleted the one between":      {[]*corev1.PersistentVolumeClaim{made(first, 0, true), made(third, 9, false)}, third},
		"something else begins with the name":   {[]*corev1.PersistentVolumeClaim{made(first+"-backup", 9, false)}, first},
		"something else looks like a successor": {[]*corev1.PersistentVolumeClaim{made(first+"-0123456789", 9, false)}, first},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := &world{cluster: cluster, claims: map[int32]*corev1.PersistentVolumeClaim{}, retired: map[int32][]*corev1.PersistentVolumeClaim{}}
			for ordinal, v := range sortVolumes(cluster, c.claims) {
				if w.retired[ordinal] = v.retired; v.current != nil {
					w.claims[ordinal] = v.current
				}
			}
			if got := w.claimName(1); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
