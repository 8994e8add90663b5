// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

const (
	// applierPatience bounds STOP REPLICA SQL_THREAD, which may take a minute when the relay log ends within a transaction.
	// After it the applier's coordinator is killed, which undoes that transaction and ends at once.
	applierPatience = time.Second
	// haltPatience bounds the wait for an applier that was killed.
	haltPatience = 2 * time.Second
	haltInterval = 20 * time.Millisecond
)

// comeBack carries out return: it reconciles the instance with the history of the open primary.
func (in *instance) comeBack(ctx context.Context, req *api.ReturnRequest) (api.Reply, error) {
	if err := in.admitBelow(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	executed, err := gtid.Parse(req.Executed)
	if err != nil || executed.Empty() {
		return api.Reply{}, refuse(api.ErrorInvalid, "the history of the primary is %q: %v", req.Executed, err)
	}
	if in.hasProcess() {
		err = in.reconcile(ctx, &req.Record, executed)
	} else {
		err = in.judgeTail(ctx, &req.Record, executed)
	}
	if err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// admitBelow admits a command that is meant for an instance below the primary of an opened epoch, which it has promised.
// The promise comes first, because it is what fences.
func (in *instance) admitBelow(env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	d := in.snapshot()
	switch {
	case record.Phase != v1beta1.RecordOpened || record.Primary == nil || record.LastOpened == nil:
		return refuse(api.ErrorPrecondition, "the record of epoch %d is not opened", record.Epoch)
	case record.Primary.Incarnation == d.Incarnation:
		return refuse(api.ErrorPrecondition, "the record names this incarnation as primary")
	case env.Epoch > d.PromisedEpoch:
		return refuse(api.ErrorPrecondition, "epoch %d is not promised yet", env.Epoch)
	}
	return in.admit(env, record)
}

// hasProcess says whether any mysqld runs on the volume.
func (in *instance) hasProcess() bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.process.Running
}

// judgeTail judges the last binary log while mysqld is down. Only an instance that led can have written something there
// that nobody acknowledged. If it can be cut off it is; if not, mysqld recovers all of it, and is judged when it runs.
func (in *instance) judgeTail(ctx context.Context, record *v1beta1.ReplicationRecord, executed gtid.Set) error {
	in.agent.mu.Lock()
	volume := in.volume
	in.agent.mu.Unlock()
	if volume != api.VolumeReady {
		return refuse(api.ErrorPrecondition, "the volume is %s", volume)
	}
	if err := in.resumeRewind(ctx); err != nil {
		return err
	}
	if !admission.NeedsReturn(in.snapshot(), "") {
		return nil
	}
	found, err := in.findTail(record, executed)
	if err != nil {
		return err
	}
	logger := klog.FromContext(ctx)
	switch {
	case found.cut > 0 && found.obstacle == "":
		return in.rewind(ctx, found, record.Epoch)
	case found.obstacle == "":
		logger.Info("The binary log holds nothing beyond the history of the primary", "epoch", record.Epoch)
		return in.save(judged)
	}
	logger.Info("The binary log cannot be rewound", "reason", found.obstacle, "gtid", shorten(found.extra.String()), "epoch", record.Epoch)
	return in.save(func(d *state.Durable) {
		loseVote(d, unvouchedJudged)
		judged(d)
	})
}

// findTail reads the last binary log, and adds the obstacles that are not in it.
func (in *instance) findTail(record *v1beta1.ReplicationRecord, executed gtid.Set) (tail, error) {
	own, err := in.cfg.ownUUID()
	if err != nil {
		return tail{}, err
	}
	found, err := newJudge(executed, own, record.ClusterUUID).last(in.cfg)
	switch {
	case err != nil || found.cut == 0:
	case in.snapshot().RequiresOwnLog || in.ledAloneLast():
		found.obstruct("it may hold acknowledged writes")
	case own == record.LastOpened.ServerUUID:
		found.obstruct("its server UUID is that of the primary")
	}
	return found, err
}

// ledAloneLast says whether what the last mysqld wrote was acknowledged without any replica.
func (in *instance) ledAloneLast() bool {
	d := in.snapshot()
	return d.AloneStart != "" && d.AloneStart == d.StartedID
}

// reconcile compares a running instance with the open primary's history. What only the relay log holds is dropped with
// it; what was executed beyond the history is published.
func (in *instance) reconcile(ctx context.Context, record *v1beta1.ReplicationRecord, executed gtid.Set) error {
	primary := record.LastOpened.ServerUUID
	if primary == "" {
		return refuse(api.ErrorPrecondition, "the record does not say which server UUID the primary has")
	}
	session, err := in.borrow(ctx)
	if err != nil {
		return err
	}
	defer in.giveBack(ctx, session)
	report, err := in.withoutReceiver(ctx, session)
	if err != nil {
		return err
	}
	received, err := beyond(report.Received, executed, primary)
	if err != nil {
		return err
	}
	if received.Empty() {
		return in.save(func(d *state.Durable) { d.Diverged, d.DivergedKept = "", "" })
	}
	if err := in.haltApplier(ctx, session, report.Channel); err != nil {
		return err
	}
	if report, err = session.Read(ctx, nil); err != nil {
		return unavailable("reading the server's state", err)
	}
	extra, err := beyond(report.GTIDExecuted, executed, primary)
	switch {
	case err != nil:
		return err
	case extra.Empty():
		return in.dropRelayLog(ctx, session, report, unvouchedRelay, received.String())
	}
	klog.FromContext(ctx).Info("Executed transactions that the open primary does not have", "gtid", shorten(extra.String()), "epoch", record.Epoch)
	return in.save(func(d *state.Durable) { d.Diverged, d.DivergedKept = shorten(extra.String()), "" })
}

// withoutReceiver stops the receiver of an instance that does not lead and reads what it holds then.
func (in *instance) withoutReceiver(ctx context.Context, session *mysql.Session) (*mysql.Report, error) {
	report, err := session.Read(ctx, nil)
	if err != nil {
		return nil, unavailable("reading the server's state", err)
	}
	if report.On("rpl_semi_sync_source_enabled") || !report.On("super_read_only") {
		return nil, refuse(api.ErrorPrecondition, "the instance leads")
	}
	if err := stopReceiver(ctx, session, report.Channel); err != nil {
		return nil, err
	}
	if report, err = session.Read(ctx, nil); err != nil {
		return nil, unavailable("reading the server's state", err)
	}
	return report, nil
}

// beyond is what a set holds that is not in the open primary's history. Markers are left out: those of epochs that were
// never opened do no harm. So is what the primary itself has committed: it may have been received after its history was
// read, and be acknowledged by now.
func beyond(text string, executed gtid.Set, primary string) (gtid.Set, error) {
	set, err := gtid.Parse(text)
	if err != nil {
		return gtid.Set{}, fmt.Errorf("reading the server's GTIDs: %w", err)
	}
	return set.Subtract(set.OfUUID(primary)).Subtract(executed).WithoutTagPrefix(gtid.MarkerTagPrefix), nil
}

// applierThreads are the connection ids of the applier's coordinator and workers.
const applierThreads = `SELECT processlist_id FROM performance_schema.threads
 WHERE name IN ('thread/sql/replica_sql', 'thread/sql/replica_worker') AND processlist_id IS NOT NULL`

// haltApplier stops the applier within a bounded time: its threads are killed when they do not stop. A worker that waits
// for a reader's lock does not end with the coordinator alone.
func (in *instance) haltApplier(ctx context.Context, session *mysql.Session, channel *mysql.Channel) error {
	if channel == nil {
		return nil
	}
	if err := in.tryStopApplier(ctx); err == nil {
		return nil
	}
	patience, cancel := context.WithTimeout(ctx, haltPatience)
	defer cancel()
	tick := time.NewTicker(haltInterval)
	defer tick.Stop()
	for {
		ids, err := session.Column(patience, applierThreads)
		if err != nil {
			return unavailable("looking for the applier", err)
		}
		if len(ids) == 0 {
			return nil
		}
		for _, id := range ids {
			if err := session.Exec(patience, "KILL "+id); err != nil && mysql.Number(err) != mysql.ErrUnknownThread {
				return unavailable("killing the applier", err)
			}
		}
		select {
		case <-tick.C:
		case <-patience.Done():
			return unavailable("stopping the applier", patience.Err())
		}
	}
}

// tryStopApplier stops the applier in a session of its own, which is killed when it takes too long.
func (in *instance) tryStopApplier(ctx context.Context) error {
	session, err := in.connect(ctx)
	if err != nil {
		return err
	}
	defer in.release(session)
	patience, cancel := context.WithTimeout(ctx, applierPatience)
	defer cancel()
	return session.Exec(patience, "STOP REPLICA SQL_THREAD FOR CHANNEL ''")
}

// dropRelayLog puts the relay log into quarantine and removes the channel. Both threads are stopped. The vote is lost
// before anything else is.
func (in *instance) dropRelayLog(ctx context.Context, session *mysql.Session, report *mysql.Report, reason, gtids string) error {
	err := in.save(func(d *state.Durable) {
		loseVote(d, reason)
		d.ChannelHash = ""
	})
	if err != nil {
		return err
	}
	if report.Channel != nil {
		files, err := in.cfg.logFiles(mycnf.RelayLog)
		if err != nil {
			return err
		}
		about := quarantined{Reason: "dropped relay log: " + reason, GTIDs: gtids, Epoch: in.snapshot().PromisedEpoch}
		if _, err := in.cfg.keep("relay", about, files); err != nil {
			return err
		}
		if err := session.DropChannel(ctx); err != nil {
			return unavailable("dropping the relay log", err)
		}
	}
	return in.save(func(d *state.Durable) { d.RelayDropped, d.FreshClone = true, false })
}

// judged notes that what led here was judged: mysqld may start under another primary.
func judged(d *state.Durable) { d.LedStart = "" }
