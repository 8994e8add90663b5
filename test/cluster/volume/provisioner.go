// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Annotations of the agreement between the scheduler, the claim's controller and
// a provisioner (kubernetes/community, volume-provisioning.md).
const (
	selectedNode  = "volume.kubernetes.io/selected-node"
	provisionedBy = "pv.kubernetes.io/provisioned-by"
	hostname      = "kubernetes.io/hostname"
)

// Everything is looked at again after an event and at least every resync.
const resync = 5 * time.Second

// Provisioner makes, grows and deletes the volumes of one storage class.
type Provisioner struct {
	// Client talks to the API server.
	Client kubernetes.Interface
	// Name is the provisioner's name in the class, Class the class's.
	Name, Class string
	// Disks makes the volumes.
	Disks Disks

	claims  listers.PersistentVolumeClaimLister
	volumes listers.PersistentVolumeLister
}

// Run serves until ctx ends. A volume that fails is tried again and holds up no
// other.
func (p *Provisioner) Run(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	factory := informers.NewSharedInformerFactory(p.Client, 0)
	claims, volumes := factory.Core().V1().PersistentVolumeClaims(), factory.Core().V1().PersistentVolumes()
	p.claims, p.volumes = claims.Lister(), volumes.Lister()
	note := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { note() }, UpdateFunc: func(any, any) { note() }, DeleteFunc: func(any) { note() }}
	for _, i := range []cache.SharedIndexInformer{claims.Informer(), volumes.Informer()} {
		if _, err := i.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watching: %w", err)
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	tick := time.NewTicker(resync)
	defer tick.Stop()
	for {
		if err := p.sync(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Serving volumes failed, will retry")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

func (p *Provisioner) sync(ctx context.Context) error {
	claims, err := p.claims.List(labels.Everything())
	if err != nil {
		return err
	}
	volumes, err := p.volumes.List(labels.Everything())
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range claims {
		failed = append(failed, p.syncClaim(ctx, c))
	}
	for _, v := range volumes {
		failed = append(failed, p.syncVolume(ctx, v))
	}
	return errors.Join(failed...)
}

func (p *Provisioner) syncClaim(ctx context.Context, c *corev1.PersistentVolumeClaim) error {
	if c.Spec.StorageClassName == nil || *c.Spec.StorageClassName != p.Class || c.DeletionTimestamp != nil {
		return nil
	}
	node := c.Annotations[selectedNode]
	switch {
	case c.Spec.VolumeName != "":
		return p.grow(ctx, c)
	case node == "":
		return nil // no Pod that uses it is scheduled yet
	}
	return p.provision(ctx, c, node)
}

func (p *Provisioner) provision(ctx context.Context, c *corev1.PersistentVolumeClaim, node string) error {
	name := "pvc-" + string(c.UID)
	if _, err := p.volumes.Get(name); err == nil {
		return nil // made; the claim's controller binds it
	}
	size := c.Spec.Resources.Requests[corev1.ResourceStorage]
	point, err := p.Disks.Make(ctx, node, name, size.Value())
	if err != nil {
		return err
	}
	_, err = p.Client.CoreV1().PersistentVolumes().Create(ctx, p.newVolume(c, node, point), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating volume %s: %w", name, err)
	}
	klog.FromContext(ctx).Info("Made a volume", "claim", klog.KObj(c), "volume", name, "node", node, "size", size.String())
	return nil
}

func (p *Provisioner) newVolume(c *corev1.PersistentVolumeClaim, node, point string) *corev1.PersistentVolume {
	mode := corev1.PersistentVolumeFilesystem
	on := corev1.NodeSelectorRequirement{Key: hostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pvc-" + string(c.UID), Annotations: map[string]string{provisionedBy: p.Name}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: c.Spec.Resources.Requests[corev1.ResourceStorage]},
			AccessModes:                   c.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
			StorageClassName:              p.Class,
			VolumeMode:                    &mode,
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1",
				Namespace: c.Namespace, Name: c.Name, UID: c.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: point}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchExpressions: []corev1.NodeSelectorRequirement{on}}}}},
		},
	}
}

// grow grows a bound claim's volume to what the claim asks for: the image and
// its file system, then the volume's capacity, then the claim's, so that what is
// reported is always there.
func (p *Provisioner) grow(ctx context.Context, c *corev1.PersistentVolumeClaim) error {
	if c.Status.Phase != corev1.ClaimBound {
		return nil
	}
	want, has := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	v, err := p.volumes.Get(c.Spec.VolumeName)
	if want.Cmp(has) <= 0 || err != nil || v.Annotations[provisionedBy] != p.Name {
		return nil
	}
	if err := p.Disks.Grow(ctx, nodeOf(v), v.Name, want.Value()); err != nil {
		return err
	}
	v = v.DeepCopy()
	v.Spec.Capacity[corev1.ResourceStorage] = want
	if _, err := p.Client.CoreV1().PersistentVolumes().Update(ctx, v, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("growing volume %s: %w", v.Name, err)
	}
	c = c.DeepCopy()
	c.Status.Capacity[corev1.ResourceStorage] = want
	c.Status.Conditions = nil // Resizing is over
	if _, err := p.Client.CoreV1().PersistentVolumeClaims(c.Namespace).UpdateStatus(ctx, c, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("growing volume %s: %w", v.Name, err)
	}
	klog.FromContext(ctx).Info("Grew a volume", "claim", klog.KObj(c), "volume", v.Name, "size", want.String())
	return nil
}

// syncVolume deletes a volume whose claim is gone, if it is to be deleted, and
// mounts any other that is not mounted: after the machine was started anew.
func (p *Provisioner) syncVolume(ctx context.Context, v *corev1.PersistentVolume) error {
	if v.Annotations[provisionedBy] == p.Name && v.Status.Phase == corev1.VolumeBound && v.DeletionTimestamp == nil {
		_, err := p.Disks.Mount(ctx, nodeOf(v), v.Name)
		return err
	}
	deletable := v.Annotations[provisionedBy] == p.Name && v.Status.Phase == corev1.VolumeReleased &&
		v.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete
	if !deletable {
		return nil
	}
	node := nodeOf(v)
	if node == "" {
		return fmt.Errorf("deleting volume %s: it names no node", v.Name)
	}
	if err := p.Disks.Delete(ctx, node, v.Name); err != nil {
		return err
	}
	err := p.Client.CoreV1().PersistentVolumes().Delete(ctx, v.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &v.UID}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting volume %s: %w", v.Name, err)
	}
	klog.FromContext(ctx).Info("Deleted a volume", "volume", v.Name)
	return nil
}

func nodeOf(v *corev1.PersistentVolume) string {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, t := range v.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, e := range t.MatchExpressions {
			if e.Key == hostname && len(e.Values) == 1 {
				return e.Values[0]
			}
		}
	}
	return ""
}
