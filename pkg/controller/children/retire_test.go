// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

func TestARetiredVolumeIsKeptWhateverBecomesOfTheCluster(t *testing.T) {
	for _, retain := range []v1beta1.RetainPolicy{v1beta1.RetainKeep, v1beta1.RetainDelete} {
		t.Run(string(retain), func(t *testing.T) {
			cluster := newCluster("u1")
			cluster.Spec.Storage.Retain = retain
			live := render.Claim(cluster, 0)
			other := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "n", UID: "n1"}
			live.OwnerReferences = append(live.OwnerReferences, other)
			w := newWorld(t, live)
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			retired := must[*corev1.PersistentVolumeClaim](t)(w.RetireClaim(w.ctx, cluster, live, Retirement{At: at, Because: "its node is gone", For: "db-mysql-0=1"}))
			wantWrites(t, w, "patch persistentvolumeclaims")
			if diff := cmp.Diff([]metav1.OwnerReference{other}, retired.OwnerReferences); diff != "" {
				t.Errorf("owners (-want +got):\n%s", diff)
			}
			want := map[string]string{
				v1beta1.AnnotationClusterUID: "u1", v1beta1.AnnotationRetiredAt: "2026-01-02T03:04:05Z",
				v1beta1.AnnotationRetiredBecause: "its node is gone", v1beta1.AnnotationRetiredFor: "db-mysql-0=1",
			}
			if diff := cmp.Diff(want, retired.Annotations); diff != "" || !render.IsRetired(retired) {
				t.Errorf("retired %t, annotations (-want +got):\n%s", render.IsRetired(retired), diff)
			}
			var refused *Retired
			if _, err := w.EnsureClaim(w.ctx, cluster, render.Claim(cluster, 0), nil); !errors.As(err, &refused) {
				t.Errorf("it is taken up again: %v", err)
			}
			if err := w.CheckClaim(w.ctx, cluster, live.Name); !errors.As(err, &refused) {
				t.Errorf("a Pod may be made with it: %v", err)
			}
		})
	}
}

func TestAVolumeOfSomebodyElseIsNotRetired(t *testing.T) {
	cluster := newCluster("u1")
	live := render.Claim(cluster, 0)
	live.Annotations = nil
	w := newWorld(t, live)
	var foreign *Foreign
	if _, err := w.RetireClaim(w.ctx, cluster, live, Retirement{Because: "x"}); !errors.As(err, &foreign) {
		t.Errorf("got %v", err)
	}
	wantWrites(t, w)
}

func TestAVolumeIsReadAnewBeforeAPodIsMadeWithIt(t *testing.T) {
	cluster := newCluster("u1")
	w := newWorld(t, render.Claim(cluster, 0))
	if err := w.CheckClaim(w.ctx, cluster, "data-db-mysql-0"); err != nil {
		t.Errorf("one that is well: %v", err)
	}
	if err := w.CheckClaim(w.ctx, cluster, "data-db-mysql-1"); !apierrors.IsNotFound(err) {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestAPodIsRemovedAtOnceByUID(t *testing.T) {
	cluster := newCluster("u1")
	pod := newPod(t, cluster, 1)
	now := metav1.Now()
	pod.DeletionTimestamp, pod.Finalizers = &now, []string{"x/y"}
	w := newWorld(t, pod)
	if err := w.RemovePod(w.ctx, cluster, pod); err != nil {
		t.Fatal(err)
	}
	deleted, ok := w.fake.Actions()[0].(clienttesting.DeleteAction)
	if !ok || *deleted.GetDeleteOptions().Preconditions.UID != pod.UID || *deleted.GetDeleteOptions().GracePeriodSeconds != 0 {
		t.Errorf("actions: %v", w.fake.Actions())
	}
	pod.OwnerReferences = nil
	var foreign *Foreign
	if err := w.RemovePod(w.ctx, cluster, pod); !errors.As(err, &foreign) {
		t.Errorf("a foreign one: %v", err)
	}
}

func TestNamesOfVolumes(t *testing.T) {
	cluster := newCluster("u1")
	next := render.SuccessorClaimName(cluster, 1, "uid-1")
	for name, want := range map[string]bool{
		"data-db-mysql-1": true, next: true, "data-db-mysql-10": false, "data-db-mysql-1-": false, "data-db-mysql-1-0123abcx": false,
		"data-db-mysql-2": false, next + "0": false, "": false,
	} {
		if got := render.IsClaimName(cluster, 1, name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	if next == render.SuccessorClaimName(cluster, 1, "uid-2") || next != render.SuccessorClaimName(cluster, 1, "uid-1") {
		t.Error("the name does not depend on the UID alone")
	}
}
