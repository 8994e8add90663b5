// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	batchlisters "k8s.io/client-go/listers/batch/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// fieldManager owns the fields that are written here.
const fieldManager = "moco-controller"

// Control makes, reads and deletes Jobs. Make one with New.
type Control struct {
	client kubernetes.Interface
	jobs   batchlisters.JobLister
	pods   corelisters.PodLister
	now    func() time.Time
}

// New makes a Control. Informers must be filtered by Selector.
func New(client kubernetes.Interface, filtered informers.SharedInformerFactory, now func() time.Time) *Control {
	return &Control{client: client, jobs: filtered.Batch().V1().Jobs().Lister(), pods: filtered.Core().V1().Pods().Lister(), now: now}
}

// Foreign is the error for an object of somebody else that has the name of a Job or of its Secret. It is left alone.
type Foreign struct{ Kind, Name string }

// Error implements error.
func (e *Foreign) Error() string {
	return fmt.Sprintf("%s %s exists and belongs to something else; delete it or give the backup another name", e.Kind, e.Name)
}

func createOptions() metav1.CreateOptions { return metav1.CreateOptions{FieldManager: fieldManager} }

// Of returns the Jobs of an owner that do the operation, by attempt, the newest last. Those that are being deleted are not
// among them.
func (c *Control) Of(owner metav1.Object, operation wire.Operation) ([]*batchv1.Job, error) {
	found, err := c.jobs.Jobs(owner.GetNamespace()).List(labels.SelectorFromSet(labels.Set{LabelOwnerUID: string(owner.GetUID()), LabelOperation: string(operation)}))
	if err != nil {
		return nil, fmt.Errorf("listing Jobs: %w", err)
	}
	found = slices.DeleteFunc(found, func(j *batchv1.Job) bool { return j.DeletionTimestamp != nil || !metav1.IsControlledBy(j, owner) })
	slices.SortFunc(found, func(a, b *batchv1.Job) int { return int(Number(a) - Number(b)) })
	return found, nil
}

// Pods returns the Pods of all Jobs of an owner that do the operation; also those of Jobs that are gone.
func (c *Control) Pods(owner metav1.Object, operation wire.Operation) ([]*corev1.Pod, error) {
	found, err := c.pods.Pods(owner.GetNamespace()).List(labels.SelectorFromSet(labels.Set{LabelOwnerUID: string(owner.GetUID()), LabelOperation: string(operation)}))
	if err != nil {
		return nil, fmt.Errorf("listing Pods: %w", err)
	}
	return found, nil
}

// Find looks for a Job past the cache; nil when there is none of that owner.
func (c *Control) Find(ctx context.Context, owner metav1.Object, name string) (*batchv1.Job, error) {
	found, err := c.client.BatchV1().Jobs(owner.GetNamespace()).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || (err == nil && (found.DeletionTimestamp != nil || !metav1.IsControlledBy(found, owner))) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading Job %s: %w", name, err)
	}
	return found, nil
}

// Look reads a Job and its Pod from the caches; what they lack at its end is read from the API server.
func (c *Control) Look(ctx context.Context, made *batchv1.Job) (Look, error) {
	pods, err := c.pods.Pods(made.Namespace).List(labels.SelectorFromSet(labels.Set{batchv1.ControllerUidLabel: string(made.UID)}))
	if err != nil {
		return Look{}, fmt.Errorf("listing the Pods of Job %s: %w", made.Name, err)
	}
	look := See(made, pods, c.now())
	if !finished(made) || (look.State == Ended && look.Confirmed) {
		return look, nil
	}
	live, err := c.client.CoreV1().Pods(made.Namespace).List(ctx, metav1.ListOptions{LabelSelector: batchv1.ControllerUidLabel + "=" + string(made.UID)})
	if err != nil {
		return Look{}, fmt.Errorf("reading the Pods of Job %s: %w", made.Name, err)
	}
	seen := make([]*corev1.Pod, 0, len(live.Items))
	for n := range live.Items {
		seen = append(seen, &live.Items[n])
	}
	look = See(made, seen, c.now())
	look.Confirmed = true
	return look, nil
}

