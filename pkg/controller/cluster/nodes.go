// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/tools/cache"
)

// TrimNode leaves of a Node what is looked at here; it is the transformation of the informer for Config.Nodes. There may be
// thousands, and a node reports its images, volumes and addresses all the time.
func TrimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion, Labels: node.Labels},
		Spec:       corev1.NodeSpec{Taints: node.Spec.Taints},
		Status:     corev1.NodeStatus{Conditions: slices.DeleteFunc(slices.Clone(node.Status.Conditions), isNotReadiness)},
	}, nil
}

func isNotReadiness(c corev1.NodeCondition) bool { return c.Type != corev1.NodeReady }

// watchNodes brings the clusters with Pods on a node back when it goes, or is tainted.
func (c *Controller) watchNodes(informer cache.SharedIndexInformer) error {
	enqueue := func(changed any) {
		if gone, ok := changed.(cache.DeletedFinalStateUnknown); ok {
			changed = gone.Obj
		}
		if node, ok := changed.(*corev1.Node); ok {
			c.enqueueNode(node.Name)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		DeleteFunc: enqueue,
		UpdateFunc: func(old, changed any) {
			before, okBefore := old.(*corev1.Node)
			after, okAfter := changed.(*corev1.Node)
			if okBefore && okAfter && !equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints) {
				enqueue(changed)
			}
		},
	})
	c.synced = append(c.synced, informer.HasSynced)
	return err
}

// enqueueNode queues the clusters that have a Pod on the node.
func (c *Controller) enqueueNode(name string) {
	pods, err := c.pods.List(labels.Everything())
	if err != nil {
		return // a cache does not fail
	}
	for _, pod := range pods {
		if key, ok := enqueueCluster(pod); ok && pod.Spec.NodeName == name {
			c.queue.Add(key)
		}
	}
}

// outOfService reports whether a person, or a program, vouches that nothing runs on the node any more.
func outOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// nodeGone says why a node will not come back, "" when it may. That it does not exist is asked of the API server itself: a
// cache that is behind does not know a new node.
func (c *Controller) nodeGone(ctx context.Context, name string) (why string, err error) {
	if c.nodes == nil || name == "" {
		return "", nil
	}
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		node, err = c.kubernetes.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("its node %s was deleted", name), nil
	case err != nil:
		return "", fmt.Errorf("reading node %s: %w", name, err)
	case outOfService(node):
		return fmt.Sprintf("its node %s has the taint %s", name, corev1.TaintNodeOutOfService), nil
	}
	return "", nil
}

// nodeAnswers reports whether the kubelet of a node is there to end a Pod.
func (c *Controller) nodeAnswers(name string) bool {
	if c.nodes == nil {
		return true
	}
	node, err := c.nodes.Get(name)
	return err == nil && !outOfService(node) && slices.ContainsFunc(node.Status.Conditions, func(condition corev1.NodeCondition) bool {
		return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
	})
}

// outOfReach says why the volume of a claim cannot be reached from any node that is left, "" when it can.
func (c *Controller) outOfReach(ctx context.Context, claim *corev1.PersistentVolumeClaim) (why string, err error) {
	if c.nodes == nil || claim == nil || claim.Spec.VolumeName == "" {
		return "", nil
	}
	volume, err := c.kubernetes.CoreV1().PersistentVolumes().Get(ctx, claim.Spec.VolumeName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Sprintf("the volume %s of %s does not exist any more", claim.Spec.VolumeName, claim.Name), nil
	case err != nil:
		return "", fmt.Errorf("reading the volume of %s: %w", claim.Name, err)
	case volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil:
		return "", nil
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return "", fmt.Errorf("listing the nodes: %w", err)
	}
	for _, node := range nodes {
		if !outOfService(node) && slices.ContainsFunc(volume.Spec.NodeAffinity.Required.NodeSelectorTerms, func(t corev1.NodeSelectorTerm) bool { return selects(t, node) }) {
			return "", nil
		}
	}
	return fmt.Sprintf("no node that is left reaches the volume %s of %s", volume.Name, claim.Name), nil
}

// operators of a node selector, as those of labels.
var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn: selection.In, corev1.NodeSelectorOpNotIn: selection.NotIn, corev1.NodeSelectorOpExists: selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist, corev1.NodeSelectorOpGt: selection.GreaterThan, corev1.NodeSelectorOpLt: selection.LessThan,
}

// selects reports whether a term selects a node. What cannot be understood selects every node: then nothing is given up.
func selects(term corev1.NodeSelectorTerm, node *corev1.Node) bool {
	return matches(term.MatchExpressions, node.Labels) && matches(term.MatchFields, map[string]string{metav1.ObjectNameField: node.Name})
}

func matches(demands []corev1.NodeSelectorRequirement, have map[string]string) bool {
	for _, demand := range demands {
		requirement, err := labels.NewRequirement(demand.Key, operators[demand.Operator], demand.Values)
		if err == nil && !requirement.Matches(labels.Set(have)) {
			return false
		}
	}
	return true
}
