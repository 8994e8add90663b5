// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// counters grow when a transaction was committed without its acknowledgements (Rpl_semi_sync_source_no_tx) and when
// semi-sync switched itself off (Rpl_semi_sync_source_no_times).
type counters struct{ noTx, noTimes int64 }

func countersOf(r *mysql.Report) counters {
	return counters{noTx: r.Int("Rpl_semi_sync_source_no_tx"), noTimes: r.Int("Rpl_semi_sync_source_no_times")}
}

// expectation is what must be true of an open primary. It is taken before a report is read and compared after: a command
// in between, which may have changed both, makes the report count for nothing.
type expectation struct {
	start    string // "" when nothing is expected
	ackCount int32
	since    counters
	counter  int64 // the state counter
	deposed  bool  // the lead was taken from it
}

// expected returns what must hold now: nothing unless the instance is an open primary.
func (in *instance) expected() expectation {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	start := in.serverStartLocked()
	if start == "" || in.durable.OpenStart != start || !in.durable.OpenPrimary {
		return expectation{}
	}
	since := counters{noTx: in.durable.OpenNoTx, noTimes: in.durable.OpenNoTimes}
	k := in.durable.AckCount
	if r := in.durable.Record; r != nil && r.LastOpened != nil && r.LastOpened.AckCount == 0 {
		// The first replica is joining. Nothing more than this volume is promised before its epoch is opened, and what was on
		// its way when semi-sync went on counts as unacknowledged.
		k = 0
	}
	return expectation{start: start, ackCount: k, since: since, counter: in.durable.Counter, deposed: deposed(in.durable)}
}

// deposed says whether the kept record is that of another primary, or of none: then the fence of an open primary was not
// carried out, because the agent ended or mysqld did not.
func deposed(d state.Durable) bool {
	r := d.Record
	return r != nil && r.Epoch == d.PromisedEpoch && (r.Primary == nil || r.Primary.Incarnation != d.Incarnation)
}

// violation says what an open primary must never show, "" when all is well.
func (e expectation) violation(r *mysql.Report) string {
	if e.start == "" {
		return ""
	}
	if wrong := e.unacknowledged(r); wrong != "" {
		return wrong
	}
	if e.deposed {
		return "another epoch has begun"
	}
	return checkForced(r)
}

// unacknowledged says why writes may have been acknowledged without the replicas, "" when they were not.
func (e expectation) unacknowledged(r *mysql.Report) string {
	now := countersOf(r)
	switch {
	case e.ackCount == 0:
		return ""
	case !r.On("rpl_semi_sync_source_enabled") || r.Status["Rpl_semi_sync_source_status"] != "ON":
		return "semi-sync is off"
	case ackCountOf(r) < e.ackCount:
		return fmt.Sprintf("writes wait for %d acknowledgements instead of %d", ackCountOf(r), e.ackCount)
	case now.noTx > e.since.noTx || now.noTimes > e.since.noTimes:
		return fmt.Sprintf("%d transactions were committed without acknowledgement", now.noTx-e.since.noTx)
	}
	return ""
}

// guard kills the mysqld of an open primary at once when writes are no longer safe. What was committed meanwhile may be
// on this volume alone, which is remembered first.
func (in *instance) guard(r *mysql.Report, before expectation) {
	violation := before.violation(r)
	if violation == "" || in.expected() != before {
		return
	}
	select {
	case in.slot <- struct{}{}:
		defer func() { <-in.slot }()
	default:
		return // a command is being carried out; the next look tells
	}
	if in.expected() != before {
		return
	}
	logger := klog.FromContext(in.ctx)
	logger.Error(nil, "Killing the open primary: acknowledged writes are not safe", "reason", violation)
	if before.unacknowledged(r) != "" {
		if err := in.save(func(d *state.Durable) { d.RequiresOwnLog = true }); err != nil {
			logger.Error(err, "Noting that the primary's own log is required failed")
		}
	}
	ctx, cancel := context.WithTimeout(in.ctx, killPatience)
	defer cancel()
	if err := in.sup.Kill(ctx, before.start); err != nil {
		logger.Error(err, "Killing mysqld failed")
	}
}
