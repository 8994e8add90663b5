// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Condition types of a MySQLCluster.
const (
	// ConditionInitialized: the first instance holds an initialised database; it never becomes False again.
	ConditionInitialized = "Initialized"
	// ConditionAvailable: writes are possible.
	ConditionAvailable = "Available"
	// ConditionHealthy: everything is as specified.
	ConditionHealthy = "Healthy"
	// ConditionValid: what CEL cannot check of the spec is in order.
	ConditionValid = "Valid"
	// ConditionReconciled: the Kubernetes objects of the cluster are as they should be.
	ConditionReconciled = "Reconciled"
	// ConditionUpdatePending: a change of the spec waits for the next start of an instance.
	ConditionUpdatePending = "UpdatePending"
	// ConditionFailoverPossible: if the primary were lost now, another instance could take over without losing a write.
	ConditionFailoverPossible = "FailoverPossible"
	// ConditionArchiving: the binary log is archived, and the archive is not far behind; absent without spec.backup.archive.
	// Reasons: Archiving; SecretMissing and SecretInvalid (nothing is archived until the Secret is mended), StoreFailed,
	// Gap (a backup made after it closes it), Behind, NotReported. The database does not depend on it.
	ConditionArchiving = "Archiving"
)

// ClusterPhase is one word for a person.
// +kubebuilder:validation:Enum=Pending;Initializing;Scaling;Recovering;Degraded;Healthy;Invalid;Unavailable
type ClusterPhase string

// The phases.
const (
	PhasePending      ClusterPhase = "Pending"      // nothing runs yet
	PhaseInitializing ClusterPhase = "Initializing" // the first instance is being made
	PhaseScaling      ClusterPhase = "Scaling"      // writes are possible, instances are being added
	PhaseRecovering   ClusterPhase = "Recovering"   // the primary is being opened again
	PhaseDegraded     ClusterPhase = "Degraded"     // writes are possible, an instance is missing
	PhaseHealthy      ClusterPhase = "Healthy"      // everything as specified
	PhaseInvalid      ClusterPhase = "Invalid"      // the spec cannot be carried out, and nothing runs
	PhaseUnavailable  ClusterPhase = "Unavailable"  // writes are not possible
)

// MySQLClusterStatus is what the controller found.
type MySQLClusterStatus struct {
	// ObservedGeneration is the generation of the spec this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase is the state of the cluster in one word.
	// +optional
	Phase ClusterPhase `json:"phase,omitempty"`
	// Primary is the Pod that takes writes.
	// +optional
	Primary string `json:"primary,omitempty"`
	// Ready is "ready/wanted" for people.
	// +optional
	Ready string `json:"ready,omitempty"`
	// Replicas is the number of instances that exist, for the scale subresource.
	// +optional
	Replicas int32 `json:"replicas"`
	// ReadyReplicas is the number of instances that serve.
	// +optional
	ReadyReplicas int32 `json:"readyReplicas"`
	// Selector of the instances' Pods, for the scale subresource.
	// +optional
	Selector string `json:"selector,omitempty"`
	// Conditions: Initialized, Available, Healthy, Valid, Reconciled, UpdatePending, FailoverPossible, and Archiving if there is an archive.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Endpoints to connect to.
	// +optional
	Endpoints *Endpoints `json:"endpoints,omitempty"`
	// Replication is the record that says who leads. It is changed by compare-and-set only.
	// +optional
	Replication *ReplicationRecord `json:"replication,omitempty"`
	// Instances of the cluster, by ordinal.
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=9
	// +optional
	Instances []InstanceStatus `json:"instances,omitempty"`
	// Decision is why the controller does, or does not do, something now.
	// +optional
	Decision *Decision `json:"decision,omitempty"`
	// Archive is how far the archive of the binary log is; absent without one.
	// +optional
	Archive *ArchiveStatus `json:"archive,omitempty"`
	// LastTransition is the last change of the primary, with the proof that nothing acknowledged was lost.
	// +optional
	LastTransition *Transition `json:"lastTransition,omitempty"`
	// LastRequest is the last request made with an annotation, and how it ended.
	// +optional
	LastRequest *RequestStatus `json:"lastRequest,omitempty"`
	// Requests is the last request made with each annotation, and how it ended: a value that stands here was tried.
	// +listType=map
	// +listMapKey=annotation
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Requests []RequestStatus `json:"requests,omitempty"`
}

