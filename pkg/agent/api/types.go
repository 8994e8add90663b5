// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// Ports and paths of the agent.
const (
	// ProbePort serves GET /v1.0/getrole, /healthz and /readyz over plain HTTP.
	ProbePort = 5001
	// ControlPort serves the control API over mutual TLS.
	ControlPort = 5002
	// StatusStreamPath is the stream of Status values.
	StatusStreamPath = "/v1/status"
	// MaxBody bounds a request or a status line, in bytes.
	MaxBody = 4 << 20
)

// CommandPath is the path of a command.
func CommandPath(name CommandName) string { return "/v1/" + string(name) }

// CommandName names a command of the control API.
type CommandName string

// The commands, in the order in which a new instance meets them.
const (
	CommandConfigure     CommandName = "configure"       // ConfigureRequest
	CommandValidate      CommandName = "validate-config" // ValidateRequest
	CommandInitialise    CommandName = "initialise"      // InitialiseRequest
	CommandRestore       CommandName = "restore"         // RestoreRequest
	CommandClone         CommandName = "clone"           // CloneRequest
	CommandStart         CommandName = "start"           // StartRequest
	CommandPromise       CommandName = "promise"         // PromiseRequest
	CommandLead          CommandName = "lead"            // LeadRequest
	CommandMarker        CommandName = "marker"          // MarkerRequest
	CommandOpen          CommandName = "open"            // OpenRequest
	CommandEnsureAccount CommandName = "ensure-account"  // EnsureAccountRequest
	CommandFollow        CommandName = "follow"          // FollowRequest
	CommandApply         CommandName = "apply"           // ApplyRequest
	CommandClose         CommandName = "close"           // CloseRequest
	CommandStop          CommandName = "stop"            // StopRequest
	CommandLockOut       CommandName = "lock-out"        // LockOutRequest
	CommandReturn        CommandName = "return"          // ReturnRequest
	CommandAwait         CommandName = "await"           // AwaitRequest
	CommandDiscard       CommandName = "discard"         // DiscardRequest
	CommandPurge         CommandName = "purge"           // PurgeRequest
)

// Envelope is part of every command.
type Envelope struct {
	// Epoch and Claim of the record under which the command was decided; 0 and "" only before the first record.
	Epoch int64  `json:"epoch"`
	Claim string `json:"claim,omitempty"`
	// Incarnation the command is meant for; "" only for an instance that has none yet.
	Incarnation string `json:"incarnation,omitempty"`
	// StateCounter of the Status on which the decision was made; late duplicates of older decisions are refused.
	StateCounter int64 `json:"stateCounter"`
	// DeadlineMillis bounds the command's own work, counted from its arrival; 1 to 60000.
	DeadlineMillis int64 `json:"deadlineMillis"`
}

// Account names one of the fixed accounts of a cluster.
type Account struct {
	// Username, for example moco-admin.
	Username string `json:"username"`
	// Password in clear; never logged.
	Password string `json:"password"`
}

