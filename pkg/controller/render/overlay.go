// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// overlayRoot is the path of the overlay, for messages.
const overlayRoot = "spec.podTemplate"

// CheckOverlay returns Problems when spec.podTemplate is refused, else nil.
func CheckOverlay(cluster *v1beta1.MySQLCluster) error {
	if !hasOverlay(cluster) {
		return nil
	}
	_, err := decodeOverlay(cluster.Spec.PodTemplate.Raw)
	return err
}

func hasOverlay(cluster *v1beta1.MySQLCluster) bool {
	return cluster.Spec.PodTemplate != nil && len(cluster.Spec.PodTemplate.Raw) > 0
}

// overlaid lays the overlay over base, which it may change.
func overlaid(cluster *v1beta1.MySQLCluster, base *corev1.PodTemplateSpec) (*corev1.PodTemplateSpec, error) {
	if !hasOverlay(cluster) {
		return base, nil
	}
	overlay, err := decodeOverlay(cluster.Spec.PodTemplate.Raw)
	if err != nil {
		return nil, err
	}
	if overlay.Spec.Affinity != nil {
		base.Spec.Affinity = nil // the user's wins as a whole, because halves of two affinities contradict each other
	}
	merged, err := merge(base, cluster.Spec.PodTemplate.Raw)
	if err != nil {
		return nil, err
	}
	merged.Spec.Tolerations = withAbsentNode(merged.Spec.Tolerations)
	ownFirst(merged.Spec.Containers, base.Spec.Containers)
	return merged, nil
}

func merge(base *corev1.PodTemplateSpec, overlay []byte) (*corev1.PodTemplateSpec, error) {
	text, err := json.Marshal(base)
	if err != nil {
		return nil, fmt.Errorf("encoding the generated Pod: %w", err)
	}
	text, err = strategicpatch.StrategicMergePatch(text, overlay, corev1.PodTemplateSpec{})
	if err != nil {
		return nil, Problems{{
			Field: overlayRoot, Reason: "it cannot be merged with the generated Pod: " + err.Error(),
			Remedy: "give every list item its key, such as name or mountPath",
		}}
	}
	merged := &corev1.PodTemplateSpec{}
	if err := json.Unmarshal(text, merged); err != nil {
		return nil, fmt.Errorf("decoding the merged Pod: %w", err)
	}
	return merged, nil
}

// ownFirst puts the containers of the controller before those of the user, where the merge has left them behind.
func ownFirst(merged, base []corev1.Container) {
	rank := func(container corev1.Container) int {
		index := slices.IndexFunc(base, func(own corev1.Container) bool { return own.Name == container.Name })
		if index < 0 {
			return len(base)
		}
		return index
	}
	slices.SortStableFunc(merged, func(a, b corev1.Container) int { return cmp.Compare(rank(a), rank(b)) })
}

// decodeOverlay decodes strictly and refuses what the controller owns.
func decodeOverlay(raw []byte) (*corev1.PodTemplateSpec, error) {
	overlay := &corev1.PodTemplateSpec{}
	strict, err := kjson.UnmarshalStrict(raw, overlay)
	if err != nil {
		return nil, Problems{mistyped(err)}
	}
	tree := map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &tree); err != nil {
		return nil, fmt.Errorf("decoding the overlay: %w", err)
	}
	problems := unknownFields(strict)
	problems = append(problems, refuse(tree)...)
	if err := problems.asError(); err != nil {
		return nil, err
	}
	return overlay, nil
}

func mistyped(err error) Problem {
	problem := Problem{
		Field: overlayRoot, Reason: err.Error(), Remedy: "write the field as in the template of a Pod",
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		problem.Field += "." + wrongType.Field
		problem.Reason = fmt.Sprintf("a %s cannot be used as %s", wrongType.Value, wrongType.Type)
	}
	return problem
}

func unknownFields(strict []error) Problems {
	var problems Problems
	for _, err := range strict {
		problem := Problem{
			Field:  overlayRoot,
			Reason: err.Error(),
			Remedy: "correct the spelling or remove it; fields are those of a Pod's metadata and spec",
		}
		var field kjson.FieldError
		if errors.As(err, &field) {
			problem.Field += "." + field.FieldPath()
			problem.Reason = "there is no such field, or it is given twice"
		}
		problems = append(problems, problem)
	}
	return problems
}

// withAbsentNode adds the tolerations for absent nodes, where the user said nothing about that taint; a list of
// tolerations in an overlay replaces ours.
func withAbsentNode(tolerations []corev1.Toleration) []corev1.Toleration {
	for _, own := range absentNodeTolerations() {
		said := slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
			return t.Key == own.Key && (t.Effect == own.Effect || t.Effect == "") ||
				t.Key == "" && t.Operator == corev1.TolerationOpExists && (t.Effect == own.Effect || t.Effect == "")
		})
		if !said {
			tolerations = append(tolerations, own)
		}
	}
	return tolerations
}
