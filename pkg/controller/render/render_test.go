// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func newCluster(change func(*v1beta1.MySQLCluster)) *v1beta1.MySQLCluster {
	cluster := &v1beta1.MySQLCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "shop", UID: "11111111-2222-3333-4444-555555555555"},
		Spec: v1beta1.MySQLClusterSpec{
			Topology: v1beta1.Replication,
			Replicas: 3,
			Image:    "mysql:9.7.4",
			Storage:  v1beta1.Storage{Size: resource.MustParse("10Gi"), Retain: v1beta1.RetainKeep},
		},
	}
	if change != nil {
		change(cluster)
	}
	return cluster
}

func withOverlay(yamlText string) func(*v1beta1.MySQLCluster) {
	return func(cluster *v1beta1.MySQLCluster) {
		text, err := yaml.YAMLToJSON([]byte(yamlText))
		if err != nil {
			panic(err)
		}
		cluster.Spec.PodTemplate = &runtime.RawExtension{Raw: text}
	}
}

func newInput() PodInput {
	return PodInput{Ordinal: 1, AgentImage: "agent:1", ExporterImage: "exporter:1", Epoch: 7}
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

// zeros is a source of randomness that is not.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func newPod(name string, ips ...string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: types.UID("uid-" + name)},
		Spec:       corev1.PodSpec{NodeName: "node-" + name},
	}
	for _, ip := range ips {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		pod.Status.PodIP = ips[0]
	}
	return pod
}