// ConfigureRequest hands over everything the instance keeps on its volume. It starts and stops nothing: my.cnf is used
// at the next start of mysqld, certificates are reloaded online, changed account passwords are applied online by the
// agent of the open primary.
type ConfigureRequest struct {
	Envelope
	// MyCnf is the whole rendered option file.
	MyCnf string `json:"myCnf"`
	// CA, Certificate and Key are PEM: the cluster's CA bundle and this instance's leaf for mysqld.
	CA          string `json:"ca"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	// Accounts are the fixed accounts: root, moco-admin, moco-dataprotection, moco-probe, moco-monitoring, moco-replicator.
	Accounts []Account `json:"accounts"`
	// Application is the account made by bootstrap.user, or nil.
	Application *Account `json:"application,omitempty"`
	// Archive says where the instance archives the binary log while it is the open primary; nil when it does not.
	Archive *wire.Archive `json:"archive,omitempty"`
	// Hash of all the above, chosen by the sender; reported back in Status.ConfigHash once it is durable on the volume.
	Hash string `json:"hash"`
}

// ValidateRequest asks whether mysqld would accept an option file. Nothing is kept.
type ValidateRequest struct {
	Envelope
	MyCnf string `json:"myCnf"`
}

// InitialiseRequest makes the first data directory of a cluster. Refused unless the volume is empty or holds a
// half-initialised directory, and the record names this incarnation as its primary with no epoch opened before.
type InitialiseRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
	// Database and User are made if not empty; the password is that of ConfigureRequest.Application.
	Database string `json:"database,omitempty"`
	User     string `json:"user,omitempty"`
	// InitSQL runs once, as root, in Database if that is given, before the cluster is opened.
	InitSQL string `json:"initSQL,omitempty"`
}

// RestoreRequest makes the first data directory of a cluster from a backup and an archive, instead of InitialiseRequest and
// under the same conditions. What can never succeed ends the task with Task.Refused, before any data are fetched.
type RestoreRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
	Source wire.Source               `json:"source"`
	// Database and User are made if they are missing.
	Database string `json:"database,omitempty"`
	User     string `json:"user,omitempty"`
}

// PurgeRequest lets the instance delete binary logs: files whose every transaction is in GTIDs. It keeps the newest ones
// whatever the set says.
type PurgeRequest struct {
	Envelope
	// GTIDs that nobody needs from this instance's binary log any more.
	GTIDs string `json:"gtids"`
}

// CloneRequest fills the volume from a donor with the clone plugin. Refused when the record names this incarnation as a
// voter. It gives the instance a new incarnation.
type CloneRequest struct {
	Envelope
	Donor Source `json:"donor"`
}

// Source is another mysqld.
type Source struct {
	// Name of the Pod, for messages.
	Name string `json:"name"`
	// Host is the Pod's IP; no name is resolved.
	Host string `json:"host"`
	Port int32  `json:"port"`
	// ServerUUID the other side must have; "" is not checked.
	ServerUUID string `json:"serverUUID,omitempty"`
	// User and Password to log in with.
	User     string `json:"user"`
	Password string `json:"password"`
}

// StartRequest starts mysqld closed (super_read_only, offline_mode, no replication threads).
type StartRequest struct{ Envelope }

// PromiseRequest makes the agent persist the epoch and the record before it answers. A promise is never undone.
//
// A record that takes the lead from the primary this instance was last shown, because it names another or none yet
// (phase Claimed), also fences it: a replica's receiver is stopped, and only when that is verified is Recv read; a mysqld
// that led is killed unless it can be spared (CloseRequest). The result is Status.Fence.
type PromiseRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
}

// LeadRequest prepares the source side: no replica channel, source semi-sync on with AckCount verified (off when
// AckCount is 0). The instance stays closed. Refused unless Record names it as primary.
type LeadRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
	// AckCount is k; it is persisted before it is raised and after it is lowered.
	AckCount int32 `json:"ackCount"`
}

// MarkerRequest commits the empty transaction `<cluster uuid>:moco_e<epoch>:<attempt>`. The command starts it; its end
// is seen in Status.Marker. The attempt must be fresh: MySQL answers OK without any wait for a GTID it knows.
type MarkerRequest struct {
	Envelope
	Record  v1beta1.ReplicationRecord `json:"record"`
	Attempt int64                     `json:"attempt"`
}

// OpenRequest lets the instance serve: the primary of an Opened record becomes writable, any other instance that
// follows it serves reads.
type OpenRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
}

// EnsureAccountRequest makes, on the open or leading primary, the replication account of one incarnation.
type EnsureAccountRequest struct {
	Envelope
	// Incarnation that will log in.
	Member   string `json:"member"`
	Password string `json:"password"`
}

// ReplicationUser is the account with which one incarnation replicates. MySQL user names hold 32 characters.
func ReplicationUser(incarnation string) string {
	short := incarnation
	if len(short) > 18 {
		short = short[:18]
	}
	return "moco-repl-" + short
}

// Acknowledge says whether a replica's receiver may acknowledge.
type Acknowledge string

const (
	// AckOn: the instance is a voter; its receiver acknowledges.
	AckOn Acknowledge = "On"
	// AckOff: the instance is a learner; it never acknowledges.
	AckOff Acknowledge = "Off"
)

// FollowRequest makes the instance replicate from the primary of the record. Relay log and auto-position survive.
type FollowRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
	Source Source                    `json:"source"`
	Ack    Acknowledge               `json:"ack"`
}

// ApplyRequest makes the candidate of the record apply everything it has received: clients and their locks go
// (offline_mode on, sessions killed), the applier runs, the receiver stays stopped. How far it is shows in Status.Server.
type ApplyRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
}

// CloseRequest closes an open primary for a switchover, without an epoch of its own: no client is left, nothing waits,
// nothing more is committed. The result is Status.Closed. If that cannot be had within half of DurationMillis everything
// is undone and Status.Closed.Error says why. Without a higher promise the agent opens the primary again by itself when
// DurationMillis, 1000 to 60000, have passed.
type CloseRequest struct {
	Envelope
	Record         v1beta1.ReplicationRecord `json:"record"`
	DurationMillis int64                     `json:"durationMillis"`
}

// StopRequest ends mysqld as the end of the Pod would: cleanly if nobody can be waiting for an acknowledgement, else with
// SIGKILL. It is allowed while the Pod is terminating.
type StopRequest struct{ Envelope }

// LockOutRequest takes the right to acknowledge away from incarnations that leave the voters, on the primary and without
// their cooperation: their accounts are locked (not logged, so that it waits for nobody), their dump threads are ended
// and seen gone for three seconds. Status.LockedOut names who is out.
type LockOutRequest struct {
	Envelope
	Record  v1beta1.ReplicationRecord `json:"record"`
	Members []string                  `json:"members"`
}

// ReturnRequest reconciles an instance with the history of an open primary that is not itself. The record is Opened, and
// Executed is gtid_executed of its primary, read after it was opened. What the instance holds beyond it was never
// acknowledged: a tail of the last binary log is cut off while mysqld is down, an unapplied relay log is dropped, both
// kept in quarantine. What cannot be undone so is published in Status.Diverged.
type ReturnRequest struct {
	Envelope
	Record   v1beta1.ReplicationRecord `json:"record"`
	Executed string                    `json:"executed"`
}

// AwaitRequest begins to give a voter its vote back: it is connected to the open primary, which has not yet begun the
// marker GTID. When gtid_executed contains it, nothing acknowledged is missing below it.
type AwaitRequest struct {
	Envelope
	Record v1beta1.ReplicationRecord `json:"record"`
	GTID   string                    `json:"gtid"`
}

// DiscardRequest empties the volume of an instance that is no voter, so that it can be cloned again. Binary logs with
// transactions beyond Executed (gtid_executed of the open primary) are kept in quarantine first.
type DiscardRequest struct {
	Envelope
	Record   v1beta1.ReplicationRecord `json:"record"`
	Executed string                    `json:"executed"`
}

// Reply is the answer to a command that was accepted.
type Reply struct {
	// StateCounter after the command.
	StateCounter int64 `json:"stateCounter"`
	// Message of a validation: the server's own words; empty when the file is valid.
	Message string `json:"message,omitempty"`
}

// ErrorReason says why a command was refused.
type ErrorReason string

// The reasons. Only Unavailable may be retried as it is; the others need a new decision.
const (
	ErrorStaleEpoch       ErrorReason = "StaleEpoch"       // epoch below the promise, or another claim of the same epoch
	ErrorStaleState       ErrorReason = "StaleState"       // the state counter moved on
	ErrorWrongIncarnation ErrorReason = "WrongIncarnation" // meant for other data
	ErrorPrecondition     ErrorReason = "Precondition"     // the instance is not in a state that allows it
	ErrorInvalid          ErrorReason = "Invalid"          // the request is malformed, or mysqld refuses the value
	ErrorUnavailable      ErrorReason = "Unavailable"      // the volume, the supervisor or mysqld does not answer in time
)

// Error is the answer to a command that was refused or failed.
type Error struct {
	Reason  ErrorReason `json:"reason"`
	Message string      `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return string(e.Reason) + ": " + e.Message }

