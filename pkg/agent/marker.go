// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// maxMarkers bounds the markers that wait at the same time. One that waits cannot be called off.
const maxMarkers = 8

// MarkerGTID names the marker transaction of an attempt to open an epoch.
func MarkerGTID(record *v1beta1.ReplicationRecord, attempt int64) string {
	return fmt.Sprintf("%s:moco_e%d:%d", record.ClusterUUID, record.Epoch, attempt)
}

// startMarker begins to commit the marker of the epoch.
func (in *instance) startMarker(ctx context.Context, req *api.MarkerRequest) (api.Reply, error) {
	gtid := MarkerGTID(&req.Record, req.Attempt)
	if in.markerIs(gtid) && req.StateCounter == in.snapshot().Counter {
		return in.unchanged(), nil
	}
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	if err := in.mustBePrimary(&req.Record); err != nil {
		return api.Reply{}, err
	}
	if req.Attempt < 1 || req.Record.ClusterUUID == "" {
		return api.Reply{}, refuse(api.ErrorInvalid, "attempt must be at least 1, and the record must have a cluster UUID")
	}
	session, err := in.connect(ctx)
	if err != nil {
		return api.Reply{}, err
	}
	before, err := in.readyForMarker(ctx, session, gtid)
	if err != nil {
		in.release(session)
		return api.Reply{}, err
	}
	marker := api.Marker{GTID: gtid, Epoch: req.Epoch, Claim: req.Claim, State: api.MarkerWaiting}
	in.change(func() {
		in.markers++
		in.marker = copied(&marker)
	})
	start := in.serverStart()
	in.work.Go(func() { in.commitMarker(session, marker, start, before) })
	return in.accepted()
}

func (in *instance) markerIs(gtid string) bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.marker != nil && in.marker.GTID == gtid && in.marker.State != api.MarkerFailed
}

// readyForMarker makes sure that the marker proves something: semi-sync is as the instance's k demands, and the GTID is
// fresh.
func (in *instance) readyForMarker(ctx context.Context, session *mysql.Session, gtid string) (counters, error) {
	in.agent.mu.Lock()
	waiting := in.markers
	in.agent.mu.Unlock()
	if waiting >= maxMarkers {
		return counters{}, refuse(api.ErrorPrecondition, "%d markers are waiting already", waiting)
	}
	report, err := session.Read(ctx, nil)
	if err != nil {
		return counters{}, unavailable("reading the server's state", err)
	}
	if wrong := wrongSemiSync(report, in.snapshot().AckCount); wrong != "" {
		return counters{}, refuse(api.ErrorPrecondition, "semi-sync is not prepared: %s", wrong)
	}
	if report.Channel != nil {
		return counters{}, refuse(api.ErrorPrecondition, "the instance is a replica")
	}
	known, err := session.Contains(ctx, report.Received, gtid)
	if err != nil {
		return counters{}, unavailable("comparing GTID sets", err)
	}
	if known {
		return counters{}, refuse(api.ErrorPrecondition, "the marker %s exists: the attempt must be fresh", gtid)
	}
	return countersOf(report), nil
}

// commitMarker commits the marker, however long it waits, and publishes how it ended. It counts only if the same mysqld
// committed it and nothing was committed without acknowledgement meanwhile.
func (in *instance) commitMarker(session *mysql.Session, marker api.Marker, start string, before counters) {
	defer in.release(session)
	err := session.CommitEmpty(in.ctx, marker.GTID)
	if err == nil {
		err = in.proveMarker(session, start, before)
	}
	in.change(func() {
		in.markers--
		latest := in.marker != nil && in.marker.GTID == marker.GTID
		// A later one may have taken its place because this one's end was not known yet; what is committed counts.
		earlier := err == nil && in.marker != nil && in.marker.State != api.MarkerCommitted && in.marker.Epoch == marker.Epoch && in.marker.Claim == marker.Claim
		if !latest && !earlier {
			return
		}
		marker.State = api.MarkerCommitted
		if err != nil {
			marker.State, marker.Error = api.MarkerFailed, err.Error()
		}
		in.marker = &marker
		in.hurry()
	})
	klog.FromContext(in.ctx).Info("Marker ended", "gtid", marker.GTID, "err", err)
}

func (in *instance) proveMarker(session *mysql.Session, start string, before counters) error {
	ctx, cancel := context.WithTimeout(in.ctx, in.cfg.StatementTimeout)
	defer cancel()
	report, err := session.Read(ctx, nil)
	if err != nil {
		return fmt.Errorf("reading the server's state after the marker: %w", err)
	}
	switch after := countersOf(report); {
	case in.agent.Terminating() || in.serverStart() != start:
		return fmt.Errorf("mysqld was ending while the marker waited")
	case in.snapshot().AckCount > 0 && after != before:
		return fmt.Errorf("transactions were committed without acknowledgement: %d, before %d", after.noTx, before.noTx)
	}
	return in.rebase(before)
}

// rebase takes the counters at the marker as those from which an open primary is watched, if semi-sync was off in the last
// opened epoch: what was on its way when it went on was counted until then, and the marker has come after all of it.
func (in *instance) rebase(now counters) error {
	d := in.snapshot()
	if d.Record == nil || d.Record.LastOpened == nil || d.Record.LastOpened.AckCount > 0 {
		return nil
	}
	return in.save(func(d *state.Durable) { d.OpenNoTx, d.OpenNoTimes = now.noTx, now.noTimes })
}
