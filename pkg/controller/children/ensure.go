// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// object is a pointer to a typed Kubernetes object.
type object[S any] interface {
	*S
	metav1.Object
	runtime.Object
}

// typedClient is the part that is used here of the typed client of a kind in a namespace.
type typedClient[T any] interface {
	Create(ctx context.Context, object T, opts metav1.CreateOptions) (T, error)
	Get(ctx context.Context, name string, opts metav1.GetOptions) (T, error)
	Patch(ctx context.Context, name string, pt types.PatchType, data []byte, opts metav1.PatchOptions, subresources ...string) (T, error)
}

// writer ensures objects of one kind. Its fields do not change.
type writer[S any, T object[S]] struct {
	client  typedClient[T]
	cluster *v1beta1.MySQLCluster
	kind    string
	ours    ownership
	// differs, if not nil, finds drift that holds does not see, because it is something added.
	differs func(desired, live T) bool
}

// ensure makes the live object as desired. observed may be nil or out of date.
func (w *writer[S, T]) ensure(ctx context.Context, desired, observed T) (T, error) {
	if observed == nil {
		made, err := w.client.Create(ctx, desired, createOptions())
		if err == nil {
			logWritten(ctx, "Created", w.kind, desired)
			return made, nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("creating %s %s: %w", w.kind, desired.GetName(), err)
		}
	} else if w.ours(w.cluster, w.kind, observed) == nil {
		if same, err := w.same(desired, observed); err != nil || same {
			return observed, err
		}
	}
	return w.converge(ctx, desired)
}

// converge looks at the live object and applies desired over it if it is ours and differs.
func (w *writer[S, T]) converge(ctx context.Context, desired T) (T, error) {
	live, err := w.client.Get(ctx, desired.GetName(), metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", w.kind, desired.GetName(), err)
	}
	if err := w.ours(w.cluster, w.kind, live); err != nil {
		return nil, err
	}
	if same, err := w.same(desired, live); err != nil || same {
		return live, err
	}
	return w.apply(ctx, desired, live)
}

func (w *writer[S, T]) same(desired, live T) (bool, error) {
	if w.differs != nil && w.differs(desired, live) {
		return false, nil
	}
	same, err := inSync(desired, live, desired, live)
	if err != nil {
		return false, fmt.Errorf("comparing %s %s: %w", w.kind, desired.GetName(), err)
	}
	return same, nil
}

func (w *writer[S, T]) apply(ctx context.Context, desired, live T) (T, error) {
	if err := w.takeFields(ctx, live); err != nil {
		return nil, err
	}
	body, err := applyBody(desired, live.GetUID())
	if err != nil {
		return nil, err
	}
	force := true // what we own is ours, whoever wrote it last
	options := patchOptions()
	options.Force = &force
	applied, err := w.client.Patch(ctx, desired.GetName(), types.ApplyPatchType, body, options)
	if err != nil {
		return nil, fmt.Errorf("applying %s %s: %w", w.kind, desired.GetName(), err)
	}
	logWritten(ctx, "Applied", w.kind, desired)
	return applied, nil
}

// takeFields turns what we own since the creation into what we apply. Without it an apply could not remove a field:
// the server would find that its creator still wants it.
func (w *writer[S, T]) takeFields(ctx context.Context, live T) error {
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(FieldManager), FieldManager)
	if err != nil {
		return fmt.Errorf("reading the managed fields of %s %s: %w", w.kind, live.GetName(), err)
	}
	if patch == nil {
		return nil
	}
	if _, err := w.client.Patch(ctx, live.GetName(), types.JSONPatchType, patch, patchOptions()); err != nil {
		return fmt.Errorf("taking the fields of %s %s: %w", w.kind, live.GetName(), err)
	}
	return nil
}

// logWritten reports a write; message is a constant of the caller.
func logWritten(ctx context.Context, message, kind string, object metav1.Object) {
	klog.FromContext(ctx).V(2).Info(message, "kind", kind, "object", klog.KObj(object))
}
