// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

// Retired is the error for a volume that was replaced by another: no Pod may be made with it.
type Retired struct {
	// Name of the PersistentVolumeClaim, in the namespace of the cluster.
	Name string
}

// Error implements error.
func (r *Retired) Error() string {
	return fmt.Sprintf("%s %s was retired; it is not used again", kindClaim, r.Name)
}

// Retirement is what is noted on a volume that is replaced.
type Retirement struct {
	// At is when, Because why, in words.
	At      time.Time
	Because string
	// For is the value of v1beta1.AnnotationReplace that asked for it, "" when nobody did.
	For string
}

// RetireClaim marks the volume that was observed, and no other of its name, as one that is not used again. It stays, with
// what is on it, whatever becomes of the cluster: from now on it has no owner. The error is a conflict when it was changed
// since it was observed.
func (c *Control) RetireClaim(ctx context.Context, cluster *v1beta1.MySQLCluster, observed *corev1.PersistentVolumeClaim, r Retirement) (*corev1.PersistentVolumeClaim, error) {
	if err := outlives(cluster, kindClaim, observed); err != nil && !isTerminating(err) {
		return nil, err
	}
	annotations := map[string]string{
		v1beta1.AnnotationRetiredAt: r.At.UTC().Format(time.RFC3339), v1beta1.AnnotationRetiredBecause: r.Because,
	}
	if r.For != "" {
		annotations[v1beta1.AnnotationRetiredFor] = r.For
	}
	patch, err := mergePatch(observed, map[string]any{
		"labels": map[string]string{v1beta1.LabelRetired: "true"}, "annotations": annotations,
		"ownerReferences": owners(&corev1.PersistentVolumeClaim{}, observed),
	}, nil)
	if err != nil {
		return nil, err
	}
	client := c.Client.CoreV1().PersistentVolumeClaims(cluster.Namespace)
	retired, err := client.Patch(ctx, observed.Name, types.MergePatchType, patch, patchOptions())
	if err != nil {
		return nil, fmt.Errorf("retiring %s %s: %w", kindClaim, observed.Name, err)
	}
	logWritten(ctx, "Retired", kindClaim, observed)
	return retired, nil
}

// CheckClaim reads a volume anew and tells whether a Pod may be made with it: nil, *Retired, *Terminating or *Foreign. A cache
// may not have seen yet that it was retired.
func (c *Control) CheckClaim(ctx context.Context, cluster *v1beta1.MySQLCluster, name string) error {
	live, err := c.Client.CoreV1().PersistentVolumeClaims(cluster.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading %s %s: %w", kindClaim, name, err)
	}
	if render.IsRetired(live) {
		return &Retired{Name: name}
	}
	return outlives(cluster, kindClaim, live)
}

// RemovePod removes the object of the Pod that was observed, and of no other of its name, at once: nobody is there to end
// its containers. The caller has made sure that whatever may still run can do no harm. It is no error when the Pod is gone.
func (c *Control) RemovePod(ctx context.Context, cluster *v1beta1.MySQLCluster, observed *corev1.Pod) error {
	if err := belongs(cluster, kindPod, observed); err != nil && !isTerminating(err) {
		return err
	}
	options := byUID(observed)
	now := int64(0)
	options.GracePeriodSeconds = &now
	if err := c.Client.CoreV1().Pods(cluster.Namespace).Delete(ctx, observed.Name, options); !gone(err) {
		return fmt.Errorf("removing %s %s: %w", kindPod, observed.Name, err)
	}
	logWritten(ctx, "Removed", kindPod, observed)
	return nil
}