// VolumeState says what the data volume holds.
type VolumeState string

const (
	VolumeWaiting    VolumeState = "Waiting"    // another Pod holds the lock; nothing was read
	VolumeEmpty      VolumeState = "Empty"      // no data directory, or one that was never completed
	VolumeFilling    VolumeState = "Filling"    // a task is initialising or cloning it
	VolumeReady      VolumeState = "Ready"      // a complete data directory
	VolumeUnreadable VolumeState = "Unreadable" // data without readable agent state; takes part in nothing
)

// MysqldState is the state of the server process as its supervisor sees it.
type MysqldState string

const (
	MysqldDown    MysqldState = "Down"    // not running (never started, exited or killed; reaped)
	MysqldRunning MysqldState = "Running" // the process lives
)

// Status is everything an agent knows about its instance.
type Status struct {
	// Pod and PodUID of the reporting Pod; BootID of its host.
	Pod    string `json:"pod"`
	PodUID string `json:"podUID"`
	BootID string `json:"bootID"`
	// AgentVersion is the build of the agent.
	AgentVersion string `json:"agentVersion"`
	// StateCounter grows with every accepted command and with every change of mysqld's process, of the incarnation, or
	// of a task's end; it survives a restart of the agent.
	StateCounter int64 `json:"stateCounter"`
	// Volume and, when Waiting, the UID of the Pod that holds it.
	Volume       VolumeState `json:"volume"`
	VolumeHolder string      `json:"volumeHolder,omitempty"`
	// Incarnation of the data or of the empty volume.
	Incarnation string `json:"incarnation,omitempty"`
	// PromisedEpoch and PromisedClaim: the highest epoch accepted.
	PromisedEpoch int64  `json:"promisedEpoch"`
	PromisedClaim string `json:"promisedClaim,omitempty"`
	// Record as last shown to the agent.
	Record *v1beta1.ReplicationRecord `json:"record,omitempty"`
	// ConfigHash of the last ConfigureRequest that is durable; StartedConfigHash of the one mysqld was started with.
	ConfigHash        string `json:"configHash,omitempty"`
	StartedConfigHash string `json:"startedConfigHash,omitempty"`
	// Mysqld is the process; MysqldSince its last change; ExitMessage how it ended last.
	Mysqld      MysqldState `json:"mysqld"`
	MysqldSince time.Time   `json:"mysqldSince"`
	ExitMessage string      `json:"exitMessage,omitempty"`
	// ImageVersion is what the image's `mysqld --version` says, asked once at the start of the supervisor; ImageError says
	// why it could not be asked (no mysqld in the image). Exactly one of them is set once the supervisor answered.
	ImageVersion string `json:"imageVersion,omitempty"`
	ImageError   string `json:"imageError,omitempty"`
	// Terminating is set once the Pod was told to stop.
	Terminating bool `json:"terminating,omitempty"`
	// Server is what mysqld said, or nil when it could not be asked; ServerError then says why.
	Server      *Server `json:"server,omitempty"`
	ServerError string  `json:"serverError,omitempty"`
	// Marker is the last marker started by this agent process.
	Marker *Marker `json:"marker,omitempty"`
	// Task is the running or last long task.
	Task *Task `json:"task,omitempty"`
	// RequiresOwnLog is set once semi-sync ended by itself while the instance was an open primary: acknowledged writes
	// may exist on this volume alone.
	RequiresOwnLog bool `json:"requiresOwnLog,omitempty"`
	// Fence is what the last promise that fenced this instance found; nil once mysqld is another process.
	Fence *Fence `json:"fence,omitempty"`
	// Closed is the state of the last CloseRequest; nil once mysqld is another process or was opened again.
	Closed *Closed `json:"closed,omitempty"`
	// Unvouched says why the instance has no vote: acknowledged transactions may be missing below what it shows. "" means
	// that its vote counts.
	Unvouched string `json:"unvouched,omitempty"`
	// Awaiting is the marker that will give the vote back; "" when none is awaited.
	Awaiting string `json:"awaiting,omitempty"`
	// NeedsReturn: the instance led and did not stop cleanly, so what its binary log holds beyond the new history must be
	// judged (ReturnRequest) before its mysqld starts under another primary.
	NeedsReturn bool `json:"needsReturn,omitempty"`
	// Diverged names what the instance executed that no open primary has; nil when nothing is known of that kind.
	Diverged *Divergence `json:"diverged,omitempty"`
	// LockedOut are the incarnations whose right to acknowledge this running primary has taken away.
	LockedOut []string `json:"lockedOut,omitempty"`
	// StalledMillis is how long the open primary has not completed the agent's canary, in steps of 250 ms; 0 when it does.
	StalledMillis int64 `json:"stalledMillis,omitempty"`
	// Archive is how far the archive is; nil when the instance is not the open primary or has no archive to keep.
	Archive *Archive `json:"archive,omitempty"`
	// RestoredFrom identifies the restore that made the data this cluster began with, as wire.Source.Fingerprint; "" when they
	// were not restored here.
	RestoredFrom string `json:"restoredFrom,omitempty"`
	// BinlogGTIDs are the transactions in binary logs that could be purged, as a set: all files but the newest ones; "" when
	// there are none.
	BinlogGTIDs string `json:"binlogGTIDs,omitempty"`
}

