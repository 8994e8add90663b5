// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/stores"
	"github.com/moco-mysql/moco/pkg/topology"
)

const (
	// restoreField is where the source of a restore stands in a cluster.
	restoreField = "spec.bootstrap.fromBackup"
	// restoreRetry is how often the source is looked for while it is not complete.
	restoreRetry = 5 * time.Second
	// refusedRetry is how often a refused restore is tried again with the same source: what the store holds may change.
	refusedRetry = time.Minute
	// restoreOrdinal is the instance that is restored from a volume, which is mounted in no other Pod.
	restoreOrdinal = 0
)

// Reasons of the conditions of a restore.
const (
	reasonBackupMissing  = "BackupMissing"
	reasonBackupNotReady = "BackupNotReady"
	reasonSourceInvalid  = "RestoreSourceInvalid"
	reasonVolumesExist   = "VolumesExist"
	reasonRestoreRefused = "RestoreRefused"
)

// restoreSource is what spec.bootstrap.fromBackup, the MySQLBackup and the Secrets say.
type restoreSource struct {
	readAt time.Time
	// source is what an agent is handed; nil until everything was found once.
	source *wire.Source
	// claim is the PersistentVolumeClaim of a volume store, or "".
	claim string
	// problem says what is missing; nil once everything was found.
	problem *invalid
	// refusal is the last one by an agent.
	refusal refusal
}

// refusal is a restore that an agent refused.
type refusal struct {
	// message says why; "" when the last restore was not refused.
	message string
	// source is the digest of what was refused, begun when the agent began with it, and seen when that was seen first.
	source      string
	begun, seen time.Time
}

// fromBackup is the source that the first data directory is to come from, or nil.
func fromBackup(cluster *v1beta1.MySQLCluster) *v1beta1.RestoreSource {
	if cluster.Spec.Bootstrap == nil {
		return nil
	}
	return cluster.Spec.Bootstrap.FromBackup
}

// restores reports whether the first data directory has yet to come from a backup.
func (w *world) restores() bool {
	r := w.seen.Record
	return fromBackup(w.cluster) != nil && !w.seen.Initialized && (r == nil || r.LastOpened == nil)
}

// resolved reports whether everything a restore needs was found, or nothing is to be restored.
func (w *world) resolved() bool {
	return !w.restores() || (w.memory.restore != nil && w.memory.restore.source != nil)
}

// restoreClaim is the claim to mount in the Pod of the instance that is restored, or "".
func (w *world) restoreClaim(ordinal int32) string {
	if ordinal != restoreOrdinal || !w.restores() || w.memory.restore == nil {
		return ""
	}
	return w.memory.restore.claim
}

// mayBegin reports whether an instance may be the first: one that would have to read a volume it has not mounted may not.
func (w *world) mayBegin(ordinal int32) bool {
	return ordinal == restoreOrdinal || !w.restores() || w.memory.restore == nil || w.memory.restore.claim == ""
}

// loadRestore looks for everything a restore needs, unless that was done a moment ago. What was found once stays, so that a
// restore that runs does not depend on its objects; what is found anew replaces it.
func (c *Controller) loadRestore(ctx context.Context, w *world) error {
	known := w.memory.restore
	if !w.restores() {
		w.memory.restore = nil // it holds keys that nobody needs any more
		return nil
	}
	if known == nil {
		known = &restoreSource{}
		w.memory.restore = known
	}
	age := c.now().Sub(known.readAt)
	if age < restoreRetry || (known.source != nil && age < credentialsAge) {
		return nil
	}
	known.readAt = c.now()
	found, claim, err := c.findSource(ctx, w.cluster.Namespace, fromBackup(w.cluster))
	problem := asInvalid(err)
	switch {
	case err != nil && problem == nil:
		known.readAt = time.Time{}
		return fmt.Errorf("looking for the source of the restore: %w", err)
	case problem == nil:
		known.source, known.claim, known.problem = found, claim, nil
	case known.source == nil:
		known.problem = problem
	}
	return nil
}

// Error implements error, so that what is wrong with a spec can be handed upwards.
func (i *invalid) Error() string { return i.message }

