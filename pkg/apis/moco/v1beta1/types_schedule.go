// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=moco
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterName`
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Suspend",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Last success",type=date,JSONPath=`.status.lastSuccessfulTime`
// +kubebuilder:printcolumn:name="Verified",type=date,JSONPath=`.status.lastVerified.at`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 50",message="metadata.name may have at most 50 characters, because the names of backups are made from it"

// MySQLBackupSchedule makes backups at given times, deletes old ones, and restores them for trial.
type MySQLBackupSchedule struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// Spec is what the user wants.
	Spec MySQLBackupScheduleSpec `json:"spec"`
	// Status is what the controller found.
	// +optional
	Status MySQLBackupScheduleStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// MySQLBackupScheduleList is a list of MySQLBackupSchedules.
type MySQLBackupScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MySQLBackupSchedule `json:"items"`
}

// ConcurrencyPolicy says what happens when a backup is due while one is running.
// +kubebuilder:validation:Enum=Forbid;Replace
type ConcurrencyPolicy string

const (
	// ForbidConcurrent skips the one that is due.
	ForbidConcurrent ConcurrencyPolicy = "Forbid"
	// ReplaceConcurrent deletes the one that is running.
	ReplaceConcurrent ConcurrencyPolicy = "Replace"
)

// MySQLBackupScheduleSpec is what the user wants of a schedule.
type MySQLBackupScheduleSpec struct {
	// ClusterName is a MySQLCluster of this namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	ClusterName string `json:"clusterName"`
	// Schedule in the form of cron with five fields, or @hourly, @daily, @weekly.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	Schedule string `json:"schedule"`
	// TimeZone of the schedule, for example Europe/Berlin; default UTC.
	// +kubebuilder:default=UTC
	// +kubebuilder:validation:MaxLength=64
	// +optional
	TimeZone string `json:"timeZone,omitempty"`
	// Suspend makes no new backups and no trials; old ones are kept, whatever their age.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// ConcurrencyPolicy: Forbid (default) or Replace.
	// +kubebuilder:default=Forbid
	// +optional
	ConcurrencyPolicy ConcurrencyPolicy `json:"concurrencyPolicy,omitempty"`
	// StartingDeadlineSeconds is how late a backup may begin, 60 to 86400, default 3600; one that is missed for longer is
	// left out.
	// +kubebuilder:default=3600
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=86400
	// +optional
	StartingDeadlineSeconds int32 `json:"startingDeadlineSeconds,omitempty"`
	// Template of the backups.
	Template BackupTemplate `json:"template"`
	// Retention says which backups are deleted.
	// +kubebuilder:default={}
	// +optional
	Retention Retention `json:"retention,omitempty"`
	// FailedHistoryLimit is how many failed backups are kept for people to read, 0 to 100, default 3.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	// +optional
	FailedHistoryLimit *int32 `json:"failedHistoryLimit,omitempty"`
	// Verify restores the newest backup for trial.
	// +optional
	Verify *Verify `json:"verify,omitempty"`
}

// Retention says which backups of a schedule are deleted: those beyond count that are also older than days. What a restore
// to any moment of the last days needs is kept: the newest backup made before that time, and the archive from there on.
// Without an archive on the cluster nothing of it is touched. The newest backup is never deleted.
type Retention struct {
	// Count of successful backups to keep, 1 to 1000, default 7.
	// +kubebuilder:default=7
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Count int32 `json:"count,omitempty"`
	// Days within which every moment can be restored, 0 to 3650, default 7.
	// +kubebuilder:default=7
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3650
	// +optional
	Days *int32 `json:"days,omitempty"`
}

// Verify restores the newest backup for trial.
type Verify struct {
	// Schedule of the trials, like that of the backups.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	Schedule string `json:"schedule"`
	// StaleAfterHours is after how long without a successful trial condition Verified becomes False: 1 to 8760, default 192.
	// +kubebuilder:default=192
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=8760
	// +optional
	StaleAfterHours int32 `json:"staleAfterHours,omitempty"`
	// IdentitySecretRef names a Secret whose key identity holds age private keys; required when backups are encrypted.
	// +optional
	IdentitySecretRef *corev1.LocalObjectReference `json:"identitySecretRef,omitempty"`
}

// MySQLBackupScheduleStatus is what the controller found.
type MySQLBackupScheduleStatus struct {
	// LastScheduleTime is when a backup was due last, and was made or skipped.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`
	// NextScheduleTime is when the next is due.
	// +optional
	NextScheduleTime *metav1.Time `json:"nextScheduleTime,omitempty"`
	// LastSuccessfulTime is when the newest successful backup was completed.
	// +optional
	LastSuccessfulTime *metav1.Time `json:"lastSuccessfulTime,omitempty"`
	// LastBackup is the name of the newest backup.
	// +optional
	LastBackup string `json:"lastBackup,omitempty"`
	// LastRequest is the value of the annotation moco.dev/backup-now that was carried out last.
	// +optional
	LastRequest string `json:"lastRequest,omitempty"`
	// Active is the name of the running backup.
	// +optional
	Active string `json:"active,omitempty"`
	// LastVerified is the last trial that came to an end.
	// +optional
	LastVerified *Verification `json:"lastVerified,omitempty"`
	// LastVerifyTime is when a trial was due last.
	// +optional
	LastVerifyTime *metav1.Time `json:"lastVerifyTime,omitempty"`
	// LastPruneTime is when the archive was last pruned.
	// +optional
	LastPruneTime *metav1.Time `json:"lastPruneTime,omitempty"`
	// Conditions: Scheduling, Verified.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Verification is one trial.
type Verification struct {
	// Backup that was restored, by the name of its object.
	Backup string `json:"backup"`
	// At is when the trial ended.
	At metav1.Time `json:"at"`
	// Succeeded: the backup was restored, the archive replayed, and every table had the recorded rows and checksum.
	Succeeded bool `json:"succeeded"`
	// Message in a sentence.
	Message string `json:"message"`
	// RestoreSeconds is how long the restore took, ReplayedTransactions how many came from the archive.
	// +optional
	RestoreSeconds int64 `json:"restoreSeconds,omitempty"`
	// +optional
	ReplayedTransactions int64 `json:"replayedTransactions,omitempty"`
	// RecoveredUpTo is the commit time of the last transaction that was replayed.
	// +optional
	RecoveredUpTo *metav1.MicroTime `json:"recoveredUpTo,omitempty"`
	// JobName of the trial.
	// +optional
	JobName string `json:"jobName,omitempty"`
}
