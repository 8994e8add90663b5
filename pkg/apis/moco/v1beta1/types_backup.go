// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +genclient
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:categories=moco
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.clusterName`
// +kubebuilder:printcolumn:name="Method",type=string,JSONPath=`.spec.method`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Consistent at",type=date,JSONPath=`.status.consistentAt`
// +kubebuilder:printcolumn:name="Stored bytes",type=integer,JSONPath=`.status.storedBytes`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1

// MySQLBackup is one backup of a cluster. Deleting it deletes what is stored, unless deletionPolicy is Keep.
type MySQLBackup struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// Spec is what the user wants; it cannot be changed, but for deletionPolicy.
	Spec MySQLBackupSpec `json:"spec"`
	// Status is what the controller found.
	// +optional
	Status MySQLBackupStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// MySQLBackupList is a list of MySQLBackups.
type MySQLBackupList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MySQLBackup `json:"items"`
}

// BackupMethod says how a backup is made.
// +kubebuilder:validation:Enum=Physical;Logical
type BackupMethod string

const (
	// Physical copies the data directory of a replica; every table is checked by a mysqld that was started on the copy.
	Physical BackupMethod = "Physical"
	// Logical dumps SQL, which any MySQL can load; it cannot be followed by the archive.
	Logical BackupMethod = "Logical"
)

// BackupSource says which instance is copied.
// +kubebuilder:validation:Enum=PreferReplica;Primary
type BackupSource string

const (
	// SourcePreferReplica copies from the replica that is furthest; from the primary only if there is none.
	SourcePreferReplica BackupSource = "PreferReplica"
	// SourcePrimary copies from the primary.
	SourcePrimary BackupSource = "Primary"
)

// DeletionPolicy says what becomes of what is stored when its object is deleted.
// +kubebuilder:validation:Enum=Delete;Keep
type DeletionPolicy string

const (
	// DeletionDelete deletes it from the store.
	DeletionDelete DeletionPolicy = "Delete"
	// DeletionKeep leaves it in the store.
	DeletionKeep DeletionPolicy = "Keep"
)

// MySQLBackupSpec is what the user wants of a backup.
// +kubebuilder:validation:XValidation:rule="has(self.schemas) ? self.method == 'Logical' : true",message="spec.schemas is for method Logical only"
// +kubebuilder:validation:XValidation:rule="self.clusterName == oldSelf.clusterName && self.method == oldSelf.method && self.store == oldSelf.store && has(self.encryption) == has(oldSelf.encryption) && (!has(self.encryption) || self.encryption == oldSelf.encryption) && has(self.schemas) == has(oldSelf.schemas) && (!has(self.schemas) || self.schemas == oldSelf.schemas)",message="the spec of a backup cannot be changed, but for deletionPolicy: make another MySQLBackup"
type MySQLBackupSpec struct {
	// ClusterName is a MySQLCluster of this namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	ClusterName    string `json:"clusterName"`
	BackupTemplate `json:",inline"`
}

// BackupTemplate is what backups of a schedule have in common.
type BackupTemplate struct {
	// Method is Physical (default) or Logical.
	// +kubebuilder:default=Physical
	// +optional
	Method BackupMethod `json:"method,omitempty"`
	// Store of the backup.
	Store Store `json:"store"`
	// Encryption of the backup; without it data are stored as they are.
	// +optional
	Encryption *Encryption `json:"encryption,omitempty"`
	// Source is PreferReplica (default) or Primary.
	// +kubebuilder:default=PreferReplica
	// +optional
	Source BackupSource `json:"source,omitempty"`
	// Schemas of a logical backup; without them all but MySQL's own. At most 100.
	// +kubebuilder:validation:MaxItems=100
	// +listType=set
	// +optional
	Schemas []string `json:"schemas,omitempty"`
	// WorkVolume is where the copy is booted; it is deleted with the Pod of the backup.
	// +kubebuilder:default={}
	// +optional
	WorkVolume WorkVolume `json:"workVolume,omitempty"`
	// Resources of the Pod that makes the backup. Default: requests of 250m CPU and 512Mi memory, limit of 1Gi memory.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	// DeletionPolicy: Delete (default) or Keep.
	// +kubebuilder:default=Delete
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// WorkVolume is a volume for the time of a backup.
type WorkVolume struct {
	// Size; default that of the cluster's volumes.
	// +optional
	Size *resource.Quantity `json:"size,omitempty"`
	// StorageClassName; default that of the cluster's volumes.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
}

// BackupPhase is how far a backup is.
// +kubebuilder:validation:Enum=Pending;Running;Succeeded;Failed;Deleting
type BackupPhase string

// The phases.
const (
	BackupPending   BackupPhase = "Pending"   // it waits: for the cluster, or for the donor's clone slot
	BackupRunning   BackupPhase = "Running"   // its Pod works
	BackupSucceeded BackupPhase = "Succeeded" // its manifest is in the store
	BackupFailed    BackupPhase = "Failed"    // every attempt failed; nothing that looks whole is in the store
	BackupDeleting  BackupPhase = "Deleting"  // it is being deleted from the store
)

// MySQLBackupStatus is what the controller found.
type MySQLBackupStatus struct {
	// Phase of the backup.
	// +optional
	Phase BackupPhase `json:"phase,omitempty"`
	// Message in a sentence: why it waits or failed, or what it does.
	// +optional
	Message string `json:"message,omitempty"`
	// ID of the backup in the store.
	// +optional
	ID string `json:"id,omitempty"`
	// ClusterUID of the cluster it is made of.
	// +optional
	ClusterUID string `json:"clusterUID,omitempty"`
	// Location is the key of its manifest in the store, the prefix included.
	// +optional
	Location string `json:"location,omitempty"`
	// Attempts begun so far.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
	// Failures are the attempts that failed and count; after the sixth the backup has failed. An attempt that found every
	// donor busy does not count.
	// +optional
	Failures int32 `json:"failures,omitempty"`
	// LastFailure is the last attempt that ended without a backup.
	// +optional
	LastFailure *BackupAttempt `json:"lastFailure,omitempty"`
	// BusySince is since when every attempt has found all donors busy; absent when the last one did not.
	// +optional
	BusySince *metav1.Time `json:"busySince,omitempty"`
	// JobName of the running or last attempt.
	// +optional
	JobName string `json:"jobName,omitempty"`
	// Donor is the instance it was copied from.
	// +optional
	Donor string `json:"donor,omitempty"`
	// StartedAt of the first attempt.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// CompletedAt is when it succeeded or failed for good.
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`
	// ConsistentAt: the backup holds no transaction that committed after it.
	// +optional
	ConsistentAt *metav1.MicroTime `json:"consistentAt,omitempty"`
	// GTIDExecuted of the backup, shortened.
	// +optional
	GTIDExecuted string `json:"gtidExecuted,omitempty"`
	// MySQLVersion that made it. An older mysqld cannot use it.
	// +optional
	MySQLVersion string `json:"mysqlVersion,omitempty"`
	// Bytes of the files, StoredBytes after compression, Tables checked.
	// +optional
	Bytes int64 `json:"bytes,omitempty"`
	// +optional
	StoredBytes int64 `json:"storedBytes,omitempty"`
	// +optional
	Tables int64 `json:"tables,omitempty"`
	// Progress of a running attempt.
	// +optional
	Progress *BackupProgress `json:"progress,omitempty"`
	// Conditions: Complete, and Verified once it was restored for trial.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BackupAttempt is an attempt that ended without a backup.
