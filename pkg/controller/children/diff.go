// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/controller/render"
)

// wantedFields is the tree of what desired says, without the status and without empty fields.
func wantedFields(desired runtime.Object) (map[string]any, error) {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(desired)
	if err != nil {
		return nil, fmt.Errorf("converting to a tree: %w", err)
	}
	delete(tree, "status")
	return tree, nil
}

// inSync tells whether live carries the hash of desired and holds every field of it. What others added is theirs.
func inSync(desired, live runtime.Object, desiredMeta, liveMeta metav1.Object) (bool, error) {
	if desiredMeta.GetAnnotations()[render.AnnotationAppliedHash] != liveMeta.GetAnnotations()[render.AnnotationAppliedHash] {
		return false, nil
	}
	wanted, err := wantedFields(desired)
	if err != nil {
		return false, err
	}
	delete(wanted, "apiVersion") // listers return objects without these two
	delete(wanted, "kind")
	found, err := runtime.DefaultUnstructuredConverter.ToUnstructured(live)
	if err != nil {
		return false, fmt.Errorf("converting to a tree: %w", err)
	}
	return holds(found, wanted), nil
}

// holds tells whether found has everything that wanted has. The order of lists and what else they contain is left to
// others: the API server sorts and defaults, and server-side apply would not remove it either.
func holds(found, wanted any) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		fields, ok := found.(map[string]any)
		if !ok {
			return len(wanted) == 0
		}
		for key, value := range wanted {
			if !holds(fields[key], value) {
				return false
			}
		}
		return true
	case []any:
		list, _ := found.([]any)
		for _, item := range wanted {
			if !anyHolds(list, item) {
				return false
			}
		}
		return true
	default:
		return reflect.DeepEqual(found, wanted)
	}
}

func anyHolds(list []any, wanted any) bool {
	for _, item := range list {
		if holds(item, wanted) {
			return true
		}
	}
	return false
}

// applyBody is desired as a server-side apply that fails unless the live object has this UID.
func applyBody(desired runtime.Object, uid types.UID) ([]byte, error) {
	tree, err := wantedFields(desired)
	if err != nil {
		return nil, err
	}
	metadata, _ := tree["metadata"].(map[string]any)
	metadata["uid"] = string(uid)
	body, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("encoding the object to apply: %w", err)
	}
	return body, nil
}

// mergePatch is a JSON merge patch that fails with a conflict unless the live object is the one that was seen, unchanged.
// A nil value removes its field.
func mergePatch(seen metav1.Object, metadata, rest map[string]any) ([]byte, error) {
	guarded := map[string]any{"uid": string(seen.GetUID()), "resourceVersion": seen.GetResourceVersion()}
	maps.Copy(guarded, metadata)
	patch := map[string]any{"metadata": guarded}
	maps.Copy(patch, rest)
	body, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encoding the patch: %w", err)
	}
	return body, nil
}
