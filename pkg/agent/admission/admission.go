// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Check says whether a command with that envelope may be carried out by an instance in the state d. record is what the
// command carries, or nil. The error is an *api.Error, or nil.
func Check(d state.Durable, env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	if err := checkEnvelope(d, env); err != nil {
		return err
	}
	if record == nil {
		return nil
	}
	if err := checkRecord(env, record); err != nil {
		return err
	}
	return checkPrimary(d.Record, record)
}

// checkPrimary refuses another primary in an epoch whose primary is known: an epoch has one candidate.
func checkPrimary(kept, record *v1beta1.ReplicationRecord) error {
	if kept == nil || kept.Epoch != record.Epoch || kept.Primary == nil || record.Primary == nil || kept.Primary.Incarnation == record.Primary.Incarnation {
		return nil
	}
	return refuse(api.ErrorPrecondition, "%s is the primary of epoch %d, not %s", kept.Primary.Name, record.Epoch, record.Primary.Name)
}

// checkEnvelope compares an envelope with the promise, the identity and the state counter.
func checkEnvelope(d state.Durable, env *api.Envelope) error {
	switch {
	case env.Epoch < d.PromisedEpoch:
		return refuse(api.ErrorStaleEpoch, "epoch %d is below the promised %d", env.Epoch, d.PromisedEpoch)
	case env.Epoch == d.PromisedEpoch && env.Claim != d.PromisedClaim:
		return refuse(api.ErrorStaleEpoch, "epoch %d is promised to claim %q, not %q", env.Epoch, d.PromisedClaim, env.Claim)
	case env.Incarnation != d.Incarnation:
		return refuse(api.ErrorWrongIncarnation, "the command is for incarnation %q, this is %q", env.Incarnation, d.Incarnation)
	case env.StateCounter != d.Counter:
		return refuse(api.ErrorStaleState, "the command was decided at state %d, this is %d", env.StateCounter, d.Counter)
	}
	return nil
}

// checkRecord makes sure that the record is the one under which the command was decided.
func checkRecord(env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	switch {
	case record.Version > v1beta1.RecordVersion:
		return refuse(api.ErrorInvalid, "the record has version %d, the newest known is %d", record.Version, v1beta1.RecordVersion)
	case record.Epoch != env.Epoch || record.Claim != env.Claim:
		return refuse(api.ErrorInvalid, "the record is of epoch %d and claim %q, the command of %d and %q", record.Epoch, record.Claim, env.Epoch, env.Claim)
	}
	return nil
}

// Promise returns the state after an admitted command: epoch and record are taken over if they are news. A record of the
// promised epoch replaces the one kept only if it is not behind it. When changed is true, next must be durable before
// anything of the command is done.
func Promise(d state.Durable, env *api.Envelope, record *v1beta1.ReplicationRecord) (next state.Durable, changed bool) {
	if env.Epoch == d.PromisedEpoch && (record == nil || !advances(d.Record, record)) {
		return d, false
	}
	d.PromisedEpoch, d.PromisedClaim = env.Epoch, env.Claim
	if record != nil {
		d.Record = record.DeepCopy()
	}
	return d, true
}

// phaseOrder tells how far a phase is.
var phaseOrder = map[v1beta1.RecordPhase]int{v1beta1.RecordClaimed: 1, v1beta1.RecordChosen: 2, v1beta1.RecordOpened: 3}

// advances says whether a record of the promised epoch is news: further than the kept one, or as far but different.
func advances(kept, record *v1beta1.ReplicationRecord) bool {
	if kept == nil || record.Epoch > kept.Epoch {
		return true
	}
	further := phaseOrder[record.Phase] - phaseOrder[kept.Phase]
	return further > 0 || further == 0 && !reflect.DeepEqual(kept, record)
}

// Fences says whether promising that record takes the lead from the primary the agent was last shown, so that the
// instance must be fenced: the record has no primary, or one that is neither the known one nor this instance. d is the
// state before Promise. A record that is behind the kept one fences nothing, or a late duplicate would stop a replica
// that follows its epoch's primary already. The same Claimed record fences each time it is promised.
func Fences(d state.Durable, record *v1beta1.ReplicationRecord) bool {
	kept := d.Record
	switch {
	case kept != nil && (record.Epoch < kept.Epoch || record.Epoch == kept.Epoch && phaseOrder[record.Phase] < phaseOrder[kept.Phase]):
		return false
	case record.Primary == nil:
		return true
	case record.Primary.Incarnation == d.Incarnation:
		return false // preparing to lead stops its receiver and verifies what it holds
	}
	return kept == nil || kept.Primary == nil || kept.Primary.Incarnation != record.Primary.Incarnation
}

// Votes says whether what the incarnation holds may count for a quorum, so that it must not be replaced: it is the
// primary, or a voter of the last opened epoch, of the configuration being introduced, or of one that was given up but
// under which writes may have been acknowledged. Nobody votes without a record.
func Votes(record *v1beta1.ReplicationRecord, incarnation string) bool {
	if record == nil {
		return false
	}
	leads := record.Primary != nil && record.Primary.Incarnation == incarnation ||
		record.LastOpened != nil && record.LastOpened.Primary.Incarnation == incarnation
	return leads || slices.Contains(Voters(record), incarnation)
}

// Voters lists the incarnations that the configurations of Votes name, each once, in the order of the record. It is empty
// for nil.
func Voters(record *v1beta1.ReplicationRecord) []string {
	if record == nil {
		return nil
	}
	var configurations []v1beta1.Configuration
	if record.LastOpened != nil {
		configurations = append(configurations, record.LastOpened.Configuration)
	}
	if record.Pending != nil {
		configurations = append(configurations, *record.Pending)
	}
	var voters []string
	for _, configuration := range append(configurations, record.Earlier...) {
		for _, voter := range configuration.Voters {
			if !slices.Contains(voters, voter.Incarnation) {
				voters = append(voters, voter.Incarnation)
			}
		}
	}
	return voters
}

// MayAcknowledge says whether the incarnation may acknowledge to the primary of the record: only a voter of the
// configuration with which its epoch opens. An acknowledgement of anybody else, a voter of an earlier configuration
// included, could make a write count that the next takeover's quorum does not see.
func MayAcknowledge(record *v1beta1.ReplicationRecord, incarnation string) bool {
	var voters []v1beta1.Member
	switch {
	case record == nil:
	case record.Pending != nil:
		voters = record.Pending.Voters
	case record.LastOpened != nil:
		voters = record.LastOpened.Voters
	}
	return slices.ContainsFunc(voters, func(m v1beta1.Member) bool { return m.Incarnation == incarnation })
}

// NeedsReturn says whether data that led must be judged before a mysqld starts on them. running is the start of the
// mysqld that lives, or "". The last mysqld was open for writes (one that was only to lead has nothing of clients), it is
// gone without a clean stop, and the lead is not this instance's any more: its binary log may end in transactions that
// the new history lacks, which recovery would commit.
func NeedsReturn(d state.Durable, running string) bool {
	if !Opened(d) || running == d.StartedID || d.CleanStart == d.StartedID {
		return false
	}
	return d.Record == nil || d.Record.Primary == nil || d.Record.Primary.Incarnation != d.Incarnation
}

// Opened says whether the last mysqld was open for writes since it started: only then can it hold writes of clients that
// nobody acknowledged.
func Opened(d state.Durable) bool {
	return d.LedStart != "" && d.LedStart == d.StartedID && d.OpenStart == d.StartedID && d.OpenPrimary
}

func refuse(reason api.ErrorReason, format string, args ...any) *api.Error {
	return &api.Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