// TransitionKind says why the primary changed.
// +kubebuilder:validation:Enum=Failover;Switchover
type TransitionKind string

// The kinds of transition.
const (
	TransitionFailover   TransitionKind = "Failover"   // the old primary was lost
	TransitionSwitchover TransitionKind = "Switchover" // the old primary handed over
)

// Transition is one change of the primary.
type Transition struct {
	// Kind of the transition.
	Kind TransitionKind `json:"kind"`
	// Reason in a sentence.
	Reason string `json:"reason"`
	// From is the Pod of the old primary, To that of the new one.
	From string `json:"from"`
	To   string `json:"to"`
	// Epoch that was opened.
	Epoch int64 `json:"epoch"`
	// StartedAt is when the epoch was claimed (Failover) or the old primary began to close (Switchover).
	StartedAt metav1.Time `json:"startedAt"`
	// Steps with their durations, in order.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	Steps []TransitionStep `json:"steps,omitempty"`
	// WritePauseMillis from when the old primary was closed or suspected until the new one was opened.
	WritePauseMillis int64 `json:"writePauseMillis"`
	// LostTransactions is the number of acknowledged transactions lost: 0, or -1 (unknown) after an accepted loss.
	LostTransactions int64 `json:"lostTransactions"`
	// AcceptedLoss names the instances without which a person let this transition go on.
	// +kubebuilder:validation:MaxItems=9
	// +listType=atomic
	// +optional
	AcceptedLoss []string `json:"acceptedLoss,omitempty"`
	// Proof is what was known when the new primary was chosen and opened.
	Proof TransitionProof `json:"proof"`
}

// TransitionStep is one step of a transition.
type TransitionStep struct {
	// Name of the step: Close, Fence, Choose, Prepare, Mark, Open.
	Name string `json:"name"`
	// Millis it took.
	Millis int64 `json:"millis"`
}

// TransitionProof is why no acknowledged write can be missing.
type TransitionProof struct {
	// Voters of the epoch before, and Required, how many of its replicas had to answer.
	// +kubebuilder:validation:MaxItems=9
	// +listType=atomic
	Voters   []string `json:"voters"`
	Required int32    `json:"required"`
	// PromisedBy are the voters that promised the new epoch before the choice, with what they had received then.
	// +kubebuilder:validation:MaxItems=9
	// +listType=atomic
	PromisedBy []Promised `json:"promisedBy"`
	// Floor is what the old primary was last seen to have committed while open; the chosen one contains it.
	// +optional
	Floor string `json:"floor,omitempty"`
	// Chosen is the new primary.
	Chosen string `json:"chosen"`
	// MarkerGTID is the transaction with which the epoch began, and AckedBy are the voters that reported it before the
	// first client was served.
	MarkerGTID string `json:"markerGTID"`
	// +kubebuilder:validation:MaxItems=9
	// +listType=atomic
	AckedBy []string `json:"ackedBy"`
}

// Promised is one answer to a claim.
type Promised struct {
	// Instance is the Pod.
	Instance string `json:"instance"`
	// Incarnation of its data.
	Incarnation string `json:"incarnation"`
	// Received is what it had executed or held in its relay log, shortened.
	Received string `json:"received"`
}

// RequestState is how far a request is.
// +kubebuilder:validation:Enum=Running;Succeeded;Refused
type RequestState string

// The states of a request.
const (
	RequestRunning   RequestState = "Running"   // it was begun
	RequestSucceeded RequestState = "Succeeded" // it is done
	RequestRefused   RequestState = "Refused"   // a check failed and nothing was changed, or it came to another end
)

// RequestStatus is a request made with an annotation.
type RequestStatus struct {
	// Annotation and its Value.
	Annotation string `json:"annotation"`
	Value      string `json:"value"`
	// State of the request.
	State RequestState `json:"state"`
	// Message in a sentence.
	Message string `json:"message"`
	// At is when this state was reached.
	At metav1.Time `json:"at"`
}

// Endpoints are names to connect to, inside Kubernetes.
type Endpoints struct {
	// Primary is host:port of the primary Service.
	Primary string `json:"primary"`
	// Replicas is host:port of the read Service.
	Replicas string `json:"replicas"`
}

// Decision is the rule the controller follows now and what it waits for.
type Decision struct {
	// Rule that was applied.
	Rule string `json:"rule"`
	// Reason in a sentence.
	Reason string `json:"reason"`
	// WaitingFor names what must happen next; empty when nothing is waited for.
	// +optional
	WaitingFor string `json:"waitingFor,omitempty"`
	// Since this decision stands.
	Since metav1.Time `json:"since"`
}