// Archive is how far an open primary has archived.
type Archive struct {
	// GTIDs that the archive holds or that were archived before, as a set: nothing in it is needed from a binary log.
	GTIDs string `json:"gtids"`
	// RecoverableUpTo: everything that committed at or before it is in the store.
	RecoverableUpTo time.Time `json:"recoverableUpTo,omitzero"`
	// LagMillis is the age of the oldest transaction that is not archived; 0 when all are.
	LagMillis int64 `json:"lagMillis"`
	// Gap are transactions of the surviving history that are in no archive and no binary log of this instance, as a set.
	Gap string `json:"gap,omitempty"`
	// GapAt is when it was found.
	GapAt time.Time `json:"gapAt,omitzero"`
	// Error says why it does not go on; "" when it does.
	Error string `json:"error,omitempty"`
}

// Fence is what an instance held when it was fenced for an epoch. A replica's receiver was stopped and verified to be,
// before Received was read: it acknowledges nothing to an earlier primary any more.
type Fence struct {
	Epoch int64  `json:"epoch"`
	Claim string `json:"claim"`
	// Received is Recv, read after the receiver had stopped; "" when Killed.
	Received string `json:"received,omitempty"`
	// Killed: the instance led, and its mysqld was killed and reaped.
	Killed bool `json:"killed,omitempty"`
	// Spared: the instance led, but was closed with nothing waiting and nothing committed since; it keeps running.
	Spared bool `json:"spared,omitempty"`
}