// findSource makes the source of a restore. The error is an *invalid or a *stores.Problem when a user has to do something.
func (c *Controller) findSource(ctx context.Context, namespace string, from *v1beta1.RestoreSource) (source *wire.Source, claim string, err error) {
	stored, field, err := c.storedBackup(ctx, namespace, from)
	if err != nil {
		return nil, "", err
	}
	read := stores.NewReader(c.kubernetes)
	source = &wire.Source{
		Cluster: wire.ClusterKey{Namespace: stored.Namespace, Name: stored.ClusterName, UID: stored.ClusterUID},
		Backup:  stored.Backup, Target: stores.Target(from.At),
	}
	if source.Store, err = stores.Convert(ctx, read, namespace, field, &stored.Store); err != nil {
		return nil, "", err
	}
	if from.ArchiveStore != nil {
		archive, err := stores.Convert(ctx, read, namespace, restoreField+".archiveStore", from.ArchiveStore)
		if err != nil {
			return nil, "", err
		}
		if archive.Provider == wire.ProviderVolume {
			return nil, "", &invalid{reasonSourceInvalid, restoreField + ".archiveStore cannot be a volume, because archives are kept in object stores only; remove it or name the store of the archive"}
		}
		source.Archive = &archive
	}
	source.Identity, err = stores.Identity(ctx, read, namespace, restoreField+".identitySecretRef", from.IdentitySecretRef)
	if err != nil {
		return nil, "", err
	}
	return source, stores.ClaimName(&stored.Store), nil
}

// storedBackup says where the backup is, and in which field that stands. A MySQLBackup only tells the store and the cluster
// when a point in time is to be reached: an earlier backup may be the one that fits.
func (c *Controller) storedBackup(ctx context.Context, namespace string, from *v1beta1.RestoreSource) (stored *v1beta1.StoredBackup, field string, err error) {
	if from.Object != nil {
		return from.Object, restoreField + ".object.store", nil
	}
	name := restoreField + ".backupName"
	backup, err := c.moco.MocoV1beta1().MySQLBackups(namespace).Get(ctx, from.BackupName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, "", &invalid{reasonBackupMissing, fmt.Sprintf("%s: MySQLBackup %q does not exist in namespace %s; name another, or give %s.object to restore what is in a store. "+
			"To go on with kept volumes create the cluster without %s", name, from.BackupName, namespace, restoreField, restoreField)}
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading MySQLBackup %s: %w", from.BackupName, err)
	}
	status := backup.Status
	switch {
	case backup.DeletionTimestamp != nil:
		return nil, "", &invalid{reasonBackupMissing, fmt.Sprintf("%s: MySQLBackup %q is being deleted", name, backup.Name)}
	case status.Phase == v1beta1.BackupFailed:
		return nil, "", &invalid{reasonBackupNotReady, fmt.Sprintf("%s: MySQLBackup %q has failed: %s; name another", name, backup.Name, status.Message)}
	case status.Phase != v1beta1.BackupSucceeded || status.ID == "" || status.ClusterUID == "":
		return nil, "", &invalid{reasonBackupNotReady, fmt.Sprintf("%s: MySQLBackup %q has not succeeded yet; the restore begins when it has", name, backup.Name)}
	case backup.Spec.Encryption != nil && from.IdentitySecretRef == nil:
		return nil, "", &invalid{reasonSourceInvalid, fmt.Sprintf("%s: MySQLBackup %q is encrypted; name the Secret with the private key in %s.identitySecretRef", name, backup.Name, restoreField)}
	}
	stored = &v1beta1.StoredBackup{
		Store: backup.Spec.Store, Namespace: backup.Namespace, ClusterName: backup.Spec.ClusterName, ClusterUID: status.ClusterUID,
	}
	if from.At == nil {
		stored.Backup = status.ID
	}
	return stored, fmt.Sprintf("MySQLBackup %s: spec.store", backup.Name), nil
}

// asInvalid is what a user has to mend, or nil when an error is of another kind.
func asInvalid(err error) *invalid {
	if wrong := stores.AsProblem(err); wrong != nil {
		return &invalid{string(wrong.Reason), wrong.Message}
	}
	var problem *invalid
	if errors.As(err, &problem) {
		return problem
	}
	return nil
}

