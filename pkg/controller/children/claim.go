// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

const kindClaim = "PersistentVolumeClaim"

// EnsureClaim makes the volume claim if there is none, and adopts one that an earlier cluster of the same name left
// behind: its annotation, labels and owner become those of desired. It does not touch the size: see GrowClaim.
func (c *Control) EnsureClaim(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, observed *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	client := c.Client.CoreV1().PersistentVolumeClaims(cluster.Namespace)
	if observed != nil && outlives(cluster, kindClaim, observed) == nil && sameClaim(desired, observed) {
		return observed, nil
	}
	if observed == nil {
		made, err := client.Create(ctx, desired, createOptions())
		if err == nil {
			logWritten(ctx, "Created", kindClaim, desired)
			return made, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("creating %s %s: %w", kindClaim, desired.Name, err)
		}
	}
	live, err := client.Get(ctx, desired.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kindClaim, desired.Name, err)
	}
	return c.adoptClaim(ctx, cluster, desired, live)
}

func (c *Control) adoptClaim(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, live *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	if err := outlives(cluster, kindClaim, live); err != nil {
		return nil, err
	}
	if render.IsRetired(live) {
		return nil, &Retired{Name: live.Name}
	}
	ordinal := desired.Labels[v1beta1.LabelOrdinal]
	if got := live.Labels[v1beta1.LabelOrdinal]; got != ordinal {
		return nil, foreign(kindClaim, live, fmt.Sprintf(
			"its label %s is %q instead of %q; correct the label or give the cluster another name", v1beta1.LabelOrdinal, got, ordinal))
	}
	if sameClaim(desired, live) {
		return live, nil
	}
	patch, err := mergePatch(live, map[string]any{
		"annotations": desired.Annotations, "labels": desired.Labels, "ownerReferences": owners(desired, live),
	}, nil)
	if err != nil {
		return nil, err
	}
	client := c.Client.CoreV1().PersistentVolumeClaims(cluster.Namespace)
	patched, err := client.Patch(ctx, live.Name, types.MergePatchType, patch, patchOptions())
	if err != nil {
		return nil, fmt.Errorf("adopting %s %s: %w", kindClaim, live.Name, err)
	}
	logWritten(ctx, "Adopted", kindClaim, desired)
	return patched, nil
}

func sameClaim(desired, live *corev1.PersistentVolumeClaim) bool {
	return within(desired.Labels, live.Labels) && within(desired.Annotations, live.Annotations) &&
		equality.Semantic.DeepEqual(owners(desired, live), live.OwnerReferences)
}

// owners are those of live that are not controllers, and the controller of desired, if it has one.
func owners(desired, live *corev1.PersistentVolumeClaim) []metav1.OwnerReference {
	others := slices.DeleteFunc(slices.Clone(live.OwnerReferences), func(owner metav1.OwnerReference) bool {
		return owner.Controller != nil && *owner.Controller
	})
	return slices.Concat(others, desired.OwnerReferences)
}

// GrowClaim asks for the size of desired if the claim asks for less and is bound; before that its size cannot be changed.
// It fails when the storage class does not allow expansion; nothing else needs to wait for it.
func (c *Control) GrowClaim(ctx context.Context, desired, claim *corev1.PersistentVolumeClaim) (*corev1.PersistentVolumeClaim, error) {
	want, have := desired.Spec.Resources.Requests.Storage(), claim.Spec.Resources.Requests.Storage()
	if want.Cmp(*have) <= 0 || claim.Status.Phase != corev1.ClaimBound {
		return claim, nil
	}
	patch, err := mergePatch(claim, nil, map[string]any{"spec": map[string]any{
		"resources": map[string]any{"requests": map[string]any{string(corev1.ResourceStorage): want.String()}},
	}})
	if err != nil {
		return nil, err
	}
	client := c.Client.CoreV1().PersistentVolumeClaims(claim.Namespace)
	grown, err := client.Patch(ctx, claim.Name, types.MergePatchType, patch, patchOptions())
	if err != nil {
		return nil, fmt.Errorf("growing %s %s to %s: %w", kindClaim, claim.Name, want, err)
	}
	logWritten(ctx, "Grew", kindClaim, claim)
	return grown, nil
}
