// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestATermSelectsNodesAsTheSchedulerDoes(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a", "disks": "3"}}}
	one := func(key string, operator corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	field := func(name string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{name}}}}
	}
	cases := map[string]struct {
		term corev1.NodeSelectorTerm
		want bool
	}{
		"one of the values":                {one("zone", corev1.NodeSelectorOpIn, "b", "a"), true},
		"none of the values":               {one("zone", corev1.NodeSelectorOpIn, "b"), false},
		"not one of the values":            {one("zone", corev1.NodeSelectorOpNotIn, "b"), true},
		"a label it has":                   {one("zone", corev1.NodeSelectorOpExists), true},
		"a label it must not have":         {one("zone", corev1.NodeSelectorOpDoesNotExist), false},
		"a number above":                   {one("disks", corev1.NodeSelectorOpGt, "2"), true},
		"a number below":                   {one("disks", corev1.NodeSelectorOpLt, "2"), false},
		"its name":                         {field("n1"), true},
		"the name of another":              {field("n2"), false},
		"what cannot be understood":        {one("zone", "Near", "b"), true},
		"one demand of two that is not so": {corev1.NodeSelectorTerm{MatchExpressions: append(one("zone", corev1.NodeSelectorOpExists).MatchExpressions, one("x", corev1.NodeSelectorOpExists).MatchExpressions...)}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := selects(c.term, node); got != c.want {
				t.Errorf("%t", got)
			}
		})
	}
}

func TestOfANodeOnlyIsKeptWhatIsLookedAt(t *testing.T) {
	ready := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue}
	full := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a"}, Annotations: map[string]string{"long": "text"}},
		Spec:       corev1.NodeSpec{PodCIDR: "10.1.0.0/24", Taints: []corev1.Taint{{Key: "k"}}},
		Status: corev1.NodeStatus{
			Images: []corev1.ContainerImage{{SizeBytes: 1}}, Conditions: []corev1.NodeCondition{{Type: corev1.NodeDiskPressure}, ready},
		},
	}
	want := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"zone": "a"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "k"}}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{ready}},
	}
	got, err := TrimNode(full)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
