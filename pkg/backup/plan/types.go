// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"time"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Plan is how a point is restored: the backup, then the files in their order, the last one cut.
type Plan struct {
	Backup manifest.Summary
	// Files to replay; none when the backup alone is the point, or already holds all there is.
	Files []File
	// Cut says where in the last file to end.
	Cut Cut
	// Unsure: the backup holds transactions of the last segment, and only Cut.Find can tell whether they lie before the cut;
	// there is no backup that surely fits. Before anything is made, Find must have been asked. When it says ErrTooYoung, Make
	// may be asked again without this backup.
	Unsure bool
	// Whole is what the result has executed if nothing is cut off: the backup and all the segments. What it has executed
	// with the cut is the backup and what Cut.Find keeps of the last file, and all of the others.
	Whole gtid.Set
	// Transactions and RawBytes of all segments, at most.
	Transactions, RawBytes int64
	// CoveredUpTo is up to when this backup and the archive reach; zero without an archive.
	CoveredUpTo time.Time
	// Missing says in a sentence why a later part of the archive cannot be reached; "" when all of it can.
	Missing string
}

// File is one binary log file to replay: segments of one stream that lie one behind the other in it.
type File struct {
	Stream archive.StreamName
	// Name of the file on the server that wrote it.
	Name     string
	Segments []Segment
}

// Segment is one to fetch.
type Segment struct {
	archive.Segment
	// Key of the object, below the prefix of the store.
	Key string
}

// CutKind says what ends a replay.
type CutKind string

// The kinds of cuts.
const (
	CutNone       CutKind = ""           // nothing: all of the last file
	CutTime       CutKind = "Time"       // before the first transaction that committed later
	CutGTID       CutKind = "GTID"       // behind a transaction
	CutBeforeGTID CutKind = "BeforeGTID" // before a transaction
)

// Cut ends a replay within the last file.
type Cut struct {
	Kind CutKind
	// Time of CutTime.
	Time time.Time
	// GTID of the others, a set of one.
	GTID gtid.Set
}

// Reason says why there is no plan, for programs.
type Reason string

// The reasons.
const (
	NoBackup     Reason = "NoBackup"     // there is no backup that can be used
	BeforeBackup Reason = "BeforeBackup" // the point lies before what the oldest backup holds
	NotCovered   Reason = "NotCovered"   // the archive does not reach the point
	UnknownGTID  Reason = "UnknownGTID"  // no archived segment holds the transaction
	BadTarget    Reason = "BadTarget"    // the target itself makes no sense
)

// Refusal is the error when there is no plan.
type Refusal struct {
	Reason Reason
	// Message for people, a sentence.
	Message string
	// CoveredFrom and CoveredUpTo are the earliest and the latest time that can be reached; both zero when none can. There may
	// be gaps between them, which Message tells if one matters.
	CoveredFrom, CoveredUpTo time.Time
}

// Error is the sentence.
func (r *Refusal) Error() string { return r.Message }
