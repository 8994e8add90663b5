// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/moco-mysql/moco/test/e2e/world"
)

// installTimeout bounds the installation of the product.
const installTimeout = 5 * time.Minute

// opened installs the product once.
var opened = sync.OnceValues(func() (*world.World, error) {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	w, err := world.Open(ctx)
	if err != nil {
		return nil, err
	}
	return w, w.Install(ctx)
})

// open returns the cluster to measure on.
func open(t *testing.T) *world.World {
	t.Helper()
	w, err := opened()
	if err != nil {
		t.Fatal(err)
	}
	return w
}
