// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/stores"
)

const (
	// defaultArchiveSeconds stands in for spec.backup.archive.intervalSeconds, as its API default does.
	defaultArchiveSeconds = 5
	// archiveInterval is how often the state of the archive is written to the status; it changes all the time.
	archiveInterval = 10 * time.Second
	// archiveField is where the archive stands in a cluster.
	archiveField = "spec.backup.archive"
)

// Reasons of condition Archiving, beside those of pkg/controller/stores.
const (
	reasonArchiving    = "Archiving"
	reasonStoreFailed  = "StoreFailed"
	reasonGap          = "Gap"
	reasonBehind       = "Behind"
	reasonNotReported  = "NotReported"
	textNotReported    = "no open primary has reported how far the archive is"
	textKeptMeanwhile  = "; binary logs are kept meanwhile"
	textBackupCloses   = "; a backup made now closes the gap"
	textArchivedInTime = "the binary log is archived"
)

// archiveSettings is what the spec and its Secrets say of the archive.
type archiveSettings struct {
	readAt     time.Time
	generation int64
	// archive is what instances are handed; nil without an archive, and while there is a problem.
	archive *wire.Archive
	// problem is what a user has to mend, or nil.
	problem *stores.Problem
}

// fingerprint changes with everything an instance is handed; "" for nothing.
func (s *archiveSettings) fingerprint() (string, error) {
	if s == nil || s.archive == nil {
		return "", nil
	}
	text, err := json.Marshal(s.archive)
	if err != nil {
		return "", fmt.Errorf("encoding the settings of the archive: %w", err)
	}
	return digest(string(text)), nil
}

// handed is what an instance is to hold.
func (s *archiveSettings) handed() *wire.Archive {
	if s == nil {
		return nil
	}
	return s.archive
}

// archiveOf is the archive that a cluster asks for, or nil.
func archiveOf(cluster *v1beta1.MySQLCluster) *v1beta1.Archive {
	if cluster.Spec.Backup == nil {
		return nil
	}
	return cluster.Spec.Backup.Archive
}

// loadArchive reads what the instances need for the archive, unless that was done a moment ago. What a user has to mend is
// no error: the database does not depend on it.
func (c *Controller) loadArchive(ctx context.Context, w *world) error {
	known, wanted := w.memory.archive, archiveOf(w.cluster)
	if known != nil && known.generation == w.cluster.Generation && (wanted == nil || c.now().Sub(known.readAt) < credentialsAge) {
		return nil
	}
	loaded := &archiveSettings{readAt: c.now(), generation: w.cluster.Generation}
	if wanted != nil {
		archive, err := c.archiveFor(ctx, w.cluster, wanted)
		if loaded.problem = stores.AsProblem(err); err != nil && loaded.problem == nil {
			return fmt.Errorf("reading the Secrets of the archive: %w", err) // what was known stays
		}
		loaded.archive = archive
	}
	w.memory.archive = loaded
	return nil
}

// archiveFor makes what an instance is handed; nil with an error. A cluster archives below its own UID, so that histories
// never mix, not even with that of a cluster it was restored from.
func (c *Controller) archiveFor(ctx context.Context, cluster *v1beta1.MySQLCluster, wanted *v1beta1.Archive) (*wire.Archive, error) {
	read := stores.NewReader(c.kubernetes)
	store, err := stores.Convert(ctx, read, cluster.Namespace, archiveField+".store", &wanted.Store)
	if err != nil {
		return nil, err
	}
	recipients, err := stores.Recipients(ctx, read, cluster.Namespace, archiveField+".encryption", wanted.Encryption)
	if err != nil {
		return nil, err
	}
	return &wire.Archive{
		Store: store, Recipients: recipients, IntervalSeconds: cmp.Or(wanted.IntervalSeconds, defaultArchiveSeconds),
		Cluster: wire.ClusterKey{Namespace: cluster.Namespace, Name: cluster.Name, UID: string(cluster.UID)},
	}, nil
}

// archiveReport is what the primary says of the archive, and its name; nil when nobody says anything.
func (w *world) archiveReport() (instance string, report *api.Archive) {
	r := w.seen.Record
	if r == nil || r.LastOpened == nil {
		return "", nil
	}
	p := holder(&w.seen, r.LastOpened.Primary.Incarnation)
	if p == nil {
		return "", nil
	}
	return p.Name, p.Agent.Archive
}

// archiveProblem is what a user has to mend, or nil.
func (w *world) archiveProblem() *stores.Problem {
	if w.memory.archive == nil {
		return nil
	}
	return w.memory.archive.problem
}

// archiveStatus describes the archive; nil without one. Only news and, from time to time, positions differ from what the
// status says already.
func (c *Controller) archiveStatus(w *world) *v1beta1.ArchiveStatus {
	if archiveOf(w.cluster) == nil {
		return nil
	}
	old := w.cluster.Status.Archive
	next := c.describeArchive(w)
	fresh := c.now().Sub(w.memory.archivedAt) < archiveInterval
	if old != nil && fresh && old.Instance == next.Instance && old.Gap == next.Gap && old.Message == next.Message {
		return old.DeepCopy()
	}
	w.memory.archivedAt = c.now()
	return next
}

