// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// open lets the instance serve clients.
func (in *instance) open(ctx context.Context, req *api.OpenRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if req.Record.Phase != v1beta1.RecordOpened || req.Record.Primary == nil || req.Record.LastOpened == nil {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the record of epoch %d is not opened", req.Record.Epoch)
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
	in.endClosing()
	d := in.snapshot()
	if req.Record.Primary.Incarnation == d.Incarnation {
		err = in.openPrimary(ctx, session, report, &req.Record)
	} else {
		err = in.openReplica(ctx, session, report)
	}
	if err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// openPrimary lets clients write. That the instance is open is on disk before it is true, so that an agent that restarts
// in between goes on guarding it.
func (in *instance) openPrimary(ctx context.Context, session *mysql.Session, report *mysql.Report, record *v1beta1.ReplicationRecord) error {
	d := in.snapshot()
	k := record.LastOpened.AckCount
	if d.AckCount != k {
		return refuse(api.ErrorPrecondition, "the instance waits for %d acknowledgements, the record demands %d", d.AckCount, k)
	}
	if wrong := wrongSemiSync(report, k); wrong != "" {
		return refuse(api.ErrorPrecondition, "semi-sync: %s", wrong)
	}
	if report.Channel != nil {
		return refuse(api.ErrorPrecondition, "the instance is a replica")
	}
	marked, err := session.Contains(ctx, report.GTIDExecuted, record.LastOpened.MarkerGTID)
	if err != nil {
		return unavailable("looking for the marker", err)
	}
	if !marked || record.LastOpened.MarkerGTID == "" {
		return refuse(api.ErrorPrecondition, "the marker %q is not committed here", record.LastOpened.MarkerGTID)
	}
	if err := in.checkFilters(ctx, session); err != nil {
		return err
	}
	if err := in.noteOpen(record.Epoch, countersOf(report)); err != nil {
		return err
	}
	if err := session.SetGlobal(ctx, "read_only=OFF", "offline_mode=OFF", "event_scheduler=ON"); err != nil {
		return unavailable("opening", err)
	}
	klog.FromContext(ctx).Info("Opened as primary", "epoch", record.Epoch, "ackCount", k)
	return nil
}

// noteOpen remembers that this mysqld was opened as primary, and the counters from which it is watched. One that is opened
// again keeps the old ones, or growth since the last look would be hidden. Its marker has come after all that the log
// of an earlier mysqld holds: k replicas have it by now, and that log is no longer required.
func (in *instance) noteOpen(epoch int64, now counters) error {
	return in.save(func(d *state.Durable) {
		again := d.OpenStart == d.StartedID && d.OpenPrimary
		d.OpenStart, d.OpenEpoch, d.OpenPrimary = d.StartedID, epoch, true
		vouch(d) // what it holds is the history from now on
		if again {
			return
		}
		d.OpenNoTx, d.OpenNoTimes = now.noTx, now.noTimes
		if d.AckCount > 0 {
			d.RequiresOwnLog, d.AloneStart = false, ""
		}
	})
}

// checkFilters refuses a binary log that leaves schemas out: their writes would be acknowledged and lost. There are no
// variables that show it.
func (in *instance) checkFilters(ctx context.Context, session *mysql.Session) error {
	row, err := session.Record(ctx, "SHOW BINARY LOG STATUS")
	if err != nil {
		return unavailable("reading the binary log's filters", err)
	}
	if row["Binlog_Do_DB"] != "" || row["Binlog_Ignore_DB"] != "" {
		return refuse(api.ErrorPrecondition, "the binary log is filtered")
	}
	return nil
}

// openReplica lets clients read. super_read_only stays on, events stay off.
func (in *instance) openReplica(ctx context.Context, session *mysql.Session, report *mysql.Report) error {
	switch channel := report.Channel; {
	case channel == nil:
		return refuse(api.ErrorPrecondition, "the instance follows nobody")
	case !channel.ApplierRunning || channel.Receiver == "No":
		return refuse(api.ErrorPrecondition, "replication is not running: %s%s", channel.ReceiverError, channel.ApplierError)
	case !report.On("super_read_only"):
		return refuse(api.ErrorPrecondition, "super_read_only is off")
	}
	err := in.save(func(d *state.Durable) { d.OpenStart, d.OpenEpoch, d.OpenPrimary = d.StartedID, d.PromisedEpoch, false })
	if err != nil {
		return err
	}
	if err := session.SetGlobal(ctx, "offline_mode=OFF"); err != nil {
		return unavailable("opening", err)
	}
	klog.FromContext(ctx).Info("Opened as replica", "source", report.Channel.Host)
	return nil
}
