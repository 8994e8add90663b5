// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

// patchOp is one operation of a JSON Patch (RFC 6902).
type patchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// claimRecord replaces the record of a cluster if it still is what the decision was made on. It patches nothing but the
// record, so spec edits and other status writes never abort it. The error is a conflict when the record moved on.
func (c *Controller) claimRecord(ctx context.Context, cluster *v1beta1.MySQLCluster, seen, next *topology.Record) (*v1beta1.MySQLCluster, error) {
	ops := []patchOp{
		{"test", "/metadata/uid", cluster.UID},
		{"test", "/status/replication", seen},
		{"replace", "/status/replication", next},
	}
	if seen == nil {
		first, err := c.firstRecord(ctx, cluster, next)
		if err != nil {
			return nil, err
		}
		ops = first
	}
	body, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("encoding the record: %w", err)
	}
	written, err := c.moco.MocoV1beta1().MySQLClusters(cluster.Namespace).Patch(ctx, cluster.Name, types.JSONPatchType, body, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("writing epoch %d of the record: %w", next.Epoch, err)
	}
	return written, nil
}

// firstRecord makes the patch that creates a record. There is nothing to compare with, so it is tied to the version of
// an object that was read live and seen to have none.
func (c *Controller) firstRecord(ctx context.Context, cluster *v1beta1.MySQLCluster, next *topology.Record) ([]patchOp, error) {
	live, err := c.moco.MocoV1beta1().MySQLClusters(cluster.Namespace).Get(ctx, cluster.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the record: %w", err)
	}
	if live.UID != cluster.UID || live.Status.Replication != nil {
		return nil, apierrors.NewConflict(v1beta1.Resource("mysqlclusters"), cluster.Name, fmt.Errorf("the record exists already"))
	}
	status := live.Status.DeepCopy()
	status.Replication = next
	return []patchOp{
		{"test", "/metadata/uid", live.UID},
		{"test", "/metadata/resourceVersion", live.ResourceVersion},
		{"add", "/status", status},
	}, nil
}

// newerRecord returns the later of two copies of one cluster's record: a cache may lag behind our own write.
func newerRecord(a, b *topology.Record) *topology.Record {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case b.Epoch > a.Epoch, b.Epoch == a.Epoch && phaseRank(b.Phase) > phaseRank(a.Phase):
		return b
	default:
		return a
	}
}

func phaseRank(p v1beta1.RecordPhase) int {
	switch p {
	case v1beta1.RecordClaimed:
		return 0
	case v1beta1.RecordChosen:
		return 1
	case v1beta1.RecordOpened:
		return 2
	}
	return -1
}