// describeArchive tells what the primary reports. While nobody does, the last report stands, and its age is the lag.
func (c *Controller) describeArchive(w *world) *v1beta1.ArchiveStatus {
	next := &v1beta1.ArchiveStatus{}
	if old := w.cluster.Status.Archive; old != nil {
		next = old.DeepCopy()
	}
	instance, report := w.archiveReport()
	switch problem := w.archiveProblem(); {
	case problem != nil:
		next.Message = bounded(problem.Message)
	case report == nil:
		next.Message = textNotReported
	default:
		next.Message = bounded(report.Error)
	}
	if report == nil {
		if next.RecoverableUpTo != nil {
			next.LagSeconds = int64(max(0, c.now().Sub(next.RecoverableUpTo.Time)) / time.Second)
		}
		return next
	}
	next.Instance, next.Gap, next.GapSince, next.RecoverableUpTo = instance, short(report.Gap), nil, nil
	next.LagSeconds = (report.LagMillis + 999) / 1000
	if !report.RecoverableUpTo.IsZero() {
		at := metav1.NewTime(report.RecoverableUpTo.UTC().Truncate(time.Second))
		next.RecoverableUpTo = &at
	}
	if c.gapClosed(w.cluster, report) {
		next.Gap = ""
	}
	if next.Gap != "" && !report.GapAt.IsZero() {
		at := metav1.NewTime(report.GapAt.UTC().Truncate(time.Second))
		next.GapSince = &at
	}
	return next
}

// setArchiving sets condition Archiving, or removes it without an archive.
func (c *Controller) setArchiving(w *world, next *v1beta1.MySQLClusterStatus) {
	if archiveOf(w.cluster) == nil {
		apimeta.RemoveStatusCondition(&next.Conditions, v1beta1.ConditionArchiving)
		return
	}
	before := apimeta.FindStatusCondition(next.Conditions, v1beta1.ConditionArchiving)
	status, reason, message := c.judgeArchive(w, before)
	apimeta.SetStatusCondition(&next.Conditions, metav1.Condition{
		Type: v1beta1.ConditionArchiving, Status: status, Reason: reason, Message: bounded(message), ObservedGeneration: w.cluster.Generation,
	})
}

// judgeArchive is condition Archiving in its parts. Messages hold nothing that changes all the time.
func (c *Controller) judgeArchive(w *world, before *metav1.Condition) (status metav1.ConditionStatus, reason, message string) {
	_, report := w.archiveReport()
	patience := archivePatience(archiveOf(w.cluster))
	if report != nil || w.memory.archiveHeard.IsZero() {
		w.memory.archiveHeard = c.now()
	}
	problem := w.archiveProblem()
	switch {
	case problem != nil:
		return metav1.ConditionFalse, string(problem.Reason), problem.Message + textKeptMeanwhile
	case report == nil:
		return c.unreported(w, before, patience)
	case report.Error != "":
		return metav1.ConditionFalse, reasonStoreFailed, report.Error + textKeptMeanwhile
	case report.Gap != "" && !c.gapClosed(w.cluster, report):
		return metav1.ConditionFalse, reasonGap, "these transactions are in no archive and in no binary log: " + short(report.Gap) + textBackupCloses
	case time.Duration(report.LagMillis)*time.Millisecond > patience:
		return metav1.ConditionFalse, reasonBehind, fmt.Sprintf("the oldest transaction that is not archived is older than %s", patience)
	default:
		return metav1.ConditionTrue, reasonArchiving, textArchivedInTime
	}
}

// gapClosed reports whether a backup that can be followed by the archive was begun since a gap was found, and succeeded: it holds
// what the archive lacks. An archiver knows nothing of backups and reports the gap as long as the archive has it.
func (c *Controller) gapClosed(cluster *v1beta1.MySQLCluster, report *api.Archive) bool {
	if c.config.Backups == nil || report.Gap == "" || report.GapAt.IsZero() {
		return false
	}
	backups, err := c.config.Backups.MySQLBackups(cluster.Namespace).List(labels.Everything())
	if err != nil {
		return false // a cache does not fail
	}
	return slices.ContainsFunc(backups, func(b *v1beta1.MySQLBackup) bool {
		return b.Status.Phase == v1beta1.BackupSucceeded && b.Spec.Method != v1beta1.Logical && b.DeletionTimestamp == nil &&
			b.Spec.ClusterName == cluster.Name && b.Status.ClusterUID == string(cluster.UID) && b.CreationTimestamp.After(report.GapAt)
	})
}

// unreported is the condition while nobody reports: as it was for a while, because a failover is no news of the archive.
func (c *Controller) unreported(w *world, before *metav1.Condition, patience time.Duration) (status metav1.ConditionStatus, reason, message string) {
	switch {
	case w.seen.Record == nil || w.seen.Record.LastOpened == nil:
		return metav1.ConditionUnknown, reasonNotReported, "the archive begins when the first primary is open"
	case c.now().Sub(w.memory.archiveHeard) >= patience:
		return metav1.ConditionFalse, reasonNotReported, fmt.Sprintf("%s for %s", textNotReported, patience)
	case before != nil && before.Reason != string(stores.ReasonMissing) && before.Reason != string(stores.ReasonInvalid):
		return before.Status, before.Reason, before.Message
	default:
		return metav1.ConditionUnknown, reasonNotReported, textNotReported
	}
}

// archivePatience is how far an archive may be behind before that is worth a warning.
func archivePatience(archive *v1beta1.Archive) time.Duration {
	interval := time.Duration(cmp.Or(archive.IntervalSeconds, defaultArchiveSeconds)) * time.Second
	return max(time.Minute, 12*interval)
}
