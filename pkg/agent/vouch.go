// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/agent/supervise"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// loseVote notes that the instance may lack what it acknowledged. An earlier reason stays: it is what began.
func loseVote(d *state.Durable, reason string) {
	if d.Unvouched == "" || d.RelayDropped {
		d.Unvouched = reason
	}
	d.RelayDropped, d.Awaiting, d.AwaitingEpoch = false, "", 0
}

// vouch gives the vote back.
func vouch(d *state.Durable) {
	d.Unvouched, d.RelayDropped, d.Awaiting, d.AwaitingEpoch = "", false, "", 0
}

// judgeBoot takes the vote of a replica whose host was restarted, unless its mysqld had ended cleanly and the volume was
// flushed then. A binary log is flushed with every commit, a relay log is not, and after a torn file the next one's header
// claims what is lost: an instance that followed nobody has lost nothing. Nothing was saved on this host before.
func (in *instance) judgeBoot() error {
	d := in.durable
	if in.file == nil || in.volume != api.VolumeReady || d.BootID == in.cfg.BootID ||
		d.ChannelHash == "" || d.StartedID == "" || d.FlushedStart == d.StartedID {
		return nil
	}
	klog.FromContext(in.ctx).Info("Lost the vote: the host was restarted", "boot", in.cfg.BootID, "before", d.BootID)
	return in.save(func(d *state.Durable) { loseVote(d, unvouchedBoot) })
}

// noteCleanStop flushes the volume after a clean end of mysqld and notes it, which keeps the vote over a restart of the
// host.
func (in *instance) noteCleanStop(exit *supervise.Exit) {
	logger := klog.FromContext(in.ctx)
	if err := syncVolume(in.cfg.DataRoot); err != nil {
		logger.Error(err, "Flushing the volume after a clean stop failed")
		return
	}
	err := in.save(func(d *state.Durable) {
		if d.StartedID == exit.StartID {
			d.FlushedStart = exit.StartID
		}
	})
	if err != nil {
		logger.Error(err, "Noting a clean stop failed")
	}
}

// endedCleanly is the clean end of the instance's own mysqld that a change of its process shows, nil when it shows none.
func (in *instance) endedCleanly(before, next supervise.State) *supervise.Exit {
	exit := next.Exit
	if in.file == nil || !before.Running || next.Running || exit == nil || exit.StartID != before.StartID || exit.Code != 0 ||
		exit.StartID != in.snapshot().StartedID {
		return nil
	}
	return exit
}

// renounce gives the relay log of an instance without a vote up, once, when there is a primary to fetch everything from: one
// that is open, or that is chosen and has, as the coordinator saw to it, executed all that this instance claims to hold.
// Never earlier, it may be the last copy. It says whether it did.
func (in *instance) renounce(ctx context.Context, session *mysql.Session, report *mysql.Report, record *v1beta1.ReplicationRecord) (bool, error) {
	d := in.snapshot()
	if d.Unvouched == "" || d.RelayDropped || record.Primary == nil {
		return false, nil
	}
	if err := stopReceiver(ctx, session, report.Channel); err != nil {
		return false, err
	}
	if err := in.haltApplier(ctx, session, report.Channel); err != nil {
		return false, err
	}
	return true, in.dropRelayLog(ctx, session, report, d.Unvouched, "")
}

