// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// delete deletes one backup: its manifest first, so that it does not exist any more, whatever happens then. It is no error
// when there is nothing.
func (j *job) delete(ctx context.Context) error {
	j.stage(ctx, "deleting the backup")
	if !manifest.ValidCluster(j.in.Cluster) || !manifest.ValidID(j.in.Backup) {
		return fail(wire.ReasonRefused, errors.New("it is not said which backup is to be deleted"))
	}
	if err := j.bucket.Delete(ctx, manifest.Key(j.in.Cluster, j.in.Backup)); err != nil {
		return fmt.Errorf("deleting the manifest: %w", err)
	}
	return j.removeBelow(ctx, manifest.BackupFolder(j.in.Cluster, j.in.Backup), func(store.Object) bool { return true })
}