// judgeRestore says why a restore cannot go on: w.hold is then what to do instead of deciding.
func (c *Controller) judgeRestore(w *world) {
	w.hold, w.refused = nil, ""
	if !w.restores() {
		return
	}
	known := w.memory.restore
	if known == nil || known.source == nil {
		waitingFor := "what " + restoreField + " names"
		if known != nil && known.problem != nil {
			w.settings.reject(known.problem.reason, known.problem.message)
			waitingFor = known.problem.message
		}
		w.hold = held("the source of the restore is not complete", waitingFor)
		return
	}
	if foreign := w.foreignVolumes(known.source.Fingerprint()); len(foreign) > 0 {
		message := fmt.Sprintf("%s: the volumes of an earlier cluster %s exist (%s); a restore never overwrites data: delete the PersistentVolumeClaims or choose another name",
			restoreField, w.cluster.Name, strings.Join(foreign, ", "))
		w.settings.reject(reasonVolumesExist, message)
		w.hold = held("volumes of an earlier cluster exist, and a restore never overwrites data", "a person to delete them or to choose another name")
		return
	}
	tryAgain := known.noteRefusal(&w.seen, c.now())
	if w.refused = known.refusal.message; w.refused != "" && !tryAgain {
		w.hold = held("the restore was refused: "+w.refused, "a person to correct what it needs, or to create the cluster with another source")
	}
}

// held is a plan that does nothing.
func held(reason, waitingFor string) *topology.Plan {
	return &topology.Plan{Decision: topology.Decision{Rule: topology.RuleHold, Reason: reason, WaitingFor: waitingFor}, Requeue: restoreRetry}
}

// foreignVolumes names the claims that hold data of which none came from this restore. As long as a volume may hold data
// that nobody has read, it names none: Decide waits for those.
func (w *world) foreignVolumes(fingerprint string) []string {
	var foreign []string
	for n := range w.seen.Instances {
		i := &w.seen.Instances[n]
		switch {
		case i.HasVolume && (i.Agent == nil || i.Agent.Volume == api.VolumeWaiting):
			return nil
		case i.Agent == nil:
		case i.Agent.RestoredFrom == fingerprint:
			return nil
		case i.Agent.Volume == api.VolumeReady || i.Agent.Volume == api.VolumeUnreadable:
			foreign = append(foreign, w.claimName(i.Ordinal))
		}
	}
	return foreign
}

// noteRefusal looks for a refused restore, and reports whether it is to be tried again: its source has changed since, or some
// time has passed. What was refused stays refused until another restore gets further.
func (s *restoreSource) noteRefusal(seen *topology.Observed, now time.Time) (tryAgain bool) {
	for n := range seen.Instances {
		a := seen.Instances[n].Agent
		if a == nil || a.Task == nil || a.Task.Kind != api.TaskRestore {
			continue
		}
		task, present := a.Task, s.digest()
		switch {
		case task.State == api.TaskFailed && task.Refused:
			if !task.StartedAt.Equal(s.refusal.begun) {
				s.refusal = refusal{message: task.Error, source: present, begun: task.StartedAt, seen: now}
			}
			return s.refusal.source != present || now.Sub(s.refusal.seen) >= refusedRetry
		case task.State != api.TaskRunning || task.BytesDone > 0:
			s.refusal = refusal{}
		}
	}
	return true
}

// digest changes with everything an agent is handed.
func (s *restoreSource) digest() string {
	text, err := json.Marshal(s.source)
	if err != nil {
		return "" // never: it holds nothing but text and times
	}
	return digest(string(text))
}

// notOpenedReason is the reason of condition Initialized before the first epoch is opened.
func (w *world) notOpenedReason() string {
	return pick(w.refused == "", "NotOpened", reasonRestoreRefused)
}

// decide is what to do next.
func (w *world) decide(want topology.Desired) topology.Plan {
	if w.hold != nil {
		return *w.hold
	}
	return topology.Decide(want, w.seen)
}

// restoreRequest carries the source and the rest of spec.bootstrap.
func restoreRequest(w *world, a topology.Action) (*api.RestoreRequest, error) {
	known := w.memory.restore
	if known == nil || known.source == nil {
		return nil, fmt.Errorf("%s has not been read", restoreField)
	}
	request := &api.RestoreRequest{Record: *a.Record, Source: *known.source}
	if b := w.cluster.Spec.Bootstrap; b != nil {
		request.Database, request.User = b.Database, b.User
	}
	return request, nil
}
