// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Store is a place for backups and archives: exactly one of s3, gcs, azure and volume. Everything of one cluster lies
// below {prefix}/{namespace}/{name}/{uid}, so clusters never mix.
// +kubebuilder:validation:XValidation:rule="[has(self.s3), has(self.gcs), has(self.azure), has(self.volume)].filter(x, x).size() == 1",message="exactly one of s3, gcs, azure and volume is required in a store"
type Store struct {
	// S3 is a bucket of Amazon S3 or of a server that speaks its protocol.
	// +optional
	S3 *S3Store `json:"s3,omitempty"`
	// GCS is a bucket of Google Cloud Storage.
	// +optional
	GCS *GCSStore `json:"gcs,omitempty"`
	// Azure is a container of Azure Blob Storage.
	// +optional
	Azure *AzureStore `json:"azure,omitempty"`
	// Volume is a directory on a PersistentVolumeClaim of this namespace. It cannot hold a continuous archive.
	// +optional
	Volume *VolumeStore `json:"volume,omitempty"`
	// Prefix of all keys, without slashes at its ends. At most 256 characters: letters, digits and any of /._-
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9/._-]*[A-Za-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="!self.contains('..') && !self.contains('//')",message="prefix must contain neither .. nor //"
	// +optional
	Prefix string `json:"prefix,omitempty"`
}

// S3Store is a bucket of Amazon S3 or of a server that speaks its protocol.
type S3Store struct {
	// Bucket that exists.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=63
	Bucket string `json:"bucket"`
	// Endpoint is the URL of a server other than Amazon's, for example https://s3.example.com.
	// +kubebuilder:validation:Pattern=`^https?://[^/?#@]+$`
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// Region of the bucket; default us-east-1.
	// +kubebuilder:default=us-east-1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Region string `json:"region,omitempty"`
	// PathStyle puts the bucket into the path of the URL instead of the host name.
	// +optional
	PathStyle bool `json:"pathStyle,omitempty"`
	// CredentialsSecretRef names a Secret of this namespace with the keys accessKeyID and secretAccessKey, and optionally
	// sessionToken and ca.crt (PEM of the CAs that sign the endpoint's certificate).
	CredentialsSecretRef corev1.LocalObjectReference `json:"credentialsSecretRef"`
}

// GCSStore is a bucket of Google Cloud Storage.
type GCSStore struct {
	// Bucket that exists.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=222
	Bucket string `json:"bucket"`
	// Endpoint is the URL of a server other than Google's.
	// +kubebuilder:validation:Pattern=`^https?://[^/?#@]+$`
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// CredentialsSecretRef names a Secret of this namespace with the key serviceAccount.json, and optionally ca.crt.
	CredentialsSecretRef corev1.LocalObjectReference `json:"credentialsSecretRef"`
}

// AzureStore is a container of Azure Blob Storage.
type AzureStore struct {
	// Container that exists.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=63
	Container string `json:"container"`
	// Account is the name of the storage account.
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=24
	Account string `json:"account"`
	// Endpoint is the URL of the blob service, if it is not Azure's own for the account.
	// +kubebuilder:validation:Pattern=`^https?://[^?#@]+$`
	// +kubebuilder:validation:MaxLength=253
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// CredentialsSecretRef names a Secret of this namespace with the key accountKey, and optionally ca.crt.
	CredentialsSecretRef corev1.LocalObjectReference `json:"credentialsSecretRef"`
}

// VolumeStore is a directory on a PersistentVolumeClaim.
type VolumeStore struct {
	// ClaimName of a PersistentVolumeClaim of this namespace.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClaimName string `json:"claimName"`
}

// Encryption is done with age before anything leaves the Pod. Manifests and the index of an archive, which hold names,
// sizes and GTIDs but no rows, are not encrypted.
type Encryption struct {
	// RecipientsSecretRef names a Secret of this namespace whose key recipients lists age public keys, one for each line.
	RecipientsSecretRef corev1.LocalObjectReference `json:"recipientsSecretRef"`
}

