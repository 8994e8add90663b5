// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// provisioner serves objects from a fake API server; its disks are in a
// directory of the test, in which nothing can be mounted.
func provisioner(t *testing.T, objects ...runtime.Object) *Provisioner {
	t.Helper()
	dir := t.TempDir()
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for _, o := range objects {
		if v, ok := o.(*corev1.PersistentVolume); ok {
			if err := store.Add(v); err != nil {
				t.Fatal(err)
			}
		}
	}
	return &Provisioner{
		Client: fake.NewClientset(objects...), Name: "example.com/disk", Class: "disk",
		Disks:   Disks{ImageDir: dir, MountPoint: func(node, name string) string { return filepath.Join(dir, node, name) }},
		volumes: listers.NewPersistentVolumeLister(store),
	}
}

func claim(change func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class := "disk"
	c := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns", UID: "1234", Annotations: map[string]string{selectedNode: "n2"}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
	change(c)
	return c
}

func released(change func(*corev1.PersistentVolume)) *corev1.PersistentVolume {
	v := (&Provisioner{Name: "example.com/disk", Class: "disk"}).newVolume(
		claim(func(*corev1.PersistentVolumeClaim) {}), "n2", "/mnt/1234")
	v.UID, v.Status.Phase = types.UID("5678"), corev1.VolumeReleased
	change(v)
	return v
}

func TestAVolumeIsMadeOnlyForAClaimOfTheClassWithAChosenNode(t *testing.T) {
	tests := map[string]func(*corev1.PersistentVolumeClaim){
		"a claim of another class":               func(c *corev1.PersistentVolumeClaim) { *c.Spec.StorageClassName = "other" },
		"a claim without a class":                func(c *corev1.PersistentVolumeClaim) { c.Spec.StorageClassName = nil },
		"a claim whose Pod is not scheduled yet": func(c *corev1.PersistentVolumeClaim) { c.Annotations = nil },
		"a claim that is being deleted":          func(c *corev1.PersistentVolumeClaim) { c.DeletionTimestamp = &metav1.Time{} },
		"a claim that is bound to another's volume": func(c *corev1.PersistentVolumeClaim) {
			c.Spec.VolumeName, c.Status.Phase = "other", corev1.ClaimBound
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			p := provisioner(t)
			if err := p.syncClaim(t.Context(), claim(change)); err != nil {
				t.Fatal(err)
			}
			if files, err := os.ReadDir(p.Disks.ImageDir); err != nil || len(files) > 0 {
				t.Errorf("disks %v, error %v", files, err)
			}
		})
	}
}

func TestOnlyItsOwnReleasedVolumesAreDeleted(t *testing.T) {
	tests := map[string]struct {
		change func(*corev1.PersistentVolume)
		left   int
	}{
		"its own":   {change: func(*corev1.PersistentVolume) {}},
		"another's": {change: func(v *corev1.PersistentVolume) { v.Annotations = nil }, left: 1},
		"one to be retained": {change: func(v *corev1.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		}, left: 1},
		"one that waits for its claim": {change: func(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumeAvailable }, left: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := released(tt.change)
			p := provisioner(t, v)
			image := p.Disks.image(v.Name)
			if err := os.WriteFile(image, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := p.syncVolume(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			volumes, err := p.Client.CoreV1().PersistentVolumes().List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.left, len(volumes.Items)); diff != "" {
				t.Errorf("volumes that are left (-want +got):\n%s", diff)
			}
			if _, err := os.Stat(image); (err == nil) != (tt.left == 1) {
				t.Errorf("its disk: %v", err)
			}
		})
	}
}

func TestABoundVolumeWhoseDiskIsGoneIsNotMadeAnew(t *testing.T) {
	v := released(func(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumeBound })
	p := provisioner(t, v)
	if err := p.syncVolume(t.Context(), v); err == nil {
		t.Error("no error: an empty volume would have taken the place of one with data")
	}
	if files, err := os.ReadDir(p.Disks.ImageDir); err != nil || len(files) > 0 {
		t.Errorf("disks %v, error %v", files, err)
	}
}

func TestANewVolumeIsBoundToItsClaimAndItsNode(t *testing.T) {
	v := released(func(*corev1.PersistentVolume) {})
	type facts struct {
		Name, Claim, Node, Path, Size string
		Policy                        corev1.PersistentVolumeReclaimPolicy
	}
	size := v.Spec.Capacity[corev1.ResourceStorage]
	got := facts{v.Name, v.Spec.ClaimRef.Namespace + "/" + v.Spec.ClaimRef.Name + "/" + string(v.Spec.ClaimRef.UID),
		nodeOf(v), v.Spec.Local.Path, size.String(), v.Spec.PersistentVolumeReclaimPolicy}
	want := facts{"pvc-1234", "ns/c/1234", "n2", "/mnt/1234", "1Gi", corev1.PersistentVolumeReclaimDelete}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("volume (-want +got):\n%s", diff)
	}
}