// await begins to give the vote back.
func (in *instance) await(ctx context.Context, req *api.AwaitRequest) (api.Reply, error) {
	if err := in.admitBelow(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	awaited, err := gtid.Parse(req.GTID)
	if err != nil || awaited.Count() != 1 || awaited.HighestMarkerEpoch(req.Record.ClusterUUID) != req.Epoch {
		return api.Reply{}, refuse(api.ErrorInvalid, "%q is no marker of epoch %d", req.GTID, req.Epoch)
	}
	if wrong := cannotAwait(in.snapshot()); wrong != "" {
		return api.Reply{}, refuse(api.ErrorPrecondition, "%s", wrong)
	}
	session, err := in.borrow(ctx)
	if err != nil {
		return api.Reply{}, err
	}
	defer in.giveBack(ctx, session)
	report, err := session.Read(ctx, nil)
	if err != nil {
		return api.Reply{}, unavailable("reading the server's state", err)
	}
	if wrong := notConnected(report, &req.Record); wrong != "" {
		return api.Reply{}, refuse(api.ErrorPrecondition, "%s", wrong)
	}
	known, err := session.Contains(ctx, report.Received, req.GTID)
	if err != nil {
		return api.Reply{}, unavailable("comparing GTID sets", err)
	}
	if known {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the marker %s was begun before", req.GTID)
	}
	err = in.save(func(d *state.Durable) { d.Awaiting, d.AwaitingEpoch = awaited.String(), req.Epoch })
	if err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// cannotAwait says why the vote cannot be given back now, "" when it can.
func cannotAwait(d state.Durable) string {
	switch {
	case d.Unvouched == "":
		return "the instance has its vote"
	case !d.RelayDropped:
		return "the old relay log is not given up yet"
	case d.Diverged != "":
		return "the instance has diverged"
	}
	return ""
}

// notConnected says why a replica is not connected to the open primary, "" when it is.
func notConnected(report *mysql.Report, record *v1beta1.ReplicationRecord) string {
	channel := report.Channel
	switch {
	case channel == nil:
		return "the instance follows nobody"
	case channel.Receiver != "Yes" || !channel.ApplierRunning:
		return "the instance is not connected"
	case channel.SourceUUID != record.LastOpened.ServerUUID:
		return fmt.Sprintf("the instance is connected to server %s, the primary is %s", channel.SourceUUID, record.LastOpened.ServerUUID)
	}
	return ""
}

// settle draws the conclusions from what mysqld has executed: the awaited marker gives the vote back, and what a rewind
// cut off must not be there.
func (in *instance) settle(start string, report *mysql.Report) {
	d := in.snapshot()
	if d.Awaiting == "" && d.Rewound == "" || in.serverStart() != start || d.StartedID != start {
		return
	}
	executed, err := gtid.Parse(report.GTIDExecuted)
	if err != nil {
		return
	}
	logger := klog.FromContext(in.ctx)
	regained := regainedBy(d, executed)
	survived := survivors(d, executed)
	err = in.save(func(now *state.Durable) {
		if now.StartedID != start {
			return
		}
		now.Rewound = ""
		if survived != "" {
			now.Diverged = survived
		}
		if regained && now.Awaiting == d.Awaiting {
			vouch(now)
		}
	})
	if err != nil {
		logger.Error(err, "Noting what mysqld has executed failed")
	}
}

// regainedBy says whether the awaited marker is executed. One of an earlier epoch gives nothing back.
func regainedBy(d state.Durable, executed gtid.Set) bool {
	awaited, err := gtid.Parse(d.Awaiting)
	return err == nil && !awaited.Empty() && d.AwaitingEpoch == d.PromisedEpoch && executed.Contains(awaited)
}

// survivors are the GTIDs that were cut off and are there nevertheless, but for markers: the engine had committed them
// before mysqld was killed.
func survivors(d state.Durable, executed gtid.Set) string {
	cut, err := gtid.Parse(d.Rewound)
	if err != nil {
		return ""
	}
	return cut.Intersect(executed).WithoutTagPrefix(gtid.MarkerTagPrefix).String()
}

// describeVote fills in the part of a Status that concerns the vote; agent.mu is held.
func (in *instance) describeVote(s *api.Status) {
	d := in.durable
	s.Unvouched = d.Unvouched
	if d.AwaitingEpoch == d.PromisedEpoch {
		s.Awaiting = d.Awaiting
	}
	if d.Diverged != "" {
		s.Diverged = &api.Divergence{GTIDs: d.Diverged, Quarantine: d.DivergedKept}
	}
}
