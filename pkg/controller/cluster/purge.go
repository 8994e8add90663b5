// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"time"

	"github.com/moco-mysql/moco/pkg/topology"
)

// purgeInterval is how often an instance is told to delete binary logs.
const purgeInterval = time.Minute

// purge tells the instances to delete the binary logs of which nobody needs anything. It is for a moment in which there is
// nothing else to tell them: a command would be refused that was decided on an older state.
func (c *Controller) purge(ctx context.Context, w *world) error {
	due := map[string][]topology.Action{}
	for _, action := range topology.Purges(desired(w), w.seen) {
		if c.now().Sub(w.memory.purgedAt[action.Instance]) >= purgeInterval {
			put(&w.memory.purgedAt, action.Instance, c.now())
			due[action.Instance] = []topology.Action{action}
		}
	}
	_, err := c.inParallel(ctx, w, due, patience)
	return err
}
