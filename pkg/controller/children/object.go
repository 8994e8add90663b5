// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// byUID makes a deletion fail unless it meets the object that was seen.
func byUID(seen metav1.Object) metav1.DeleteOptions {
	uid := seen.GetUID()
	return metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
}

// gone tells whether a deletion by UID has reached its aim: the object is deleted, or another one has its name, which is
// what the API server answers with a conflict.
func gone(err error) bool {
	return err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err)
}

// within tells whether all has every entry of some.
func within(some, all map[string]string) bool {
	for key, value := range some {
		if got, ok := all[key]; !ok || got != value {
			return false
		}
	}
	return true
}

func merged(base, over map[string]string) map[string]string {
	result := make(map[string]string, len(base)+len(over))
	maps.Copy(result, base)
	maps.Copy(result, over)
	return result
}