// golden compares with a file of testdata; MOCO_UPDATE_GOLDEN=1 writes it instead.
func golden(t *testing.T, name string, objects ...any) {
	t.Helper()
	var documents []string
	for _, object := range objects {
		document := must[[]byte](t)(yaml.Marshal(object))
		documents = append(documents, string(document))
	}
	got := strings.Join(documents, "---\n")
	path := filepath.Join("testdata", name+".yaml")
	if os.Getenv("MOCO_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := must[[]byte](t)(os.ReadFile(path))
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

func TestObjectsOfACluster(t *testing.T) {
	cluster := newCluster(func(c *v1beta1.MySQLCluster) {
		c.Spec.PrimaryService = &v1beta1.ServiceTemplate{
			Type:        corev1.ServiceTypeLoadBalancer,
			Annotations: map[string]string{"example.com/pool": "internal"},
			Labels:      map[string]string{"team": "shop", v1beta1.LabelCluster: "other"},
		}
		c.Spec.Bootstrap = &v1beta1.Bootstrap{Database: "orders", User: "shop"}
	})
	before := cluster.DeepCopy()
	golden(t, "pod", must[*corev1.Pod](t)(Pod(cluster, newInput())))
	golden(t, "claim", Claim(cluster, 1))
	golden(t, "services",
		must[*corev1.Service](t)(PrimaryService(cluster)),
		must[*corev1.Service](t)(ReplicaService(cluster)),
		must[*corev1.Service](t)(HeadlessService(cluster)))
	golden(t, "rest",
		must2(t)(Budget(cluster, 3)),
		must[*corev1.ConfigMap](t)(ConfigMap(cluster, "[mysqld]\n", map[string]string{"max_connections": "500"})),
		must[*corev1.Secret](t)(AccountSecret(cluster, AccountMonitoring, nil, zeros{})),
		must[*corev1.Secret](t)(ApplicationSecret(cluster, nil, zeros{})),
		must[*corev1.Secret](t)(CASecret(cluster, []byte("bundle"), []byte("key"))),
		must[*corev1.Secret](t)(TLSSecret(cluster, TLSFiles{CA: []byte("a"), Certificate: []byte("b"), Key: []byte("c"), ControllerCA: []byte("d")})))
	golden(t, "slices", must2(t)(EndpointSlices(cluster, SliceInput{
		Service: PrimaryServiceName(cluster), Epoch: 7,
		Families: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		Pods:     []*corev1.Pod{newPod("db-mysql-0", "10.0.0.9", "fd00::9")},
	})))
	if diff := cmp.Diff(before, cluster); diff != "" {
		t.Errorf("rendering changed its input (-before +after):\n%s", diff)
	}
}

func must2(t *testing.T) func(any, error) any {
	t.Helper()
	return must[any](t)
}

func TestRetainDecidesTheOwner(t *testing.T) {
	cases := map[string]struct {
		retain v1beta1.RetainPolicy
		owners int
	}{
		"kept volumes and Secrets have no owner":         {retain: v1beta1.RetainKeep, owners: 0},
		"without a word they are kept":                   {retain: "", owners: 0},
		"those to be deleted are owned by their cluster": {retain: v1beta1.RetainDelete, owners: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster(func(c *v1beta1.MySQLCluster) {
				c.Spec.Storage.Retain = tc.retain
				c.Spec.Bootstrap = &v1beta1.Bootstrap{Database: "orders", User: "shop"}
			})
			for _, meta := range []metav1.Object{
				Claim(cluster, 0),
				must[*corev1.Secret](t)(AccountSecret(cluster, AccountRoot, nil, zeros{})),
				must[*corev1.Secret](t)(ApplicationSecret(cluster, nil, zeros{})),
				must[*corev1.Secret](t)(CASecret(cluster, nil, nil)),
			} {
				if got := len(meta.GetOwnerReferences()); got != tc.owners {
					t.Errorf("%s has %d owners, want %d", meta.GetName(), got, tc.owners)
				}
				if got := meta.GetAnnotations()[v1beta1.AnnotationClusterUID]; got != string(cluster.UID) {
					t.Errorf("%s was made for %q", meta.GetName(), got)
				}
			}
		})
	}
}

func TestTheStopBudgetIsKnownToKubeletAndToTheAgent(t *testing.T) {
	for budget, want := range map[int32]int64{0: 120, 30: 30, 3600: 3600} {
		pod := must[*corev1.Pod](t)(Pod(newCluster(func(c *v1beta1.MySQLCluster) { c.Spec.StopBudgetSeconds = budget }), newInput()))
		if got := *pod.Spec.TerminationGracePeriodSeconds; got != want {
			t.Errorf("budget %d: kubelet is told %d s", budget, got)
		}
		args := pod.Spec.Containers[1].Args
		if diff := cmp.Diff([]string{"serve", fmt.Sprintf("--stop-budget=%ds", want)}, args); diff != "" {
			t.Errorf("budget %d (-want +got):\n%s", budget, diff)
		}
	}
}

func TestBudgetNeedsTwoVoters(t *testing.T) {
	for voters, want := range map[int]int{0: -1, 1: -1, 2: 1, 3: 2, 5: 4} {
		got := -1
		if budget, err := Budget(newCluster(nil), voters); err != nil {
			t.Fatal(err)
		} else if budget != nil {
			got = budget.Spec.MinAvailable.IntValue()
		}
		if got != want {
			t.Errorf("with %d voters %d must stay, want %d", voters, got, want)
		}
	}
}

func TestResourcesAreDefaultedOneByOne(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	const gi = int64(1) << 30
	cases := map[string]struct {
		spec, want corev1.ResourceRequirements
		memory     int64
	}{
		"nothing is given": {
			want:   corev1.ResourceRequirements{Requests: list("500m", "1Gi"), Limits: list("", "1Gi")},
			memory: gi,
		},
		"a limit of memory alone stays alone, its request is the API server's default": {
			spec:   corev1.ResourceRequirements{Limits: list("", "4Gi")},
			want:   corev1.ResourceRequirements{Requests: list("500m", ""), Limits: list("", "4Gi")},
			memory: 4 * gi,
		},
		"a request of memory alone makes no limit": {
			spec:   corev1.ResourceRequirements{Requests: list("2", "3Gi")},
			want:   corev1.ResourceRequirements{Requests: list("2", "3Gi")},
			memory: 3 * gi,
		},
		"the limit counts when both are given": {
			spec:   corev1.ResourceRequirements{Requests: list("2", "3Gi"), Limits: list("", "5Gi")},
			want:   corev1.ResourceRequirements{Requests: list("2", "3Gi"), Limits: list("", "5Gi")},
			memory: 5 * gi,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster(func(c *v1beta1.MySQLCluster) { c.Spec.Resources = tc.spec })
			if diff := cmp.Diff(tc.want, Resources(cluster)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := MemoryBytes(cluster); got != tc.memory {
				t.Errorf("memory is %d, want %d", got, tc.memory)
			}
		})
	}
}