// Archive is the continuous archive of the binary log.
// +kubebuilder:validation:XValidation:rule="!has(self.store.volume)",message="spec.backup.archive.store cannot be a volume: every instance writes to it, so it must be an object store"
type Archive struct {
	// Store of the archive.
	Store Store `json:"store"`
	// Encryption of the archive; without it transactions are stored as they are.
	// +optional
	Encryption *Encryption `json:"encryption,omitempty"`
	// IntervalSeconds is how far the archive may be behind: 1 to 300, default 5.
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=300
	// +optional
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`
}

// ClusterBackup is what is kept of a cluster outside of it, all the time.
type ClusterBackup struct {
	// Archive of the binary log, without which a restore can only reach the moment of a backup.
	// +optional
	Archive *Archive `json:"archive,omitempty"`
}

// ArchiveStatus is how far the archive is.
type ArchiveStatus struct {
	// RecoverableUpTo is the time up to which a restore from a backup and the archive is possible, given a backup.
	// +optional
	RecoverableUpTo *metav1.Time `json:"recoverableUpTo,omitempty"`
	// LagSeconds is the age of the oldest transaction that is not archived; 0 when all are. Written at most every 10 s.
	// +optional
	LagSeconds int64 `json:"lagSeconds,omitempty"`
	// Instance that archives: the primary.
	// +optional
	Instance string `json:"instance,omitempty"`
	// Gap names transactions that are in no archive and, with their binary logs, lost to it; a backup made after the gap
	// closes it.
	// +optional
	Gap string `json:"gap,omitempty"`
	// GapSince is when the gap was found.
	// +optional
	GapSince *metav1.Time `json:"gapSince,omitempty"`
	// Message says why the archive does not go on; empty when it does.
	// +optional
	Message string `json:"message,omitempty"`
}

// RestoreSource is what a restore begins with and where it ends.
// +kubebuilder:validation:XValidation:rule="has(self.backupName) != has(self.object)",message="exactly one of backupName and object is required"
type RestoreSource struct {
	// BackupName is a MySQLBackup of this namespace. It only tells the store and the cluster; with at, an earlier backup of
	// the same cluster may be chosen.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	BackupName string `json:"backupName,omitempty"`
	// Object finds a backup in a store, without any object of Kubernetes.
	// +optional
	Object *StoredBackup `json:"object,omitempty"`
	// ArchiveStore holds the archive, if it is not the store of the backup.
	// +optional
	ArchiveStore *Store `json:"archiveStore,omitempty"`
	// IdentitySecretRef names a Secret of this namespace whose key identity holds age private keys; required when the backup
	// is encrypted.
	// +optional
	IdentitySecretRef *corev1.LocalObjectReference `json:"identitySecretRef,omitempty"`
	// At is the point to reach; without it the moment of the backup.
	// +optional
	At *RestorePoint `json:"at,omitempty"`
}

// StoredBackup finds a backup in a store.
type StoredBackup struct {
	// Store that holds it.
	Store Store `json:"store"`
	// Namespace, ClusterName and ClusterUID of the cluster it was made of, as in the keys of the store.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	ClusterName string `json:"clusterName"`
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ClusterUID string `json:"clusterUID"`
	// Backup is the id of one backup; without it the newest that fits.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	Backup string `json:"backup,omitempty"`
}

// RestorePoint is exactly one of time, gtid and beforeGTID.
// +kubebuilder:validation:XValidation:rule="[has(self.time), has(self.gtid), has(self.beforeGTID)].filter(x, x).size() == 1",message="exactly one of time, gtid and beforeGTID is required"
type RestorePoint struct {
	// Time: every transaction that committed at or before it, by the time in the binary log.
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:Format=date-time
	// +kubebuilder:validation:Pattern=`^[0-9-]{10}T[0-9:]{8}(\.[0-9]{1,9})?Z?([+-][01][0-9]:[0-5][0-9])?$`
	// +optional
	Time *metav1.MicroTime `json:"time,omitempty"`
	// GTID of one transaction: everything up to it, and it.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	GTID string `json:"gtid,omitempty"`
	// BeforeGTID of one transaction: everything before it, to undo it and what followed.
	// +kubebuilder:validation:MaxLength=128
	// +optional
	BeforeGTID string `json:"beforeGTID,omitempty"`
}

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
