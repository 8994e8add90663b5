// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

func newSpec(operation wire.Operation) *Spec {
	owner := &v1beta1.MySQLBackup{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "first", UID: "backup-uid"}}
	cluster := &v1beta1.MySQLCluster{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", UID: "cluster-uid"}}
	cluster.Spec.Image, cluster.Spec.Storage.Size = "mysql:9.7.4", resource.MustParse("10Gi")
	cluster.Spec.Storage.StorageClassName = ptr.To("fast")
	cluster.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
	return &Spec{
		Owner: owner, OwnerKind: v1beta1.SchemeGroupVersion.WithKind("MySQLBackup"), Name: Name(owner.Name, "1"), Operation: operation, Number: 1,
		Cluster: cluster, AgentImage: "agent:1", Stores: []*v1beta1.Store{{Volume: &v1beta1.VolumeStore{ClaimName: "vault"}}},
	}
}

func TestABackupRunsInTheImageOfTheCluster(t *testing.T) {
	made := Render(newSpec(wire.OperationBackup))
	pod := made.Spec.Template.Spec
	if diff := cmp.Diff([]string{"mysql:9.7.4", "/moco/moco-backup run", "agent:1", "/moco-backup install /moco"}, []string{
		pod.Containers[0].Image, strings.Join(append(pod.Containers[0].Command, pod.Containers[0].Args...), " "),
		pod.InitContainers[0].Image, strings.Join(append(pod.InitContainers[0].Command, pod.InitContainers[0].Args...), " "),
	}); diff != "" {
		t.Errorf("images and commands (-want +got):\n%s", diff)
	}
	mounts := map[string]string{}
	for _, m := range pod.Containers[0].VolumeMounts {
		mounts[m.MountPath] = m.Name
	}
	if diff := cmp.Diff(map[string]string{"/job": "job", "/tmp": "tmp", "/moco": "moco", "/work": "work", "/store": "store"}, mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	work := volume(t, pod, "work").Ephemeral.VolumeClaimTemplate.Spec
	if size := work.Resources.Requests[corev1.ResourceStorage]; size.String() != "10Gi" || *work.StorageClassName != "fast" {
		t.Errorf("the work volume has %s of class %s", size.String(), *work.StorageClassName)
	}
	if volume(t, pod, "store").PersistentVolumeClaim.ClaimName != "vault" || len(pod.ImagePullSecrets) != 1 {
		t.Errorf("the store is %+v, the pull secrets are %v", volume(t, pod, "store"), pod.ImagePullSecrets)
	}
	if *made.Spec.BackoffLimit != 0 || made.Spec.ActiveDeadlineSeconds != nil || made.Spec.TTLSecondsAfterFinished != nil {
		t.Errorf("the Job does not stand for one attempt: %+v", made.Spec)
	}
}

func TestADeletionNeedsNeitherTheClusterNorAVolumeToWorkOn(t *testing.T) {
	spec := newSpec(wire.OperationDelete)
	spec.Cluster = nil
	pod := Render(spec).Spec.Template.Spec
	if pod.Containers[0].Image != "agent:1" || pod.Containers[0].Command[0] != "/moco-backup" || len(pod.InitContainers) != 0 || len(pod.Volumes) != 3 {
		t.Errorf("the Pod is %+v", pod)
	}
}

// A cluster finds its Pods by these labels: Services lead to them, budgets and scalers count them.
func TestThePodOfAJobIsNoInstance(t *testing.T) {
	spec := newSpec(wire.OperationVerify)
	template := Render(spec).Spec.Template
	if render.PodSelector(spec.Cluster).Matches(labelSet(template.Labels)) {
		t.Errorf("the cluster selects a Pod with labels %v", template.Labels)
	}
	if template.Labels[v1beta1.LabelBackup] == "" {
		t.Error("the informer does not select the Pod")
	}
}

func TestPodsOfJobsFollowTheRestrictedStandard(t *testing.T) {
	pod := Render(newSpec(wire.OperationBackup)).Spec.Template.Spec
	if *pod.AutomountServiceAccountToken || !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the Pod is %+v", pod.SecurityContext)
	}
	for _, c := range append(pod.InitContainers, pod.Containers...) {
		s := c.SecurityContext
		if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || len(s.Capabilities.Drop) != 1 || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("container %s has %+v", c.Name, s)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("container %s has resources %+v", c.Name, c.Resources)
		}
	}
}

func TestGivenResourcesAreNotMixedWithDefaults(t *testing.T) {
	got := resources(corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("8Gi")}})
	if !got.Limits.Memory().IsZero() || got.Requests.Cpu().String() != "250m" {
		t.Errorf("resources %+v", got)
	}
}

func TestNamesFitAndStayApart(t *testing.T) {
	long := strings.Repeat("a", 100)
	first, second := Name(long+"1", "12"), Name(long+"2", "12")
	if first == second {
		t.Errorf("both are %s", first)
	}
	for _, name := range []string{first, Name("b", "1"), Name(strings.Repeat("n", 61), "1"), Name(strings.Repeat("n", 51)+".cut-here-it-is-too-long", "1")} {
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
	}
	owner := newSpec(wire.OperationBackup)
	owner.Owner.SetName(long)
	if problems := validation.IsValidLabelValue(Render(owner).Labels[v1beta1.LabelBackup]); len(problems) > 0 {
		t.Errorf("the label is refused: %v", problems)
	}
	if name, ok := OwnerName(Render(owner), "MySQLBackup"); !ok || name != long {
		t.Errorf("the owner is read as %q", name)
	}
	if _, ok := OwnerName(Render(owner), "MySQLBackupSchedule"); ok {
		t.Error("the owner is taken for another kind")
	}
}

func volume(t *testing.T, pod corev1.PodSpec, name string) corev1.Volume {
	t.Helper()
	for _, v := range pod.Volumes {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("there is no volume %s", name)
	return corev1.Volume{}
}

// labelSet implements labels.Labels.
type labelSet map[string]string

func (l labelSet) Has(key string) bool              { _, ok := l[key]; return ok }
func (l labelSet) Get(key string) string            { return l[key] }
func (l labelSet) Lookup(key string) (string, bool) { v, ok := l[key]; return v, ok }
