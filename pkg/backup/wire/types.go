// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"path"
	"time"
)

// Provider is the kind of a store.
type Provider string

// The providers.
const (
	ProviderS3     Provider = "S3"
	ProviderGCS    Provider = "GCS"
	ProviderAzure  Provider = "Azure"
	ProviderVolume Provider = "Volume" // a directory
	ProviderMemory Provider = "Memory" // for tests of one process
)

// Store is a store with all that is needed to open it. It holds credentials: never log it.
type Store struct {
	Provider Provider `json:"provider"`
	// Bucket of S3 and GCS, container of Azure.
	Bucket string `json:"bucket,omitempty"`
	// Endpoint is a URL, or "" for the provider's own.
	Endpoint string `json:"endpoint,omitempty"`
	// Region and PathStyle of S3.
	Region    string `json:"region,omitempty"`
	PathStyle bool   `json:"pathStyle,omitempty"`
	// Account of Azure.
	Account string `json:"account,omitempty"`
	// Directory of a volume, as an absolute path where it is mounted.
	Directory string `json:"directory,omitempty"`
	// Prefix of all keys, without slashes at its ends.
	Prefix string `json:"prefix,omitempty"`
	// Credentials are the keys of the Secret: accessKeyID, secretAccessKey, sessionToken (S3), serviceAccount.json (GCS),
	// accountKey (Azure), ca.crt (any).
	Credentials map[string]string `json:"credentials,omitempty"`
}

// ClusterKey says below which key everything of one cluster lies.
type ClusterKey struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// Root is {namespace}/{name}/{uid}, below the prefix of the store.
func (k ClusterKey) Root() string { return path.Join(k.Namespace, k.Name, k.UID) }

// Target is the point a restore is to reach; all zero is the moment of the backup. At most one field is set.
type Target struct {
	// Time: everything that committed at or before it.
	Time time.Time `json:"time,omitzero"`
	// GTID: everything up to this transaction and itself.
	GTID string `json:"gtid,omitempty"`
	// BeforeGTID: everything before this transaction.
	BeforeGTID string `json:"beforeGTID,omitempty"`
	// Latest: everything there is.
	Latest bool `json:"latest,omitempty"`
}

// Source is all that is needed to restore.
type Source struct {
	// Store holds the backup, Archive the archive; nil means the same store.
	Store   Store  `json:"store"`
	Archive *Store `json:"archive,omitempty"`
	// Cluster the backup was made of.
	Cluster ClusterKey `json:"cluster"`
	// Backup is the id of one backup; "" is the newest that fits.
	Backup string `json:"backup,omitempty"`
	// Identity holds age private keys, one for each line; "" when nothing is encrypted.
	Identity string `json:"identity,omitempty"`
	// Target to reach.
	Target Target `json:"target"`
}

// Archive is how an agent archives.
type Archive struct {
	Store   Store      `json:"store"`
	Cluster ClusterKey `json:"cluster"`
	// Recipients are age public keys, one for each line; "" stores transactions as they are.
	Recipients string `json:"recipients,omitempty"`
	// IntervalSeconds is how far the archive may be behind, 1 to 300.
	IntervalSeconds int32 `json:"intervalSeconds"`
}

// Operation is what a Job is to do.
type Operation string

// The operations.
const (
	OperationBackup Operation = "Backup" // make a physical backup
	OperationDump   Operation = "Dump"   // make a logical backup
	OperationVerify Operation = "Verify" // restore for trial
	OperationDelete Operation = "Delete" // delete one backup from the store
	OperationPrune  Operation = "Prune"  // delete what of the archive no kept backup needs, and garbage
	// OperationRestoreTables brings tables of a backup into a running cluster; OperationDropRestore removes what its attempts
	// made there beside them.
	OperationRestoreTables Operation = "RestoreTables"
	OperationDropRestore   Operation = "DropRestore"
)

