// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

func testPod(ordinal int32) *corev1.Pod {
	m := testMember(ordinal)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: m.Name, UID: types.UID("uid-" + m.Name)},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: testIP(ordinal)},
	}
}

// leading is a slice of the primary Service that leads to a Pod.
func leading(ordinal int32) []*discoveryv1.EndpointSlice {
	return []*discoveryv1.EndpointSlice{{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelServiceName: "db-mysql"}},
		Endpoints:  []discoveryv1.Endpoint{{TargetRef: &corev1.ObjectReference{UID: testPod(ordinal).UID}}},
	}}
}

func TestWhereThePrimaryServiceLeads(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first, second := testMember(0), testMember(1)
	record := func(phase v1beta1.RecordPhase, primary *topology.Member) *topology.Record {
		r := openedRecord(4, 0)
		r.Epoch, r.Phase, r.Primary = 5, phase, primary
		return r
	}
	silent := func(w *world) { w.seen.Instances[0].Agent = nil }
	cases := map[string]struct {
		record *topology.Record
		known  []*discoveryv1.EndpointSlice
		change func(*world)
		epoch  int64
		want   []string
	}{
		"before the first epoch nowhere":                   {},
		"to the open primary":                              {record: openedRecord(4, 0), epoch: 4, want: []string{"db-mysql-0"}},
		"a primary that is not heard keeps its place":      {record: openedRecord(4, 0), known: leading(0), change: silent, epoch: 4, want: []string{"db-mysql-0"}},
		"one that never had it does not get it unheard":    {record: openedRecord(4, 0), change: silent},
		"a volume that was replaced is not the primary":    {record: openedRecord(4, 0), known: leading(0), change: func(w *world) { w.seen.Instances[0].Agent.Incarnation = "other" }, epoch: 4},
		"a claim leaves it":                                {record: record(v1beta1.RecordClaimed, nil), known: leading(0)},
		"the choice of another leaves it":                  {record: record(v1beta1.RecordChosen, &second), known: leading(0)},
		"a change of the voters leaves it":                 {record: record(v1beta1.RecordChosen, &first), known: leading(0), epoch: 5, want: []string{"db-mysql-0"}},
		"a new primary that is not open yet is not led to": {record: openedRecord(5, 1), known: leading(0)},
		"a new primary that says it is open is": {record: openedRecord(5, 1), known: leading(0), change: func(w *world) {
			w.seen.Instances[1].Agent.Server.OfflineMode, w.seen.Instances[1].Agent.Server.SuperReadOnly = false, false
		}, epoch: 5, want: []string{"db-mysql-1"}},
		"one that has just carried out the command to open too": {
			record: openedRecord(5, 1), epoch: 5, want: []string{"db-mysql-1"},
			change: func(w *world) {
				w.memory.remarks.remark("db-mysql-1", topology.Action{Kind: topology.Open, Instance: "db-mysql-1", Record: openedRecord(5, 1)}, nil, now)
			},
		},
		"but not if that was for another epoch": {
			record: openedRecord(6, 1),
			change: func(w *world) {
				w.memory.remarks.remark("db-mysql-1", topology.Action{Kind: topology.Open, Instance: "db-mysql-1", Record: openedRecord(5, 1)}, nil, now)
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := &world{cluster: newCluster(3), memory: &memory{}, pods: map[int32]*corev1.Pod{}}
			w.seen = topology.Observed{Record: c.record, Instances: threeInstances()}
			for n := range int32(3) {
				w.pods[n] = testPod(n)
			}
			if c.change != nil {
				c.change(w)
			}
			epoch, pods := w.primaryRoute(c.known)
			var got []string
			for _, pod := range pods {
				got = append(got, pod.Name)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || epoch != c.epoch {
				t.Errorf("epoch %d, want %d (-want +got):\n%s", epoch, c.epoch, diff)
			}
		})
	}
}
