// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

// Foreign is the error for an object that has the name of one of ours but is somebody else's. It is left alone. Trying
// again helps once the object is gone.
type Foreign struct {
	// Kind and Name of the object, in the namespace of the cluster.
	Kind, Name string
	// Reason says why it is not ours, and what to do.
	Reason string
}

// Error implements error.
func (f *Foreign) Error() string { return fmt.Sprintf("%s %s: %s", f.Kind, f.Name, f.Reason) }

// Terminating is the error for an object that is being deleted, so that it can neither be used nor made anew yet.
type Terminating struct {
	// Kind and Name of the object, in the namespace of the cluster.
	Kind, Name string
}

// Error implements error.
func (t *Terminating) Error() string {
	return fmt.Sprintf("%s %s is being deleted; it is made anew when it is gone", t.Kind, t.Name)
}

// StaleEpoch is the error for a write under an epoch below that of the object: another coordinator has gone ahead.
type StaleEpoch struct {
	// Kind and Name of the object, in the namespace of the cluster.
	Kind, Name string
	// Have is the epoch on the object, Want the lower one that was to be written.
	Have, Want int64
}

// Error implements error.
func (s *StaleEpoch) Error() string {
	return fmt.Sprintf("%s %s was written under epoch %d, after epoch %d", s.Kind, s.Name, s.Have, s.Want)
}

// ownership is a rule that tells ours from foreign: nil, *Foreign or *Terminating.
type ownership func(cluster *v1beta1.MySQLCluster, kind string, object metav1.Object) error

// belongs is the rule for what goes with the cluster.
func belongs(cluster *v1beta1.MySQLCluster, kind string, object metav1.Object) error {
	controller := metav1.GetControllerOf(object)
	switch {
	case controller == nil:
		return foreign(kind, object, "it was not made for this MySQLCluster; delete it or give the cluster another name")
	case controller.UID != cluster.UID:
		return foreign(kind, object, controlledBy(cluster, controller))
	case object.GetDeletionTimestamp() != nil:
		return &Terminating{Kind: kind, Name: object.GetName()}
	}
	return nil
}

// outlives is the rule for what is kept when the cluster is deleted, and adopted by the next one of the same name.
func outlives(cluster *v1beta1.MySQLCluster, kind string, object metav1.Object) error {
	controller := metav1.GetControllerOf(object)
	switch {
	case controller != nil && controller.UID != cluster.UID:
		return foreign(kind, object, controlledBy(cluster, controller))
	case object.GetAnnotations()[v1beta1.AnnotationClusterUID] == "":
		return foreign(kind, object, "it lacks the annotation "+v1beta1.AnnotationClusterUID+
			", so it was not made for a MySQLCluster; delete it or give the cluster another name")
	case object.GetDeletionTimestamp() != nil:
		return &Terminating{Kind: kind, Name: object.GetName()}
	}
	for key, want := range render.Labels(cluster) {
		if got := object.GetLabels()[key]; got != want {
			return foreign(kind, object, fmt.Sprintf(
				"its label %s is %q instead of %q, so it may hold the data of something else; correct the label or give the cluster another name",
				key, got, want))
		}
	}
	return nil
}

func controlledBy(cluster *v1beta1.MySQLCluster, controller *metav1.OwnerReference) string {
	if controller.Kind == render.ClusterKind.Kind && controller.Name == cluster.Name {
		return "it belongs to an earlier MySQLCluster of this name and goes with it"
	}
	return fmt.Sprintf("it is controlled by %s %s; give the cluster another name", controller.Kind, controller.Name)
}

func foreign(kind string, object metav1.Object, reason string) error {
	return &Foreign{Kind: kind, Name: object.GetName(), Reason: reason}
}
