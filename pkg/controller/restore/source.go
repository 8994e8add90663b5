// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/job"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/controller/stores"
)

const (
	// clusterInterval is how often a cluster or a backup that is not ready is looked at, secretInterval how often a Secret or
	// a claim: those are not watched.
	clusterInterval = 5 * time.Second
	secretInterval  = 15 * time.Second
)

// problem is why an attempt cannot begin: a user has to mend it, or it is only too early. It is an error.
type problem struct {
	reason, message string
	// again is when to look again.
	again time.Duration
	// final: it cannot be mended.
	final bool
}

// Error implements error.
func (p *problem) Error() string { return p.message }

// ready is what an attempt is made from.
type ready struct {
	cluster *v1beta1.MySQLCluster
	input   *wire.JobInput
	// store of the backup, of which a claim is mounted.
	store *v1beta1.Store
}

// prepare checks everything that an attempt needs, and puts it together.
func (c *Controller) prepare(ctx context.Context, restore *v1beta1.MySQLRestore) (*ready, *problem, error) {
	made, unfit, err := c.prepareDrop(ctx, restore)
	if err != nil || unfit != nil {
		return nil, unfit, err
	}
	stored, field, unfit, err := c.storedBackup(restore)
	if err != nil || unfit != nil {
		return nil, unfit, err
	}
	in := made.input
	in.Operation, in.Attempt, made.store = wire.OperationRestoreTables, job.NewAttempt(), &stored.Store
	in.Tables.Names, in.Tables.Into, in.Tables.Replace = restore.Spec.Tables, restore.Spec.Into, restore.Spec.Replace
	in.Restore, err = c.source(ctx, restore, stored, field)
	if wrong := stores.AsProblem(err); wrong != nil {
		return nil, &problem{reason: string(wrong.Reason), message: wrong.Message, again: secretInterval}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	in.Store, in.Cluster, in.Backup = in.Restore.Store, in.Restore.Cluster, in.Restore.Backup
	if unfit, err := c.claimOf(ctx, restore.Namespace, field, made.store); err != nil || unfit != nil {
		return nil, unfit, err
	}
	if in.MyCnf, unfit, err = c.options(made.cluster); err != nil || unfit != nil {
		return nil, unfit, err
	}
	return made, nil, nil
}

// prepareDrop puts together what removes the remains of attempts: the login of the cluster.
func (c *Controller) prepareDrop(ctx context.Context, restore *v1beta1.MySQLRestore) (*ready, *problem, error) {
	cluster, unfit, err := c.clusterOf(restore)
	if err != nil || unfit != nil {
		return nil, unfit, err
	}
	in := &wire.JobInput{
		Operation: wire.OperationDropRestore, Tables: &wire.Tables{Restore: string(restore.UID)},
		Primary: fmt.Sprintf("%s:%d", render.ServiceHost(cluster, render.PrimaryServiceName(cluster)), render.MySQLPort),
	}
	if unfit, err := c.login(ctx, cluster, in); err != nil || unfit != nil {
		return nil, unfit, err
	}
	return &ready{cluster: cluster, input: in}, nil, nil
}

// clusterOf returns the cluster if it can take tables.
func (c *Controller) clusterOf(restore *v1beta1.MySQLRestore) (*v1beta1.MySQLCluster, *problem, error) {
	name := restore.Spec.ClusterName
	cluster, err := c.clusters.MySQLClusters(restore.Namespace).Get(name)
	begun := restore.Status.ClusterUID
	switch {
	case apierrors.IsNotFound(err):
		return nil, &problem{
			reason: "ClusterNotFound", message: fmt.Sprintf("spec.clusterName: MySQLCluster %q does not exist in namespace %s", name, restore.Namespace),
			again: clusterInterval, final: begun != "",
		}, nil
	case err != nil:
		return nil, nil, fmt.Errorf("reading MySQLCluster %s: %w", name, err)
	case begun != "" && begun != string(cluster.UID):
		return nil, &problem{
			reason:  "ClusterReplaced",
			message: fmt.Sprintf("MySQLCluster %q was deleted and made anew since the restore began; make another MySQLRestore", name), final: true,
		}, nil
	case cluster.DeletionTimestamp != nil:
		return nil, &problem{reason: "ClusterDeleted", message: fmt.Sprintf("MySQLCluster %q is being deleted", name), again: clusterInterval}, nil
	case !apimeta.IsStatusConditionTrue(cluster.Status.Conditions, v1beta1.ConditionAvailable):
		return nil, &problem{reason: "ClusterNotAvailable", message: fmt.Sprintf("MySQLCluster %q takes no writes now; the restore begins when it does", name), again: clusterInterval}, nil
	}
	return cluster, nil, nil
}

// storedBackup says where the backup is, and in which field that stands. A MySQLBackup only tells the store and the cluster
// when a point is to be reached: an earlier backup may be the one that fits.
func (c *Controller) storedBackup(restore *v1beta1.MySQLRestore) (stored *v1beta1.StoredBackup, field string, unfit *problem, err error) {
	from := &restore.Spec.Source
	if from.Object != nil {
		return from.Object, "spec.source.object.store", nil, nil
	}
	backup, err := c.backups.MySQLBackups(restore.Namespace).Get(from.BackupName)
	if apierrors.IsNotFound(err) {
		return nil, "", &problem{
			reason: "BackupMissing", message: fmt.Sprintf("spec.source.backupName: MySQLBackup %q does not exist in namespace %s; with spec.source.object what is in a store can be restored without it", from.BackupName, restore.Namespace),
			again: clusterInterval,
		}, nil
	}
	if err != nil {
		return nil, "", nil, fmt.Errorf("reading MySQLBackup %s: %w", from.BackupName, err)
	}
	if unfit := unfitBackup(backup, from); unfit != nil {
		return nil, "", unfit, nil
	}
	stored = &v1beta1.StoredBackup{
		Store: backup.Spec.Store, Namespace: backup.Namespace, ClusterName: backup.Spec.ClusterName, ClusterUID: backup.Status.ClusterUID,
	}
	if from.At == nil {
		stored.Backup = backup.Status.ID
	}
	return stored, fmt.Sprintf("MySQLBackup %s: spec.store", backup.Name), nil, nil
}

// unfitBackup says why a backup cannot be restored, or nil.
func unfitBackup(backup *v1beta1.MySQLBackup, from *v1beta1.RestoreSource) *problem {
	status := &backup.Status
	says := func(text string) string {
		return fmt.Sprintf("spec.source.backupName: MySQLBackup %q %s", backup.Name, text)
	}
	switch {
	case backup.DeletionTimestamp != nil:
		return &problem{reason: "BackupMissing", message: says("is being deleted"), again: clusterInterval}
	case backup.Spec.Method == v1beta1.Logical:
		return &problem{reason: "SourceInvalid", message: says("is a dump, which a MySQL client loads; name a physical one"), final: true}
	case status.Phase == v1beta1.BackupFailed:
		return &problem{reason: "BackupNotReady", message: says("has failed; name another"), final: true}
	case status.Phase != v1beta1.BackupSucceeded || status.ID == "" || status.ClusterUID == "":
		return &problem{reason: "BackupNotReady", message: says("has not succeeded yet; the restore begins when it has"), again: clusterInterval}
	case backup.Spec.Encryption != nil && from.IdentitySecretRef == nil:
		return &problem{reason: "SourceInvalid", message: says("is encrypted; name the Secret with the private key in spec.source.identitySecretRef"), final: true}
	}
	return nil
}

// source makes what a Job is handed of the source. The error is a *stores.Problem when a user has to mend a Secret.
func (c *Controller) source(ctx context.Context, restore *v1beta1.MySQLRestore, stored *v1beta1.StoredBackup, field string) (*wire.Source, error) {
	from, namespace := &restore.Spec.Source, restore.Namespace
	source := &wire.Source{
		Cluster: wire.ClusterKey{Namespace: stored.Namespace, Name: stored.ClusterName, UID: stored.ClusterUID},
		Backup:  stored.Backup, Target: stores.Target(from.At),
	}
	var err error
	if source.Store, err = stores.Convert(ctx, c.secrets, namespace, field, &stored.Store); err != nil {
		return nil, err
	}
	if from.ArchiveStore != nil {
		archive, err := stores.Convert(ctx, c.secrets, namespace, "spec.source.archiveStore", from.ArchiveStore)
		if err != nil {
			return nil, err
		}
		source.Archive = &archive
	}
	source.Identity, err = stores.Identity(ctx, c.secrets, namespace, "spec.source.identitySecretRef", from.IdentitySecretRef)
	return source, err
}

// claimOf looks whether the claim of a volume store exists. Claims of users carry no label of ours, so no cache has them.
func (c *Controller) claimOf(ctx context.Context, namespace, field string, store *v1beta1.Store) (*problem, error) {
	name := stores.ClaimName(store)
	if name == "" {
		return nil, nil
	}
	found, err := c.kubernetes.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &problem{reason: "ClaimNotFound", message: fmt.Sprintf("%s.volume.claimName: PersistentVolumeClaim %q does not exist in namespace %s", field, name, namespace), again: secretInterval}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading PersistentVolumeClaim %s: %w", name, err)
	}
	if _, instance := found.Labels[v1beta1.LabelOrdinal]; instance {
		return &problem{
			reason: "ClaimOfInstance", final: true,
			message: fmt.Sprintf("%s.volume.claimName: PersistentVolumeClaim %q holds the data of an instance of MySQLCluster %q; name another", field, name, found.Labels[v1beta1.LabelCluster]),
		}, nil
	}
	return nil, nil
}

