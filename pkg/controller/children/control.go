// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"crypto/rand"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// FieldManager owns the fields that are written here.
const FieldManager = "moco-controller"

// Control writes the objects of clusters. Make one with New.
type Control struct {
	// Client of the API server, with the rights of the controller.
	Client kubernetes.Interface
	// Random is where passwords come from.
	Random io.Reader
	// DryRun creates a Pod, given as JSON, in a namespace without keeping it.
	DryRun func(ctx context.Context, namespace string, pod []byte) error
}

// New makes a Control that writes through client.
func New(client kubernetes.Interface) *Control {
	return &Control{Client: client, Random: rand.Reader, DryRun: dryRunWith(client)}
}

func createOptions() metav1.CreateOptions { return metav1.CreateOptions{FieldManager: FieldManager} }

func updateOptions() metav1.UpdateOptions { return metav1.UpdateOptions{FieldManager: FieldManager} }

func patchOptions() metav1.PatchOptions { return metav1.PatchOptions{FieldManager: FieldManager} }
