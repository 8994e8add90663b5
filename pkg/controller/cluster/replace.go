// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/children"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/topology"
)

// defaultReplaceMinutes stands in for spec.replaceAfterMinutes where it is not set, as its API default does.
const defaultReplaceMinutes = 30

// replacement is why and how an instance is replaced. How far that is can be read from the objects alone: the record says
// whether its data is counted on, the label of a volume whether that was retired, the Pod which volume it uses.
type replacement struct {
	why string
	// request is the value of the annotation that asked for it, "" when the controller does it by itself.
	request string
	// unbound: the Pod never ran on any node; nothing runs in it.
	unbound bool
}

// volumes are the claims of an instance.
type volumes struct {
	// current is what its Pod is made with; nil when there is none yet.
	current *corev1.PersistentVolumeClaim
	retired []*corev1.PersistentVolumeClaim
}

// sortVolumes tells the claims of an instance apart: the newest that was not retired is the current one.
func sortVolumes(cluster *v1beta1.MySQLCluster, claims []*corev1.PersistentVolumeClaim) map[int32]*volumes {
	sorted := map[int32]*volumes{}
	for _, claim := range claims {
		ordinal, ok := render.OrdinalOf(claim)
		if !ok || !render.IsClaimName(cluster, ordinal, claim.Name) {
			continue
		}
		if sorted[ordinal] == nil {
			sorted[ordinal] = &volumes{}
		}
		v := sorted[ordinal]
		switch {
		case render.IsRetired(claim):
			v.retired = append(v.retired, claim)
		case v.current == nil || newer(claim, v.current):
			v.current = claim
		}
	}
	for _, v := range sorted {
		slices.SortFunc(v.retired, func(a, b *corev1.PersistentVolumeClaim) int {
			return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
		})
	}
	return sorted
}

// newer reports whether a was made after b. Successors have longer names than the first, should both be of one second.
func newer(a, b *corev1.PersistentVolumeClaim) bool {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name)) > 0
}

// claimName is the name of the volume that the Pod of an ordinal is to have: the current one, else the successor of the last
// that was retired, else the first.
func (w *world) claimName(ordinal int32) string {
	if claim := w.claims[ordinal]; claim != nil {
		return claim.Name
	}
	retired := w.retired[ordinal]
	name := render.ClaimName(w.cluster, ordinal)
	for _, r := range slices.Backward(retired) {
		name = render.SuccessorClaimName(w.cluster, ordinal, r.UID)
		if !slices.ContainsFunc(retired, func(c *corev1.PersistentVolumeClaim) bool { return c.Name == name }) {
			break // several that were made within a second: this one is the end of their chain
		}
	}
	return name
}

// usesRetired reports whether the Pod of an ordinal was made with a volume that was retired.
func (w *world) usesRetired(ordinal int32) bool {
	pod := w.pods[ordinal]
	if pod == nil {
		return false
	}
	used := render.ClaimOf(w.cluster, ordinal, pod)
	return slices.ContainsFunc(w.retired[ordinal], func(c *corev1.PersistentVolumeClaim) bool { return c.Name == used })
}

// seekReplacements finds the instances that are to be replaced: those a person asked for, and those whose node is gone.
func (c *Controller) seekReplacements(ctx context.Context, w *world) error {
	w.replacing = map[int32]replacement{}
	c.judgeReplaceRequest(w)
	for ordinal, pod := range w.pods {
		if _, known := w.replacing[ordinal]; known || w.leads(pod.Name) {
			continue
		}
		if w.usesRetired(ordinal) {
			w.replacing[ordinal] = replacement{why: "its volume was retired"}
			continue
		}
		why, err := c.stranded(ctx, w, ordinal, pod)
		if err != nil {
			return fmt.Errorf("looking for the node of %s: %w", pod.Name, err)
		}
		if why != "" {
			w.replacing[ordinal] = replacement{why: why, unbound: pod.Spec.NodeName == ""}
		}
	}
	return nil
}

