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
)

const (
	// resumeInterval is how often the agent looks whether there is something to resume.
	resumeInterval = 500 * time.Millisecond
	// resumeTimeout bounds one step.
	resumeTimeout = 20 * time.Second
)

// attended counts a reader of the status stream until the returned function is called.
func (a *Agent) attended() func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readers++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.readers--
		a.alone = time.Now()
	}
}

// aloneFor says for how long nobody has read the status stream; a.mu is held.
func (a *Agent) aloneFor(now time.Time) time.Duration {
	if a.readers > 0 {
		return 0
	}
	return now.Sub(a.alone)
}

// resumption is what one attempt to resume has come to.
type resumption struct {
	// start is the start of mysqld on which marker was begun, "" for none.
	start, marker string
	// started is when mysqld was last started: one that fails is not started over and over.
	started time.Time
}

// anew forgets the marker.
func (r resumption) anew() resumption { return resumption{started: r.started} }

// keepResuming brings the instance back to what it was last shown to be when no coordinator is there to do it: an open
// primary that is closed, for whatever reason, opens again in the same epoch, and its replica follows it again. Everything
// is done by the commands a coordinator would send, under the envelope of the kept record, so that each step is refused
// once something higher is promised. If the voters were fenced by a takeover, the marker is never acknowledged and the
// instance stays closed.
func (in *instance) keepResuming() {
	logger := klog.FromContext(in.ctx)
	timer := time.NewTimer(resumeInterval)
	defer timer.Stop()
	var now resumption
	for {
		select {
		case <-in.ctx.Done():
			return
		case <-timer.C:
		}
		next := resumeInterval
		done, err := in.resume(now)
		if now = done; err != nil && in.ctx.Err() == nil {
			logger.Info("Resuming without a coordinator failed, trying again", "err", err)
			next = in.cfg.ResumeAfter
		}
		timer.Reset(next)
	}
}

// resume takes the next step, if there is one to take.
func (in *instance) resume(now resumption) (resumption, error) {
	if in.role() == resumeNothing {
		return now.anew(), nil
	}
	ctx, cancel := context.WithTimeout(in.ctx, resumeTimeout)
	defer cancel()
	if err := in.take(ctx); err != nil {
		return now, nil // a command is being carried out: somebody sees to the instance
	}
	defer func() { <-in.slot }()
	in.setRunning(running{epoch: in.snapshot().PromisedEpoch, cancel: cancel}) // a takeover does not wait for this
	defer in.setRunning(running{})
	start := in.serverStart()
	role := in.role()
	switch {
	case role == resumeNothing:
		return now.anew(), nil
	case start == "" && time.Since(now.started) < in.cfg.ResumeAfter:
		return now, nil
	case start == "":
		klog.FromContext(ctx).Info("Starting mysqld without a coordinator")
		_, err := in.start(ctx, &api.StartRequest{Envelope: in.ownEnvelope()})
		return resumption{started: time.Now()}, wrapResume("starting mysqld", err)
	case !in.answers():
		return now, nil
	case role == resumeReplica:
		return now.anew(), wrapResume("following", in.refollow(ctx))
	case now.start != start:
		return in.relead(ctx, now, start)
	}
	return in.reopen(ctx, now)
}

func wrapResume(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// resumeRole is what an instance may resume by itself.
type resumeRole int

const (
	resumeNothing resumeRole = iota
	resumePrimary
	resumeReplica
)

// role says what there is to resume now: nothing while a coordinator reads the status stream or has read it lately, nor
// when the instance is what it ought to be.
func (in *instance) role() resumeRole {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	attended := in.agent.aloneFor(time.Now()) < in.cfg.ResumeAfter
	if attended || in.agent.terminating || in.config == nil || in.file == nil || in.closesLocked() {
		return resumeNothing
	}
	role := resumable(in.durable)
	switch start := in.serverStartLocked(); {
	case start == "" || in.server == nil:
		return role
	case role == resumePrimary && in.durable.OpenStart == start && in.durable.OpenPrimary && isOpen(in.server):
		return resumeNothing
	case role == resumeReplica && (in.server.Channel == nil || in.server.Channel.Receiver != "No"):
		return resumeNothing
	}
	return role
}

func isOpen(s *api.Server) bool { return !s.SuperReadOnly && !s.OfflineMode }

// resumable says what the kept record makes of the instance: only the record of an epoch that was opened, with nothing
// promised beyond it, says anything.
func resumable(d state.Durable) resumeRole {
	r := d.Record
	if r == nil || r.Phase != v1beta1.RecordOpened || r.Primary == nil || r.LastOpened == nil {
		return resumeNothing
	}
	if r.Epoch != d.PromisedEpoch || r.Claim != d.PromisedClaim || r.LastOpened.Epoch != r.Epoch {
		return resumeNothing
	}
	switch {
	case d.Unvouched != "" || d.Diverged != "" || d.Rewound != "" || admission.NeedsReturn(d, ""):
		return resumeNothing // whoever judges it needs to see the whole cluster
	case r.Primary.Incarnation == d.Incarnation:
		return resumePrimary
	case d.ChannelHash != "" && r.LastOpened.ServerUUID != "" && admission.MayAcknowledge(r, d.Incarnation):
		return resumeReplica
	}
	return resumeNothing
}

// answers says whether the running mysqld has been reported on.
func (in *instance) answers() bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.server != nil
}