// Closed is how far the closing of a primary for a switchover is.
type Closed struct {
	// GTIDExecuted at the end: everything the primary ever committed. "" while sessions are still leaving.
	GTIDExecuted string `json:"gtidExecuted,omitempty"`
	// Error says why it was given up; the primary is open again then. It is shown for 30 seconds, in which nothing is closed
	// again by itself.
	Error string `json:"error,omitempty"`
}

// Divergence is what an instance executed beyond the open primary's history.
type Divergence struct {
	// GTIDs in question, as a set.
	GTIDs string `json:"gtids"`
	// Quarantine is the path on the volume where their binary log is kept; "" while it is still in place.
	Quarantine string `json:"quarantine,omitempty"`
}

// Server is what one mysqld reported, read in one pass.
type Server struct {
	Version    string `json:"version"`
	ServerUUID string `json:"serverUUID"`
	ServerID   uint32 `json:"serverID"`
	// GTIDExecuted and GTIDPurged as the server prints them; Received is Recv: executed and everything complete in the relay log.
	GTIDExecuted string `json:"gtidExecuted"`
	GTIDPurged   string `json:"gtidPurged"`
	Received     string `json:"received"`
	// SuperReadOnly and OfflineMode both on means closed.
	SuperReadOnly bool `json:"superReadOnly"`
	OfflineMode   bool `json:"offlineMode"`
	// SourceSemiSync is rpl_semi_sync_source_enabled; SourceActive its status; the counters are the server's.
	SourceSemiSync bool  `json:"sourceSemiSync"`
	SourceActive   bool  `json:"sourceActive"`
	AckCount       int32 `json:"ackCount"`
	Ackers         int32 `json:"ackers"`
	NoTx           int64 `json:"noTx"`
	// ReplicaSemiSync is rpl_semi_sync_replica_enabled; ReplicaActive its status.
	ReplicaSemiSync bool `json:"replicaSemiSync"`
	ReplicaActive   bool `json:"replicaActive"`
	// Channel is the default replication channel, or nil.
	Channel *Channel `json:"channel,omitempty"`
	// UptimeSeconds of mysqld.
	UptimeSeconds int64 `json:"uptimeSeconds"`
}

