// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// maxAckCount is k of the largest cluster.
const maxAckCount = 4

// lead prepares the instance as a source. On an open primary it only changes k.
func (in *instance) lead(ctx context.Context, req *api.LeadRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.mustBePrimary(&req.Record); err != nil {
		return api.Reply{}, err
	}
	if req.AckCount < 0 || req.AckCount > maxAckCount {
		return api.Reply{}, refuse(api.ErrorInvalid, "ackCount %d is not in 0 to %d", req.AckCount, maxAckCount)
	}
	session, err := in.borrow(ctx)
	if err != nil {
		return api.Reply{}, err
	}
	defer in.giveBack(ctx, session)
	report, err := session.Read(ctx, forcedNames())
	if err != nil {
		return api.Reply{}, unavailable("reading the server's state", err)
	}
	if wrong := checkForced(report); wrong != "" {
		return api.Reply{}, refuse(api.ErrorPrecondition, "a forced setting is not in force: %s", wrong)
	}
	if err := in.leaveChannel(ctx, session, report); err != nil {
		return api.Reply{}, err
	}
	if err := in.mustHaveApplied(ctx, session); err != nil {
		return api.Reply{}, err
	}
	if err := in.setAckCount(ctx, session, req.AckCount); err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// unavailable is the answer when mysqld failed to do something in time.
func unavailable(doing string, err error) *api.Error {
	return refuse(api.ErrorUnavailable, "%s: %v", doing, err)
}

// mustBePrimary refuses unless the record has chosen this very incarnation.
func (in *instance) mustBePrimary(record *v1beta1.ReplicationRecord) error {
	mine := in.snapshot().Incarnation
	if record.Primary == nil || record.Primary.Incarnation != mine || record.Phase == v1beta1.RecordClaimed {
		return refuse(api.ErrorPrecondition, "the record of epoch %d has not chosen this incarnation", record.Epoch)
	}
	return nil
}

// leaveChannel ends being a replica. Everything received must have been applied: what the relay log alone holds was
// acknowledged, and goes with the channel.
func (in *instance) leaveChannel(ctx context.Context, session *mysql.Session, report *mysql.Report) error {
	if err := session.SetGlobal(ctx, "rpl_semi_sync_replica_enabled=OFF"); err != nil {
		return unavailable("leaving the role of a replica", err)
	}
	if report.Channel == nil {
		return nil
	}
	if err := closeGates(ctx, session, report); err != nil {
		return unavailable("closing to clients", err)
	}
	if err := session.StopReceiver(ctx); err != nil {
		return unavailable("leaving the old source", err)
	}
	if err := in.mustHaveApplied(ctx, session); err != nil {
		return err
	}
	if err := in.haltApplier(ctx, session, report.Channel); err != nil {
		return err
	}
	if err := in.mustHaveApplied(ctx, session); err != nil {
		return err
	}
	if err := session.DropChannel(ctx); err != nil {
		return unavailable("leaving the old source", err)
	}
	return in.save(func(d *state.Durable) { d.ChannelHash, d.FreshClone = "", false })
}

// mustHaveApplied refuses unless everything received is applied, what was received when the instance was fenced for this
// epoch included.
func (in *instance) mustHaveApplied(ctx context.Context, session *mysql.Session) error {
	report, err := session.Read(ctx, nil)
	if err != nil {
		return unavailable("reading the server's state", err)
	}
	received := report.Received
	d := in.snapshot()
	if f := in.fencedFor(d.PromisedEpoch, d.PromisedClaim); f != nil && f.Received != "" {
		received += "," + f.Received
	}
	applied, err := session.Contains(ctx, report.GTIDExecuted, received)
	if err != nil {
		return unavailable("comparing what is received and applied", err)
	}
	if !applied {
		return refuse(api.ErrorPrecondition, "received transactions are not applied yet")
	}
	return nil
}

// setAckCount brings source semi-sync to k and reads it back. k is on disk before it grows in mysqld, and shrinks on
// disk only after: a primary that restarts must never ask for less than what it promised to its clients.
func (in *instance) setAckCount(ctx context.Context, session *mysql.Session, k int32) error {
	before := in.snapshot()
	err := in.save(func(d *state.Durable) {
		d.AckCount = max(before.AckCount, k)
		if k > 0 {
			d.LedStart = d.StartedID // from here on a graceful stop could acknowledge what no replica has
		}
	})
	if err != nil {
		return err
	}
	if k == 0 {
		err = session.SetGlobal(ctx, "rpl_semi_sync_source_enabled=OFF")
	} else {
		err = session.SetGlobal(ctx, fmt.Sprintf("rpl_semi_sync_source_wait_for_replica_count=%d", k), "rpl_semi_sync_source_enabled=ON")
	}
	if err != nil {
		return unavailable("setting semi-sync", err)
	}
	report, err := session.Read(ctx, nil)
	if err != nil {
		return unavailable("reading semi-sync back", err)
	}
	if wrong := wrongSemiSync(report, k); wrong != "" {
		return refuse(api.ErrorUnavailable, "semi-sync did not take effect: %s", wrong)
	}
	in.publish(in.serverStart(), report, nil)
	now := countersOf(report)
	return in.save(func(d *state.Durable) {
		d.AckCount = k
		if before.AckCount == 0 {
			// Semi-sync was off: its counters begin to mean something now. While it is on, an old baseline must stay, or growth
			// since the last look would be hidden.
			d.OpenNoTx, d.OpenNoTimes = now.noTx, now.noTimes
		}
	})
}

// wrongSemiSync says what is not as k demands, "" when all is.
func wrongSemiSync(r *mysql.Report, k int32) string {
	switch on := r.On("rpl_semi_sync_source_enabled"); {
	case k == 0 && on:
		return "it is on"
	case k == 0:
		return ""
	case !on:
		return "it is off"
	case r.Status["Rpl_semi_sync_source_status"] != "ON":
		return "its status is OFF"
	case ackCountOf(r) != k:
		return fmt.Sprintf("it waits for %d acknowledgements instead of %d", ackCountOf(r), k)
	}
	return ""
}
