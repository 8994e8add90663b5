// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
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