// leads reports whether the record names the instance as its primary.
func (w *world) leads(name string) bool {
	r := w.seen.Record
	return r != nil && (r.Primary != nil && r.Primary.Name == name || r.LastOpened != nil && r.LastOpened.Primary.Name == name && r.Phase != v1beta1.RecordOpened)
}

// stranded says why an instance cannot go on where it is, "" when it can or that is not to be looked at.
func (c *Controller) stranded(ctx context.Context, w *world, ordinal int32, pod *corev1.Pod) (why string, err error) {
	minutes := int32(defaultReplaceMinutes)
	if m := w.cluster.Spec.ReplaceAfterMinutes; m != nil {
		minutes = *m
	}
	if minutes == 0 {
		return "", nil
	}
	if pod.Spec.NodeName != "" {
		return c.nodeGone(ctx, pod.Spec.NodeName)
	}
	for _, condition := range pod.Status.Conditions {
		waits := condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse
		if waits && c.now().Sub(condition.LastTransitionTime.Time) >= time.Duration(minutes)*time.Minute {
			return c.outOfReach(ctx, w.claims[ordinal])
		}
	}
	return "", nil
}

// replaceList puts the replacements into the words of pkg/topology, by ordinal.
func (w *world) replaceList() []topology.Replacement {
	var list []topology.Replacement
	for ordinal := range w.ordinals() {
		if r, ok := w.replacing[ordinal]; ok {
			list = append(list, topology.Replacement{Instance: render.PodName(w.cluster, ordinal), Why: r.why})
		}
	}
	return list
}

// judgeReplaceRequest moves the request of a person on. What was done for it is noted on the volume that was retired, so a
// controller that was restarted does nothing twice.
func (c *Controller) judgeReplaceRequest(w *world) {
	value, last := w.cluster.Annotations[v1beta1.AnnotationReplace], w.requestFor(v1beta1.AnnotationReplace)
	runs := last != nil && last.State == v1beta1.RequestRunning
	if runs && last.Value != value {
		if _, retired := w.retiredFor(last.Value); retired == nil {
			c.noteReplacement(w, last.Value, v1beta1.RequestRefused, "the annotation was changed or removed before anything was done")
			return
		}
		value = last.Value
	}
	if value == "" || last != nil && last.Value == value && !runs {
		return
	}
	if ordinal, retired := w.retiredFor(value); retired != nil {
		c.followReplacement(w, value, ordinal, retired, runs)
		return
	}
	name, _, _ := strings.Cut(value, "=")
	refused, waitingFor := topology.CannotReplace(desired(w), w.seen, name)
	switch {
	case refused != "":
		c.noteReplacement(w, value, v1beta1.RequestRefused, refused)
		return
	case waitingFor != "" && !runs:
		return
	case !runs:
		c.noteReplacement(w, value, v1beta1.RequestRunning, name+" gets a new volume")
	}
	for ordinal := range w.ordinals() {
		if render.PodName(w.cluster, ordinal) == name {
			w.replacing[ordinal] = replacement{why: "a person asked for a new volume", request: value}
		}
	}
}

// followReplacement says how far a request is whose volume was retired.
func (c *Controller) followReplacement(w *world, value string, ordinal int32, retired *corev1.PersistentVolumeClaim, runs bool) {
	pod, claim := w.pods[ordinal], w.claims[ordinal]
	switch {
	case pod != nil && claim != nil && pod.DeletionTimestamp == nil && render.ClaimOf(w.cluster, ordinal, pod) == claim.Name:
		c.noteReplacement(w, value, v1beta1.RequestSucceeded, fmt.Sprintf("%s has the new volume %s; %s is retired and kept", pod.Name, claim.Name, retired.Name))
	case !runs:
		c.noteReplacement(w, value, v1beta1.RequestRunning, fmt.Sprintf("%s is retired; a new volume is being made", retired.Name))
	}
}

// retiredFor returns the volume that was retired for a request, and the ordinal of its instance; nil when there is none.
func (w *world) retiredFor(value string) (int32, *corev1.PersistentVolumeClaim) {
	for ordinal, retired := range w.retired {
		for _, claim := range retired {
			if claim.Annotations[v1beta1.AnnotationRetiredFor] == value {
				return ordinal, claim
			}
		}
	}
	return 0, nil
}