// login adds what the Job proves itself with to the cluster: tables are the tenant's, so it is root.
func (c *Controller) login(ctx context.Context, cluster *v1beta1.MySQLCluster, in *wire.JobInput) (*problem, error) {
	account, authority := render.AccountSecretName(cluster, render.AccountRoot), render.CASecretName(cluster)
	keys, err := c.secrets(ctx, cluster.Namespace, account)
	if err == nil {
		in.User, in.Password = string(keys[render.KeyUsername]), string(keys[render.KeyPassword])
		keys, err = c.secrets(ctx, cluster.Namespace, authority)
		in.CA = string(keys[render.KeyCACert])
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("reading the Secrets of MySQLCluster %s: %w", cluster.Name, err)
	}
	if err != nil || in.User == "" || in.Password == "" || in.CA == "" {
		return &problem{reason: "LoginMissing", message: fmt.Sprintf("Secrets %s and %s are not complete; the controller makes them anew", account, authority), again: secretInterval}, nil
	}
	return nil, nil
}

// options are those of the cluster's servers.
func (c *Controller) options(cluster *v1beta1.MySQLCluster) (string, *problem, error) {
	found, err := c.configMaps.ConfigMaps(cluster.Namespace).Get(render.ConfigMapName(cluster))
	if apierrors.IsNotFound(err) {
		return "", &problem{reason: "OptionsMissing", message: fmt.Sprintf("ConfigMap %s does not exist yet", render.ConfigMapName(cluster)), again: clusterInterval}, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("reading ConfigMap %s: %w", render.ConfigMapName(cluster), err)
	}
	return found.Data[render.KeyMyCnf], nil, nil
}
