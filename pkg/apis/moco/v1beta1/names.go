// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

// Labels, annotations and names that users and programs may rely on.
const (
	// LabelCluster carries the name of the cluster on everything that belongs to it.
	LabelCluster = "moco.dev/cluster"
	// LabelRole is primary or replica, only while the instance may serve as such.
	LabelRole = "moco.dev/role"
	// LabelVoter is "true" on the Pods whose acknowledgement counts; the PodDisruptionBudget selects it.
	LabelVoter = "moco.dev/voter"
	// LabelOrdinal carries the ordinal of an instance on its Pod and its volume.
	LabelOrdinal = "moco.dev/ordinal"
	// AnnotationClusterUID on a kept volume or Secret names the cluster object it was made for.
	AnnotationClusterUID = "moco.dev/cluster-uid"
	// AnnotationEpoch on Pods and EndpointSlices is the epoch of the record they were written under; it never goes back.
	AnnotationEpoch = "moco.dev/epoch"
	// AnnotationTemplateHash on a Pod is the hash of the template it was made from.
	AnnotationTemplateHash = "moco.dev/template-hash"
	// AnnotationSwitchover on a MySQLCluster asks for another primary: a Pod's name, or "any"; "=<token>" after it makes a
	// repeated request a new one. Each value is tried once; status.lastRequest tells how it ended.
	AnnotationSwitchover = "moco.dev/switchover"
	// AnnotationFence on a MySQLCluster names Pods, separated by commas, whose mysqld is stopped; Pod and data stay.
	AnnotationFence = "moco.dev/fence"
	// AnnotationAcceptLoss on a MySQLCluster names the instances, separated by commas, without which one failover may go
	// on although acknowledged writes that only they hold would be lost.
	AnnotationAcceptLoss = "moco.dev/accept-loss"
	// AnnotationReplace on a MySQLCluster gives an instance a new, empty volume, which is cloned: "<pod>=<token>". The token
	// makes a repeated request a new one; each value is tried once, and status.lastRequest tells how it ended. The primary
	// is never replaced, nor an instance without which the others could not acknowledge. The former volume is kept.
	AnnotationReplace = "moco.dev/replace"
	// LabelRetired is "true" on a volume that was replaced. It is never used again and never deleted by the controller.
	LabelRetired = "moco.dev/retired"
	// AnnotationRetiredAt on a retired volume is when it was retired (RFC 3339), AnnotationRetiredBecause why in words.
	AnnotationRetiredAt      = "moco.dev/retired-at"
	AnnotationRetiredBecause = "moco.dev/retired-because"
	// AnnotationRetiredFor on a retired volume is the value of AnnotationReplace it was retired for; absent when nobody asked.
	AnnotationRetiredFor = "moco.dev/retired-for"
	// AnnotationBackupNow on a MySQLBackupSchedule asks for a backup at once; each new value is one request.
	AnnotationBackupNow = "moco.dev/backup-now"
	// LabelSchedule on a MySQLBackup names the schedule that made it.
	LabelSchedule = "moco.dev/schedule"
	// LabelBackup on a Job names the MySQLBackup, MySQLBackupSchedule or MySQLRestore it works for.
	LabelBackup = "moco.dev/backup"
	// FinalizerBackup on a MySQLBackup keeps its object until what is stored is deleted.
	FinalizerBackup = "moco.dev/backup"
	// RoleLabelPrimary and RoleLabelReplica are the values of LabelRole.
	RoleLabelPrimary = "primary"
	RoleLabelReplica = "replica"
)