// noteReplacement remembers and announces the state of a request to replace an instance.
func (c *Controller) noteReplacement(w *world, value string, state v1beta1.RequestState, message string) {
	w.memory.replaceRequest = &v1beta1.RequestStatus{
		Annotation: v1beta1.AnnotationReplace, Value: value, State: state, Message: bounded(message), At: metav1.NewTime(c.now()).Rfc3339Copy(),
	}
	c.announceRequest(w, w.memory.replaceRequest)
}

// replaceInstance takes the next step in replacing an instance, if there is one. It reports whether its other objects have to
// wait: no Pod may be made before the cache has seen what was done.
func (c *Controller) replaceInstance(ctx context.Context, w *world, ordinal int32) (acted bool, err error) {
	pod := w.pods[ordinal]
	if w.usesRetired(ordinal) {
		return true, c.removeFromRetired(ctx, w, ordinal)
	}
	r, wanted := w.replacing[ordinal]
	if !wanted || pod == nil {
		return false, nil
	}
	free, err := c.removable(ctx, w, pod.Name, r)
	if err != nil || !free {
		return false, err
	}
	why := r.why
	if claim := w.claims[ordinal]; claim != nil {
		fresh := r.request != "" || r.unbound
		if !fresh {
			reach, err := c.outOfReach(ctx, claim)
			if err != nil {
				return false, err
			}
			why, fresh = why+"; "+reach, reach != ""
		}
		if fresh {
			retirement := children.Retirement{At: c.now(), Because: bounded(why), For: r.request}
			if _, err := c.children.RetireClaim(ctx, w.cluster, claim, retirement); err != nil {
				return false, err
			}
			c.events.Event(w.cluster, corev1.EventTypeNormal, "VolumeRetired", bounded(fmt.Sprintf("%s gets a new volume, %s is kept: %s", pod.Name, claim.Name, why)))
		}
	}
	return true, c.removeFormer(ctx, w, ordinal)
}

// removeFromRetired removes a Pod that was made with a volume that was retired. That a volume is retired does not tell that
// nothing counts on its data: a person can write the label, and what was free then may vote again. A Pod that never ran has
// nothing to count on.
func (c *Controller) removeFromRetired(ctx context.Context, w *world, ordinal int32) error {
	if pod := w.pods[ordinal]; pod.Spec.NodeName != "" {
		free, err := c.removable(ctx, w, pod.Name, replacement{})
		if err != nil || !free {
			return err
		}
	}
	return c.removeFormer(ctx, w, ordinal)
}

// removable asks the record as it is stored now whether nothing counts on the data of an instance any more.
func (c *Controller) removable(ctx context.Context, w *world, name string, r replacement) (bool, error) {
	live, err := c.moco.MocoV1beta1().MySQLClusters(w.cluster.Namespace).Get(ctx, w.cluster.Name, metav1.GetOptions{})
	if err != nil {
		return false, fmt.Errorf("reading the record: %w", err)
	}
	if live.UID != w.cluster.UID || live.DeletionTimestamp != nil {
		return false, nil
	}
	seen := w.seen
	seen.Record = live.Status.Replication
	free, _ := topology.Removable(seen, name)
	return free || r.unbound && topology.Lost(seen, name), nil
}

// removeFormer removes a Pod whose data nobody counts on any more, so that another can have its name. Where a kubelet is there
// it ends the containers first. Where none is, they may go on for as long as they like: they have no vote.
func (c *Controller) removeFormer(ctx context.Context, w *world, ordinal int32) error {
	pod := w.pods[ordinal]
	remove := c.children.DeletePod
	switch {
	case pod.Spec.NodeName == "" || !c.nodeAnswers(pod.Spec.NodeName):
		remove = c.children.RemovePod
	case pod.DeletionTimestamp != nil:
		return nil
	}
	if err := remove(ctx, w.cluster, pod); err != nil {
		return err
	}
	delete(w.pods, ordinal) // nothing else is written on it
	return nil
}