// JobInput is what a Job is told: the file job.json of the Secret mounted at /job.
type JobInput struct {
	Operation Operation  `json:"operation"`
	Store     Store      `json:"store"`
	Cluster   ClusterKey `json:"cluster"`
	// Backup is the id of the backup to make, delete or verify.
	Backup string `json:"backup,omitempty"`
	// Attempt is a random id: where this attempt puts its objects.
	Attempt string `json:"attempt,omitempty"`
	// Recipients are age public keys; "" does not encrypt.
	Recipients string `json:"recipients,omitempty"`
	// Donors are instances to copy from, in the order in which they are tried.
	Donors []Donor `json:"donors,omitempty"`
	// Primary is host:port of the primary Service: before a backup counts, the primary must have all it holds.
	Primary string `json:"primary,omitempty"`
	// User and Password of the account for clones and backups, CA the PEM of the cluster's CAs.
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
	CA       string `json:"ca,omitempty"`
	// MyCnf is the rendered option file of the cluster; what was chosen at initialisation is taken from it.
	MyCnf string `json:"myCnf,omitempty"`
	// Schemas of a dump; none means all but MySQL's own.
	Schemas []string `json:"schemas,omitempty"`
	// Restore is what a Verify restores.
	Restore *Source `json:"restore,omitempty"`
	// Tables is what a RestoreTables takes from Restore, and what a DropRestore removes.
	Tables *Tables `json:"tables,omitempty"`
	// Archive is the store of the archive to prune; nil when the cluster has none.
	Archive *Store `json:"archive,omitempty"`
	// KeepAfter is the begin of the retention window of a Prune: every moment from it on must stay restorable.
	KeepAfter time.Time `json:"keepAfter,omitzero"`
}

// Tables says which tables a restore brings into a running cluster.
type Tables struct {
	// Restore is the UID of the restore, the same for all its attempts.
	Restore string `json:"restore"`
	// Names are schema.table, or a schema for all its tables.
	Names []string `json:"names,omitempty"`
	// Into is the schema that gets the tables; "" is the one each came from.
	Into string `json:"into,omitempty"`
	// Replace drops tables that exist under the same names.
	Replace bool `json:"replace,omitempty"`
}

// Donor is an instance to copy from.
type Donor struct {
	Name string `json:"name"`
	// Address is the IP of its Pod, Port that of mysqld.
	Address string `json:"address"`
	Port    int32  `json:"port"`
}

// JobProgress is what a Job answers to GET /progress on ProgressPort while it runs.
type JobProgress struct {
	Stage      string `json:"stage"`
	BytesDone  int64  `json:"bytesDone,omitempty"`
	BytesTotal int64  `json:"bytesTotal,omitempty"`
	// StageSeconds is how long the stage has been running.
	StageSeconds float64 `json:"stageSeconds,omitempty"`
	Donor        string  `json:"donor,omitempty"`
}

// ProgressPort is where a Job answers GET /progress.
const ProgressPort = 5003

// JobReason says why a Job failed, for programs.
type JobReason string

// The reasons.
const (
	ReasonStore       JobReason = "StoreFailed"   // the store refused or did not answer; the message says what
	ReasonDonor       JobReason = "DonorFailed"   // no donor could be cloned
	ReasonDonorBusy   JobReason = "DonorBusy"     // every donor serves another clone; not counted as an attempt
	ReasonCheck       JobReason = "CheckFailed"   // a table of the copy is damaged, or a trial found a difference
	ReasonAhead       JobReason = "Unconfirmed"   // the primary did not confirm all that the copy holds
	ReasonRefused     JobReason = "Refused"       // the request can never succeed as it is
	ReasonSpace       JobReason = "OutOfSpace"    // the work volume is too small
	ReasonInterrupted JobReason = "Interrupted"   // the Job was told to stop
	ReasonInternal    JobReason = "InternalError" // anything else
)

// JobResult is what a Job leaves in its termination message, at most 4096 bytes.
type JobResult struct {
	Succeeded bool      `json:"succeeded"`
	Reason    JobReason `json:"reason,omitempty"`
	Message   string    `json:"message,omitempty"`
	// Of a backup.
	Location     string    `json:"location,omitempty"`
	Donor        string    `json:"donor,omitempty"`
	ConsistentAt time.Time `json:"consistentAt,omitzero"`
	GTIDExecuted string    `json:"gtidExecuted,omitempty"` // shortened
	MySQLVersion string    `json:"mysqlVersion,omitempty"`
	Bytes        int64     `json:"bytes,omitempty"`
	StoredBytes  int64     `json:"storedBytes,omitempty"`
	Tables       int64     `json:"tables,omitempty"`
	// Of a trial.
	RestoreSeconds       float64   `json:"restoreSeconds,omitempty"`
	ReplayedTransactions int64     `json:"replayedTransactions,omitempty"`
	RecoveredUpTo        time.Time `json:"recoveredUpTo,omitzero"`
}
