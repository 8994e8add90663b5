// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	idleClusters = 20
	// idleWindows of one minute are measured.
	idleWindows = 5
	idleWithin  = 12 * time.Minute
	maxMetrics  = 64 << 20
)

// TestIdle measures what twenty clusters cost that do nothing: two of three instances and eighteen of one.
func TestIdle(t *testing.T) {
	w := open(t)
	namespace := w.Namespace(t, "bench-idle")
	for n := range idleClusters {
		cluster := world.Cluster(namespace, fmt.Sprintf("idle-%d", n), 1)
		cluster.Spec.Resources.Limits["memory"] = resource.MustParse("576Mi")
		if n < 2 {
			cluster.Spec.Replicas = 3
		} else {
			cluster.Spec.Topology = v1beta1.Standalone
		}
		w.Create(t, cluster)
	}
	w.Eventually(t, namespace, "twenty healthy clusters", idleWithin, func(ctx context.Context) error {
		list, err := w.Moco.MocoV1beta1().MySQLClusters(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("listing clusters: %w", err)
		}
		for _, cluster := range list.Items {
			if !apimeta.IsStatusConditionTrue(cluster.Status.Conditions, v1beta1.ConditionHealthy) {
				return fmt.Errorf("%s is not healthy", cluster.Name)
			}
		}
		return nil
	})
	writes := &Distribution{Name: "API writes per idle cluster", Unit: "1/min", Aim: 1, Direction: AtMost}
	reads := &Distribution{Name: "API reads of what the controller reads, all clusters", Unit: "1/min"}
	memory := &Distribution{Name: "memory of the leading controller, 20 clusters", Unit: "MiB"}
	before := requests(t, w)
	for range idleWindows {
		wait(t, time.Minute)
		after := requests(t, w)
		writes.Add(float64(after.writes-before.writes) / idleClusters)
		reads.Add(float64(after.reads - before.reads))
		memory.Add(resident(t, w))
		before = after
	}
	t.Log(writes)
	t.Log(reads)
	t.Log(memory)
}

// wait lets a window of the measurement pass.
func wait(t *testing.T, window time.Duration) {
	t.Helper()
	timer := time.NewTimer(window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// counted are API requests since the API server started.
type counted struct{ writes, reads int }

// ours are the resources that nobody but the controller writes while nothing happens. Pods' and nodes' status is kubelet's,
// leases are everybody's.
var ours = regexp.MustCompile(`resource="(mysqlclusters|pods|persistentvolumeclaims|services|secrets|configmaps|endpointslices|endpoints|poddisruptionbudgets|events)"`)

var (
	verb        = regexp.MustCompile(`verb="([A-Z]+)"`)
	kubeletsOwn = regexp.MustCompile(`resource="pods",scope="[a-z]*",subresource="(status|eviction|binding)"`)
)

// requests reads the counters of the API server. Other controllers' requests of the same resources are counted, too, so
// the true number is at most this.
func requests(t *testing.T, w *world.World) counted {
	t.Helper()
	text, err := w.Kubernetes.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var found counted
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !ours.MatchString(line) || kubeletsOwn.MatchString(line) {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]), 64)
		if err != nil {
			t.Fatalf("reading %q: %v", line, err)
		}
		switch v := verb.FindStringSubmatch(line); {
		case v == nil:
		case v[1] == "GET" || v[1] == "LIST":
			found.reads += int(n)
		case v[1] != "WATCH" && v[1] != "CONNECT":
			found.writes += int(n)
		}
	}
	return found
}

// resident reads the memory of the controller that leads, in MiB.
func resident(t *testing.T, w *world.World) float64 {
	t.Helper()
	lease, err := w.Kubernetes.CoordinationV1().Leases(world.SystemNamespace).Get(t.Context(), "moco-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod, err := w.Pod(t.Context(), world.SystemNamespace, *lease.Spec.HolderIdentity)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+pod.Status.PodIP+":8080/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxMetrics))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "process_resident_memory_bytes "); ok {
			bytes, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return bytes / (1 << 20)
		}
	}
	t.Fatal("the controller does not tell its memory")
	return 0
}
