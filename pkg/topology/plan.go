// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
)

// ActionKind says what an action does.
type ActionKind string

// The kinds. All but WriteRecord are commands to the agent of Action.Instance.
const (
	WriteRecord ActionKind = "WriteRecord" // compare-and-set the record to Action.Record
	Promise     ActionKind = "Promise"     // show the record to an agent, which persists it
	Initialise  ActionKind = "Initialise"  // make the first data directory
	Restore     ActionKind = "Restore"     // make the first data directory from a backup
	Clone       ActionKind = "Clone"       // fill an empty volume from Action.Peer
	Start       ActionKind = "Start"       // start mysqld, closed
	Admit       ActionKind = "Admit"       // make, on the primary, the replication account of Action.Peer
	Follow      ActionKind = "Follow"      // replicate from Action.Peer
	Lead        ActionKind = "Lead"        // switch the source side of semi-sync on with Action.AckCount
	Mark        ActionKind = "Mark"        // commit a marker
	Open        ActionKind = "Open"        // serve in the role the record gives
	Apply       ActionKind = "Apply"       // apply everything received, without clients and without a receiver
	Close       ActionKind = "Close"       // close an open primary for a switchover
	Stop        ActionKind = "Stop"        // end mysqld
	LockOut     ActionKind = "LockOut"     // take the right to acknowledge from Action.Members, on the primary
	Return      ActionKind = "Return"      // reconcile with the open primary's history, Action.Executed
	Await       ActionKind = "Await"       // give the vote back once the marker of Action.Attempt has come
	Discard     ActionKind = "Discard"     // empty the volume of an instance that is no voter
	Purge       ActionKind = "Purge"       // delete binary logs of which nobody needs anything; made by Purges, not by Decide
)

// Action is one thing to do.
type Action struct {
	Kind ActionKind
	// Instance the action is for; "" for WriteRecord.
	Instance string
	// Peer is the donor of a Clone, the source of a Follow, the instance an Admit lets in.
	Peer string
	// Address of the peer, for a Follow.
	Address string
	// Record to write (WriteRecord) or to show with the command; nil before the first.
	Record *Record
	// Ack of a Follow.
	Ack api.Acknowledge
	// AckCount of a Lead.
	AckCount int32
	// Attempt of a Mark, or of the marker an Await waits for; never used twice.
	Attempt int64
	// Members are the incarnations a LockOut keeps out.
	Members []string
	// Executed is gtid_executed of the open primary, for a Return and a Discard.
	Executed string
	// Purgeable are the transactions that a Purge may remove, as a set.
	Purgeable string
	// Duration a Close may last.
	Duration time.Duration
}

// Rule names the rule a plan follows; programs may rely on it.
type Rule string

// The rules, from the first that is tried to the last.
const (
	RuleRecordTooNew  Rule = "RecordTooNew"  // a newer controller wrote the record
	RuleReadVolumes   Rule = "ReadVolumes"   // the record is missing, and volumes have not been read
	RuleRebuildRecord Rule = "RebuildRecord" // the record is taken up again from the agents' copies
	RuleBootstrap     Rule = "Bootstrap"     // a new cluster begins on an empty volume
	RuleHold          Rule = "Hold"          // nothing can be done safely without a person
	RuleNextEpoch     Rule = "NextEpoch"     // an epoch somebody else began is replaced by the next
	RuleInitialise    Rule = "Initialise"    // the first data directory is being made
	RulePrepare       Rule = "Prepare"       // the primary and its followers are being prepared
	RuleMark          Rule = "Mark"          // the marker waits for acknowledgements
	RuleOpen          Rule = "Open"          // the epoch is opened
	RuleReopen        Rule = "Reopen"        // the primary of this epoch opens again
	RuleGrow          Rule = "Grow"          // an instance becomes a voter
	RuleFill          Rule = "Fill"          // instances are being cloned or catch up
	RuleRejoin        Rule = "Rejoin"        // a voter is being started or connected again
	RuleSteady        Rule = "Steady"        // everything is as wanted
	RuleFailover      Rule = "Failover"      // a lost primary is being replaced
	RuleSwitchover    Rule = "Switchover"    // the primary hands over
	RuleChoose        Rule = "Choose"        // the new primary is chosen from those that promised
	RuleShrink        Rule = "Shrink"        // an instance loses its vote
	RuleReconcile     Rule = "Reconcile"     // an instance is brought back to the history of the primary
	RuleStop          Rule = "Stop"          // the primary stops without a successor
)

// Decision says in words what a plan does and what it waits for.
type Decision struct {
	Rule Rule
	// Reason is a sentence for a person.
	Reason string
	// WaitingFor is what must happen next; "" when nothing is waited for.
	WaitingFor string
}

// Plan is what to do next.
type Plan struct {
	Decision Decision
	Actions  []Action
	// Requeue is when to look again although nothing was reported; 0 means no need.
	Requeue time.Duration
	// Refused says which check a request for a switchover failed; "" when there is none or it passed.
	Refused string
}

// wait makes a plan that does nothing.
func wait(rule Rule, reason, waitingFor string) Plan {
	return Plan{Decision: Decision{Rule: rule, Reason: reason, WaitingFor: waitingFor}, Requeue: lookAgain}
}

// write makes a plan that writes the record.
func write(rule Rule, reason string, next *Record) Plan {
	return Plan{
		Decision: Decision{Rule: rule, Reason: reason, WaitingFor: "the record"},
		Actions:  []Action{{Kind: WriteRecord, Record: next}},
		Requeue:  lookAgain,
	}
}

// lookAgain is how long a plan that waits may rest without news; agents push, so this only covers lost pushes.
const lookAgain = 10 * time.Second