type BackupAttempt struct {
	// Number of the attempt, from 1 on.
	Number int32 `json:"number"`
	// At is when its end was seen.
	At metav1.Time `json:"at"`
	// Reason in one word, for programs.
	Reason string `json:"reason"`
	// Message in a sentence.
	Message string `json:"message"`
}

// BackupProgress is how far a running attempt is.
type BackupProgress struct {
	// Stage in words.
	Stage string `json:"stage"`
	// BytesDone and BytesTotal of this stage; 0 when unknown.
	// +optional
	BytesDone int64 `json:"bytesDone,omitempty"`
	// +optional
	BytesTotal int64 `json:"bytesTotal,omitempty"`
	// BytesPerSecond over the whole stage.
	// +optional
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"`
	// RemainingSeconds at that rate; absent when unknown.
	// +optional
	RemainingSeconds *int64 `json:"remainingSeconds,omitempty"`
}

// Conditions of backups, schedules and restores.
const (
	// ConditionComplete of a MySQLBackup: its manifest is in the store. Of a MySQLRestore: the tables are in their places.
	ConditionComplete = "Complete"
	// ConditionVerified of a MySQLBackup or MySQLBackupSchedule: a backup was restored for trial.
	ConditionVerified = "Verified"
	// ConditionScheduling of a MySQLBackupSchedule: backups are made when they are due.
	ConditionScheduling = "Scheduling"
)