// Channel is the state of the replication channel.
type Channel struct {
	Host       string `json:"host"`
	Port       int32  `json:"port"`
	User       string `json:"user"`
	SourceUUID string `json:"sourceUUID,omitempty"`
	// Receiver is Yes, No or Connecting as the server says; ApplierRunning covers coordinator and workers.
	Receiver       string `json:"receiver"`
	ApplierRunning bool   `json:"applierRunning"`
	ReceiverError  string `json:"receiverError,omitempty"`
	// ReceiverErrno is Last_IO_Errno, 0 without an error.
	ReceiverErrno int64  `json:"receiverErrno,omitempty"`
	ApplierError  string `json:"applierError,omitempty"`
	// LagSeconds is the server's Seconds_Behind_Source, or -1 when it is not known.
	LagSeconds int64 `json:"lagSeconds"`
	// QuietMillis is how long neither an event nor a heartbeat came from the source, in steps of 250 ms, counted by the
	// agent; less than 1250 is shown as 0. It goes on while the receiver tries to connect.
	QuietMillis int64 `json:"quietMillis,omitempty"`
}

// MarkerState is how far a marker has come.
type MarkerState string

const (
	MarkerWaiting   MarkerState = "Waiting"
	MarkerCommitted MarkerState = "Committed"
	MarkerFailed    MarkerState = "Failed"
)

// Marker is the last marker transaction.
type Marker struct {
	GTID  string      `json:"gtid"`
	Epoch int64       `json:"epoch"`
	Claim string      `json:"claim"`
	State MarkerState `json:"state"`
	Error string      `json:"error,omitempty"`
}

// TaskKind is the kind of a long task.
type TaskKind string

const (
	TaskInitialise TaskKind = "Initialise"
	TaskClone      TaskKind = "Clone"
	TaskRestore    TaskKind = "Restore"
)

// TaskState is the state of a long task.
type TaskState string

const (
	TaskRunning TaskState = "Running"
	TaskDone    TaskState = "Done"
	TaskFailed  TaskState = "Failed"
)

// Task is a long task and its progress.
type Task struct {
	Kind      TaskKind  `json:"kind"`
	State     TaskState `json:"state"`
	StartedAt time.Time `json:"startedAt"`
	// Stage in words a user understands, for example "copying files" or "loading time zones".
	Stage string `json:"stage,omitempty"`
	// Donor of a clone.
	Donor string `json:"donor,omitempty"`
	// BytesDone and BytesTotal are estimates of the clone plugin; 0 when unknown.
	BytesDone  int64 `json:"bytesDone,omitempty"`
	BytesTotal int64 `json:"bytesTotal,omitempty"`
	// Busy is set when the donor refused because it is serving another clone (error 3634).
	Busy  bool   `json:"busy,omitempty"`
	Error string `json:"error,omitempty"`
	// Refused is set when the task can never succeed as it was asked for: it is not tried again with the same request.
	Refused bool `json:"refused,omitempty"`
}
