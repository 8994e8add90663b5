// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

// RecordVersion is the format of ReplicationRecord this code reads and writes. A controller that finds a higher
// version leaves the cluster alone, because it could drop what it does not know.
const RecordVersion int32 = 1

// RecordPhase tells how far an epoch has come.
// +kubebuilder:validation:Enum=Claimed;Chosen;Opened
type RecordPhase string

const (
	// RecordClaimed: one coordinator owns the epoch; no instance may lead in it yet.
	RecordClaimed RecordPhase = "Claimed"
	// RecordChosen: the epoch has its one candidate; the candidate may prepare and commit its marker, but not serve writes.
	RecordChosen RecordPhase = "Chosen"
	// RecordOpened: the marker is acknowledged; the primary may serve writes.
	RecordOpened RecordPhase = "Opened"
)

// Member names one instance by its identity, never by its name alone.
type Member struct {
	// Name of the Pod.
	Name string `json:"name"`
	// Ordinal of the instance, 0 to 8.
	Ordinal int32 `json:"ordinal"`
	// Incarnation of the data: a random id that the agent writes on an empty volume and anew with every clone.
	Incarnation string `json:"incarnation"`
}

// Configuration is a set of voters and the number of acknowledgements a write needs.
type Configuration struct {
	// Voters are the instances whose acknowledgement counts, the primary included.
	// +kubebuilder:validation:MaxItems=9
	// +listType=atomic
	Voters []Member `json:"voters"`
	// AckCount is k, the number of replicas that must have a transaction before its commit returns: half of the number of voters, rounded down.
	AckCount int32 `json:"ackCount"`
}

// OpenedEpoch is what is remembered of the last epoch that was opened.
type OpenedEpoch struct {
	Configuration `json:",inline"`
	// Epoch that was opened.
	Epoch int64 `json:"epoch"`
	// Primary of that epoch.
	Primary Member `json:"primary"`
	// MarkerGTID is the transaction with which the epoch began.
	MarkerGTID string `json:"markerGTID"`
	// ServerUUID of the primary's mysqld: every write acknowledged in this epoch carries it.
	// +optional
	ServerUUID string `json:"serverUUID,omitempty"`
}

// ReplicationRecord is the one register that says who leads. It is changed by compare-and-set only; every agent keeps
// the copy it was last shown, so the truth survives the loss of the object.
type ReplicationRecord struct {
	// Version of the format of this record.
	Version int32 `json:"version"`
	// Epoch grows by one with every change of primary or of voters. It is never a clock.
	Epoch int64 `json:"epoch"`
	// Phase of the epoch.
	Phase RecordPhase `json:"phase"`
	// Claim is the random id of the attempt that owns this epoch.
	Claim string `json:"claim"`
	// ClusterUUID is the source part of the marker GTIDs of this cluster.
	ClusterUUID string `json:"clusterUUID"`
	// Primary is the one candidate of this epoch; absent while the epoch is only Claimed.
	// +optional
	Primary *Member `json:"primary,omitempty"`
	// LastOpened is the last epoch that was opened, against which every quorum is counted; absent before the first.
	// +optional
	LastOpened *OpenedEpoch `json:"lastOpened,omitempty"`
	// Pending is the configuration being introduced; it counts beside the last opened one until an epoch with it is opened.
	// +optional
	Pending *Configuration `json:"pending,omitempty"`
	// Earlier are configurations that were written after LastOpened and given up; each counts for the quorum of a takeover
	// until an epoch is opened. At most 8.
	// +kubebuilder:validation:MaxItems=8
	// +listType=atomic
	// +optional
	Earlier []Configuration `json:"earlier,omitempty"`
}
