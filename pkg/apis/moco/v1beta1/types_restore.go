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
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Tables",type=integer,JSONPath=`.status.tables`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1

// MySQLRestore brings data of a backup into a cluster that runs. Deleting it undoes nothing. One that is deleted while it
// works may leave schemas whose names begin with moco_restore_ in the cluster; nothing uses them.
type MySQLRestore struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// Spec is what the user wants; it cannot be changed.
	Spec MySQLRestoreSpec `json:"spec"`
	// Status is what the controller found.
	// +optional
	Status MySQLRestoreStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// MySQLRestoreList is a list of MySQLRestores.
type MySQLRestoreList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MySQLRestore `json:"items"`
}

// RestoreMode says what a restore brings back.
// +kubebuilder:validation:Enum=Tables
type RestoreMode string

// RestoreTables brings tables of a backup into the running cluster, by ordinary transactions on its primary.
const RestoreTables RestoreMode = "Tables"

// MySQLRestoreSpec is what the user wants of a restore.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec of a restore cannot be changed: make another MySQLRestore"
type MySQLRestoreSpec struct {
	// ClusterName is a MySQLCluster of this namespace, which gets the tables. It need not be the cluster that was backed up.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	ClusterName string `json:"clusterName"`
	// Mode is Tables.
	Mode RestoreMode `json:"mode"`
	// Source is the backup, and the point up to which its archive is replayed before the tables are taken.
	Source RestoreSource `json:"source"`
	// Tables to bring back, 1 to 100: schema.table, or a schema for all its tables. Views, triggers, routines and events are
	// not brought back; the status names the triggers.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=129
	// +kubebuilder:validation:XValidation:rule="self.all(t, !(t.split('.')[0].lowerAscii() in ['mysql', 'sys', 'moco', 'information_schema', 'performance_schema']))",message="the schemas mysql, sys, moco, information_schema and performance_schema belong to the server and cannot be restored"
	// +kubebuilder:validation:XValidation:rule="self.all(t, t.matches('^[^.]+([.].+)?$'))",message="every entry of tables must be schema or schema.table"
	// +listType=set
	Tables []string `json:"tables"`
	// Into is the schema that gets the tables; it is made if it is missing. Without it each goes into the schema it came from.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['mysql', 'sys', 'moco', 'information_schema', 'performance_schema']) && !self.lowerAscii().startsWith('moco_restore_')",message="into cannot be mysql, sys, moco, information_schema, performance_schema or a name that begins with moco_restore_"
	// +optional
	Into string `json:"into,omitempty"`
	// Replace drops tables that exist under the same names, at the moment in which the restored ones take their places. Without
	// it nothing is restored when one exists.
	// +optional
	Replace bool `json:"replace,omitempty"`
	// WorkVolume is where the backup is booted; it is deleted with the Pod of the restore.
	// +kubebuilder:default={}
	// +optional
	WorkVolume WorkVolume `json:"workVolume,omitempty"`
	// Resources of the Pod that restores. Default: requests of 250m CPU and 512Mi memory, limit of 1Gi memory.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// RestorePhase is how far a restore is.
// +kubebuilder:validation:Enum=Pending;Running;Cleaning;Succeeded;Failed
type RestorePhase string

// The phases.
const (
	RestorePending   RestorePhase = "Pending"   // it waits, for the cluster, the source or the next attempt
	RestoreRunning   RestorePhase = "Running"   // its Pod works
	RestoreCleaning  RestorePhase = "Cleaning"  // it is decided; what it made beside the tables is being removed
	RestoreSucceeded RestorePhase = "Succeeded" // the tables are in their places
	RestoreFailed    RestorePhase = "Failed"    // every attempt failed; no table was changed
)

// MySQLRestoreStatus is what the controller found.
type MySQLRestoreStatus struct {
	// Phase of the restore.
	// +optional
	Phase RestorePhase `json:"phase,omitempty"`
	// Message in a sentence: why it waits or failed, or what it does.
	// +optional
	Message string `json:"message,omitempty"`
	// ClusterUID of the cluster that gets the tables.
	// +optional
	ClusterUID string `json:"clusterUID,omitempty"`
	// Attempts begun so far.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
	// Failures are the attempts that failed; after the sixth the restore has failed.
	// +optional
	Failures int32 `json:"failures,omitempty"`
	// LastFailure is the last attempt that failed.
	// +optional
	LastFailure *BackupAttempt `json:"lastFailure,omitempty"`
	// JobName of the running or last attempt.
	// +optional
	JobName string `json:"jobName,omitempty"`
	// StartedAt of the first attempt.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// RestoredAt is when it was seen that the tables are in their places.
	// +optional
	RestoredAt *metav1.Time `json:"restoredAt,omitempty"`
	// CompletedAt is when it succeeded or failed for good, and nothing was left to do.
	// +optional
	CompletedAt *metav1.Time `json:"completedAt,omitempty"`
	// Tables that were restored.
	// +optional
	Tables int64 `json:"tables,omitempty"`
	// ReplayedTransactions is how many transactions came from the archive, RecoveredUpTo up to when.
	// +optional
	ReplayedTransactions int64 `json:"replayedTransactions,omitempty"`
	// +optional
	RecoveredUpTo *metav1.MicroTime `json:"recoveredUpTo,omitempty"`
	// Progress of a running attempt.
	// +optional
	Progress *BackupProgress `json:"progress,omitempty"`
	// Conditions: Complete.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