// ownEnvelope is that of a command decided here and now, under the kept record.
func (in *instance) ownEnvelope() api.Envelope {
	d := in.snapshot()
	return api.Envelope{
		Epoch: d.PromisedEpoch, Claim: d.PromisedClaim, Incarnation: d.Incarnation, StateCounter: d.Counter,
		DeadlineMillis: resumeTimeout.Milliseconds(),
	}
}

// relead switches semi-sync on with the k that is kept and begins a marker. The state counter, which has just grown, makes
// an attempt that was never used.
func (in *instance) relead(ctx context.Context, now resumption, start string) (resumption, error) {
	d := in.snapshot()
	klog.FromContext(ctx).Info("Leading again without a coordinator", "epoch", d.Record.Epoch, "ackCount", d.AckCount)
	if _, err := in.lead(ctx, &api.LeadRequest{Envelope: in.ownEnvelope(), Record: *d.Record, AckCount: d.AckCount}); err != nil {
		return now.anew(), wrapResume("leading", err)
	}
	attempt := in.snapshot().Counter
	request := &api.MarkerRequest{Envelope: in.ownEnvelope(), Record: *d.Record, Attempt: attempt}
	if _, err := in.startMarker(ctx, request); err != nil {
		return now.anew(), wrapResume("beginning the marker", err)
	}
	now.start, now.marker = start, MarkerGTID(d.Record, attempt)
	return now, nil
}

// reopen opens the instance once the marker is acknowledged. One that waits is waited for, however long; one that failed is
// begun anew.
func (in *instance) reopen(ctx context.Context, now resumption) (resumption, error) {
	in.agent.mu.Lock()
	marker := copied(in.marker)
	in.agent.mu.Unlock()
	switch {
	case marker == nil || marker.GTID != now.marker:
		return now.anew(), nil // a coordinator was here meanwhile
	case marker.State == api.MarkerWaiting:
		return now, nil
	case marker.State == api.MarkerFailed:
		return now.anew(), fmt.Errorf("committing the marker: %s", marker.Error)
	}
	d := in.snapshot()
	if _, err := in.open(ctx, &api.OpenRequest{Envelope: in.ownEnvelope(), Record: *d.Record}); err != nil {
		return now.anew(), wrapResume("opening", err)
	}
	in.change(func() { in.server = nil }) // what was reported before is not true any more
	return now.anew(), nil
}

// refollow connects a replica to the primary of the kept record again. The channel says where that is, and its source's
// UUID that it is the one that opened the epoch: an address alone could be anybody's by now.
func (in *instance) refollow(ctx context.Context) error {
	in.agent.mu.Lock()
	var channel api.Channel
	if in.server != nil && in.server.Channel != nil {
		channel = *in.server.Channel
	}
	password := in.config.password(AccountReplicator)
	in.agent.mu.Unlock()
	d := in.snapshot()
	if channel.SourceUUID != d.Record.LastOpened.ServerUUID {
		return nil
	}
	_, err := in.follow(ctx, &api.FollowRequest{
		Envelope: in.ownEnvelope(), Record: *d.Record, Ack: api.AckOn,
		Source: api.Source{Host: channel.Host, Port: channel.Port, User: channel.User, Password: password},
	})
	return err
}