// InstanceRole of an instance in the record.
// +kubebuilder:validation:Enum=Primary;Replica;Learner;None
type InstanceRole string

// The roles.
const (
	RolePrimary InstanceRole = "Primary" // leads the epoch
	RoleReplica InstanceRole = "Replica" // a voter that follows
	RoleLearner InstanceRole = "Learner" // being cloned or catching up; never acknowledges
	RoleNone    InstanceRole = "None"    // holds nothing yet
)

// InstanceState of an instance.
// +kubebuilder:validation:Enum=Pending;Starting;WaitingForVolume;Initializing;Restoring;WaitingForDonor;Cloning;Recovering;CatchingUp;Joining;Serving;Down;Unknown;Terminating;Unreadable
type InstanceState string

// The states, in the order in which an instance meets them.
const (
	StatePending          InstanceState = "Pending"          // the Pod is not running; Reason says why
	StateStarting         InstanceState = "Starting"         // the Pod runs, its agent has not reported
	StateWaitingForVolume InstanceState = "WaitingForVolume" // another Pod holds the volume
	StateInitializing     InstanceState = "Initializing"     // the data directory is being made
	StateRestoring        InstanceState = "Restoring"        // the data directory is being restored from a backup
	StateWaitingForDonor  InstanceState = "WaitingForDonor"  // the donor serves another clone
	StateCloning          InstanceState = "Cloning"          // the data is being copied from a donor
	StateRecovering       InstanceState = "Recovering"       // mysqld is starting
	StateCatchingUp       InstanceState = "CatchingUp"       // a learner applies what it lacks
	StateJoining          InstanceState = "Joining"          // the configuration that makes it a voter is being opened
	StateServing          InstanceState = "Serving"          // it serves in its role
	StateDown             InstanceState = "Down"             // mysqld is not running
	StateUnknown          InstanceState = "Unknown"          // its agent is silent
	StateTerminating      InstanceState = "Terminating"      // the Pod is being stopped
	StateUnreadable       InstanceState = "Unreadable"       // the volume holds data without readable agent state
)

// InstanceStatus is what is known of one instance.
type InstanceStatus struct {
	// Name of the Pod.
	Name string `json:"name"`
	// Ordinal of the instance.
	Ordinal int32 `json:"ordinal"`
	// Role in the record.
	Role InstanceRole `json:"role"`
	// Voter: its acknowledgement counts.
	Voter bool `json:"voter"`
	// State now.
	State InstanceState `json:"state"`
	// Since it is in this state.
	Since metav1.Time `json:"since"`
	// Reason for the state, when there is something to say.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Progress of a running initialisation, restore or clone.
	// +optional
	Progress *Progress `json:"progress,omitempty"`
	// GTIDExecuted, shortened; written at most every 30 s.
	// +optional
	GTIDExecuted string `json:"gtidExecuted,omitempty"`
	// LagSeconds behind the primary; absent when it is not known; written at most every 30 s.
	// +optional
	LagSeconds *int64 `json:"lagSeconds,omitempty"`
	// Node the Pod runs on.
	// +optional
	Node string `json:"node,omitempty"`
	// PodUID of the Pod.
	// +optional
	PodUID string `json:"podUID,omitempty"`
	// Volume is the name of the PersistentVolumeClaim.
	// +optional
	Volume string `json:"volume,omitempty"`
	// Incarnation of the data.
	// +optional
	Incarnation string `json:"incarnation,omitempty"`
	// Version of mysqld.
	// +optional
	Version string `json:"version,omitempty"`
	// AgentVersion is the build of the agent.
	// +optional
	AgentVersion string `json:"agentVersion,omitempty"`
}

// Progress of a long task.
type Progress struct {
	// Stage in words.
	Stage string `json:"stage"`
	// Donor of a clone.
	// +optional
	Donor string `json:"donor,omitempty"`
	// Percent of the bytes copied, 0 to 100; absent when it is not known.
	// +optional
	Percent *int32 `json:"percent,omitempty"`
	// BytesDone so far.
	// +optional
	BytesDone int64 `json:"bytesDone,omitempty"`
	// BytesTotal estimated.
	// +optional
	BytesTotal int64 `json:"bytesTotal,omitempty"`
}