// Ensure makes the Job and then its input, which may not be made before: the Job owns it. Input is called only when the
// Secret is missing. It is to be called again until the Job has started.
func (c *Control) Ensure(ctx context.Context, spec *Spec, input func() (*wire.JobInput, error)) (*batchv1.Job, error) {
	client := c.client.BatchV1().Jobs(spec.Owner.GetNamespace())
	in, err := input() // before anything is made: a Job without input would wait for it
	if err != nil {
		return nil, err
	}
	if err := c.vacant(ctx, spec); err != nil {
		return nil, err
	}
	made, err := client.Create(ctx, Render(spec), createOptions())
	switch {
	case apierrors.IsAlreadyExists(err):
		if made, err = c.Find(ctx, spec.Owner, spec.Name); err != nil {
			return nil, err
		}
		if made == nil {
			return nil, &Foreign{"Job", spec.Name}
		}
	case err != nil:
		return nil, fmt.Errorf("creating Job %s: %w", spec.Name, err)
	default:
		klog.FromContext(ctx).V(2).Info("Created", "kind", "Job", "object", klog.KObj(made))
	}
	return made, c.give(ctx, made, in)
}

// Closed reports whether no Job can be made any more, because the namespace is being deleted. Nothing is made.
func (c *Control) Closed(ctx context.Context, spec *Spec) (bool, error) {
	options := createOptions()
	options.DryRun = []string{metav1.DryRunAll}
	_, err := c.client.BatchV1().Jobs(spec.Owner.GetNamespace()).Create(ctx, Render(spec), options)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return true, nil
	case err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsForbidden(err) || apierrors.IsInvalid(err):
		return false, nil // whoever makes it hears of it
	}
	return false, fmt.Errorf("trying to create Job %s: %w", spec.Name, err)
}

// vacant looks whether the name of the input is free, or of a Job. The Pod would read whatever has that name.
func (c *Control) vacant(ctx context.Context, spec *Spec) error {
	found, err := c.client.CoreV1().Secrets(spec.Owner.GetNamespace()).Get(ctx, spec.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", spec.Name, err)
	}
	if owner := metav1.GetControllerOf(found); owner == nil || owner.Kind != "Job" || owner.Name != spec.Name {
		return &Foreign{"Secret", spec.Name}
	}
	return nil
}

// Feed makes the input of a Job that has not started and lacks it, as after a crash of the controller.
func (c *Control) Feed(ctx context.Context, made *batchv1.Job, input func() (*wire.JobInput, error)) error {
	found, err := c.client.CoreV1().Secrets(made.Namespace).Get(ctx, made.Name, metav1.GetOptions{})
	if err == nil {
		if !metav1.IsControlledBy(found, made) {
			return &Foreign{"Secret", made.Name}
		}
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("reading Secret %s: %w", made.Name, err)
	}
	in, err := input()
	if err != nil {
		return err
	}
	return c.give(ctx, made, in)
}

// give makes the Secret. One of an earlier Job of that name is being collected; it is waited for.
func (c *Control) give(ctx context.Context, made *batchv1.Job, input *wire.JobInput) error {
	secret, err := secretOf(made, input)
	if err != nil {
		return err
	}
	_, err = c.client.CoreV1().Secrets(made.Namespace).Create(ctx, secret, createOptions())
	if err == nil {
		klog.FromContext(ctx).V(2).Info("Created", "kind", "Secret", "object", klog.KObj(secret))
		return nil
	}
	if apierrors.IsAlreadyExists(err) {
		live, readErr := c.client.CoreV1().Secrets(made.Namespace).Get(ctx, made.Name, metav1.GetOptions{})
		if readErr == nil && metav1.IsControlledBy(live, made) {
			return nil
		}
	}
	return fmt.Errorf("creating Secret %s: %w", secret.Name, err)
}

// Delete deletes a Job; its Pod and its input go with it.
func (c *Control) Delete(ctx context.Context, made *batchv1.Job) error {
	err := c.client.BatchV1().Jobs(made.Namespace).Delete(ctx, made.Name, metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &made.UID},
		PropagationPolicy: new(metav1.DeletePropagationBackground),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) { // a conflict: another object has the name
		return fmt.Errorf("deleting Job %s: %w", made.Name, err)
	}
	klog.FromContext(ctx).V(2).Info("Deleted", "kind", "Job", "object", klog.KObj(made))
	return nil
}

// FinishedAt is when a Job was decided to be over; zero when it is not.
func FinishedAt(made *batchv1.Job) time.Time {
	if at := finishedAt(made); at != nil {
		return at.Time
	}
	return time.Time{}
}

// NewAttempt is a random id for the objects of an attempt.
func NewAttempt() string {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // it never fails
	return hex.EncodeToString(id)
}
