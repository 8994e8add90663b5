// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/job"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/controller/stores"
)

const (
	// clusterInterval is how often a cluster that is not ready is looked at, secretInterval how often a Secret or a claim:
	// those are not watched.
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
}

// idOf is the id of a backup in its store. It follows from the object alone.
func idOf(backup *v1beta1.MySQLBackup) string {
	uid := string(backup.UID)
	return backup.CreationTimestamp.UTC().Format("20060102T150405Z") + "-" + uid[:min(len(uid), 8)]
}

// prepare checks everything that an attempt needs, and puts it together.
func (c *Controller) prepare(ctx context.Context, backup *v1beta1.MySQLBackup) (*ready, *problem, error) {
	cluster, unfit, err := c.clusterOf(backup)
	if err != nil || unfit != nil {
		return nil, unfit, err
	}
	donors := Donors(cluster, c.pods.Pods(cluster.Namespace), backup.Spec.Source, backup.Status.Failures)
	if len(donors) == 0 {
		return nil, &problem{reason: "NoDonor", message: fmt.Sprintf("no instance of MySQLCluster %q that may be copied serves now (spec.source: %s)", cluster.Name, sourceOf(backup)), again: clusterInterval}, nil
	}
	in := &wire.JobInput{
		Operation: operationOf(backup), Cluster: KeyOf(cluster), Backup: idOf(backup), Attempt: job.NewAttempt(),
		Donors: donors, Primary: fmt.Sprintf("%s:%d", render.ServiceHost(cluster, render.PrimaryServiceName(cluster)), render.MySQLPort),
		Schemas: backup.Spec.Schemas,
	}
	if in.Store, err = stores.Convert(ctx, c.secrets, backup.Namespace, "spec.store", &backup.Spec.Store); err == nil {
		in.Recipients, err = stores.Recipients(ctx, c.secrets, backup.Namespace, "spec.encryption", backup.Spec.Encryption)
	}
	if wrong := stores.AsProblem(err); wrong != nil {
		return nil, &problem{reason: string(wrong.Reason), message: wrong.Message, again: secretInterval}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if unfit, err := c.claimOf(ctx, backup); err != nil || unfit != nil {
		return nil, unfit, err
	}
	if unfit, err := c.login(ctx, cluster, in); err != nil || unfit != nil {
		return nil, unfit, err
	}
	return &ready{cluster: cluster, input: in}, nil, nil
}

// KeyOf is below which key everything of a cluster lies in a store.
func KeyOf(cluster *v1beta1.MySQLCluster) wire.ClusterKey {
	return wire.ClusterKey{Namespace: cluster.Namespace, Name: cluster.Name, UID: string(cluster.UID)}
}

func sourceOf(backup *v1beta1.MySQLBackup) v1beta1.BackupSource {
	if backup.Spec.Source == v1beta1.SourcePrimary {
		return v1beta1.SourcePrimary
	}
	return v1beta1.SourcePreferReplica
}

// clusterOf returns the cluster if it can be backed up.
func (c *Controller) clusterOf(backup *v1beta1.MySQLBackup) (*v1beta1.MySQLCluster, *problem, error) {
	name := backup.Spec.ClusterName
	cluster, err := c.clusters.MySQLClusters(backup.Namespace).Get(name)
	begun := backup.Status.ClusterUID
	switch {
	case apierrors.IsNotFound(err):
		return nil, &problem{
			reason: "ClusterNotFound", message: fmt.Sprintf("spec.clusterName: MySQLCluster %q does not exist in namespace %s", name, backup.Namespace),
			again: clusterInterval, final: begun != "",
		}, nil
	case err != nil:
		return nil, nil, fmt.Errorf("reading MySQLCluster %s: %w", name, err)
	case begun != "" && begun != string(cluster.UID):
		return nil, &problem{
			reason:  "ClusterReplaced",
			message: fmt.Sprintf("MySQLCluster %q was deleted and made anew since the backup began; make another MySQLBackup", name), final: true,
		}, nil
	case cluster.DeletionTimestamp != nil:
		return nil, &problem{reason: "ClusterDeleted", message: fmt.Sprintf("MySQLCluster %q is being deleted", name), again: clusterInterval}, nil
	case !apimeta.IsStatusConditionTrue(cluster.Status.Conditions, v1beta1.ConditionInitialized):
		return nil, &problem{reason: "ClusterNotInitialized", message: fmt.Sprintf("MySQLCluster %q is not initialised yet", name), again: clusterInterval}, nil
	case primaryOf(cluster) == nil:
		return nil, &problem{reason: "NoPrimary", message: fmt.Sprintf("MySQLCluster %q has no primary that serves, which has to confirm what is in the backup", name), again: clusterInterval}, nil
	}
	return cluster, nil, nil
}

// claimOf looks whether the claim of a volume store exists and may be one. Claims of users carry no label of ours, so no cache has them.
func (c *Controller) claimOf(ctx context.Context, backup *v1beta1.MySQLBackup) (*problem, error) {
	name := stores.ClaimName(&backup.Spec.Store)
	if name == "" {
		return nil, nil
	}
	found, err := c.kubernetes.CoreV1().PersistentVolumeClaims(backup.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &problem{
			reason: "ClaimNotFound", message: fmt.Sprintf("spec.store.volume.claimName: PersistentVolumeClaim %q does not exist in namespace %s; create it", name, backup.Namespace),
			again: secretInterval,
		}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading PersistentVolumeClaim %s: %w", name, err)
	}
	if _, instance := found.Labels[v1beta1.LabelOrdinal]; instance {
		// A Job would write beside the files of mysqld, and nobody may who can only ask for a backup.
		return &problem{
			reason: "ClaimOfInstance", message: fmt.Sprintf("spec.store.volume.claimName: PersistentVolumeClaim %q holds the data of an instance of MySQLCluster %q; name another", name, found.Labels[v1beta1.LabelCluster]),
			final: true,
		}, nil
	}
	return nil, nil
}

// login adds what the Job proves itself with to the cluster, and the cluster's options.
func (c *Controller) login(ctx context.Context, cluster *v1beta1.MySQLCluster, in *wire.JobInput) (*problem, error) {
	account, authority := render.AccountSecretName(cluster, render.AccountDataProtection), render.CASecretName(cluster)
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
	options, err := c.configMaps.ConfigMaps(cluster.Namespace).Get(render.ConfigMapName(cluster))
	if apierrors.IsNotFound(err) {
		return &problem{reason: "OptionsMissing", message: fmt.Sprintf("ConfigMap %s does not exist yet", render.ConfigMapName(cluster)), again: clusterInterval}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s: %w", render.ConfigMapName(cluster), err)
	}
	in.MyCnf = options.Data[render.KeyMyCnf]
	return nil, nil
}

// podLister finds Pods of one namespace.
type podLister = corelisters.PodNamespaceLister
