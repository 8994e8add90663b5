// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// follow makes the instance a replica of the record's primary, or brings it there.
func (in *instance) follow(ctx context.Context, req *api.FollowRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	d := in.snapshot()
	if err := checkFollow(d, req); err != nil {
		return api.Reply{}, err
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
	// A replica whose source semi-sync is on makes its own applier wait for acknowledgements for ever, and switching it
	// off would acknowledge what waits.
	if report.On("rpl_semi_sync_source_enabled") || !report.On("super_read_only") {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the instance leads")
	}
	in.forgetLockOuts()
	if err := in.setAcknowledge(ctx, session, report, req.Ack); err != nil {
		return api.Reply{}, err
	}
	renounced, err := in.renounce(ctx, session, report, &req.Record)
	if err != nil {
		return api.Reply{}, err
	}
	if renounced {
		report.Channel, report.Received = nil, report.GTIDExecuted
	}
	if err := in.setSource(ctx, session, report, in.sourceOf(req), req.Source.Password); err != nil {
		return api.Reply{}, err
	}
	if err := in.mustNotShrink(ctx, session, report.Received); err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// checkFollow refuses what the record does not allow.
func checkFollow(d state.Durable, req *api.FollowRequest) error {
	switch {
	case req.Ack != api.AckOn && req.Ack != api.AckOff:
		return refuse(api.ErrorInvalid, "ack is %q", req.Ack)
	case req.Source.Host == "" || req.Source.User == "" || req.Source.Port <= 0:
		return refuse(api.ErrorInvalid, "the source has no address or no user")
	case req.Record.Primary == nil || req.Record.Phase == v1beta1.RecordClaimed:
		return refuse(api.ErrorPrecondition, "the record of epoch %d has no primary", req.Record.Epoch)
	case req.Record.Primary.Incarnation == d.Incarnation:
		return refuse(api.ErrorPrecondition, "the record names this incarnation as primary")
	case d.Diverged != "":
		return refuse(api.ErrorPrecondition, "the instance has executed transactions that no primary has")
	case req.Ack == api.AckOn && !admission.MayAcknowledge(&req.Record, d.Incarnation):
		return refuse(api.ErrorPrecondition, "only a voter may acknowledge, and the record does not name this incarnation as one")
	}
	return nil
}

func (in *instance) sourceOf(req *api.FollowRequest) mysql.Source {
	return mysql.Source{
		Host: req.Source.Host, Port: req.Source.Port, User: req.Source.User, CA: in.cfg.own(fileCA),
	}
}

// setAcknowledge switches the right to acknowledge. A receiver asks for it when it connects, so a running one is stopped;
// setSource starts it again.
func (in *instance) setAcknowledge(ctx context.Context, session *mysql.Session, report *mysql.Report, ack api.Acknowledge) error {
	want := ack == api.AckOn
	if report.On("rpl_semi_sync_replica_enabled") == want {
		return nil
	}
	if err := stopReceiver(ctx, session, report.Channel); err != nil {
		return err
	}
	value := "OFF"
	if want {
		value = "ON"
	}
	if err := session.SetGlobal(ctx, "rpl_semi_sync_replica_enabled="+value); err != nil {
		return unavailable("switching acknowledgements", err)
	}
	return nil
}

// stopReceiver stops the receiver of a channel if it runs, and notes it there.
func stopReceiver(ctx context.Context, session *mysql.Session, channel *mysql.Channel) error {
	if channel == nil || channel.Receiver == "No" {
		return nil
	}
	if err := session.StopReceiver(ctx); err != nil {
		return unavailable("stopping the receiver", err)
	}
	channel.Receiver = "No"
	return nil
}

// setSource makes or changes the channel where that is needed and sees to it that both threads run.
func (in *instance) setSource(ctx context.Context, session *mysql.Session, report *mysql.Report, from mysql.Source, password string) error {
	d := in.snapshot()
	channel := report.Channel
	if channel != nil && d.FreshClone {
		// The channel is the donor's, cloned with its tables but without its relay log: there is nothing to lose.
		if err := session.DropChannel(ctx); err != nil {
			return unavailable("dropping the donor's channel", err)
		}
		channel = nil
	}
	hash := sourceHash(from, password)
	// The hash may outlive the channel: a command that dropped it may have ended before it could note that.
	if channel == nil || d.ChannelHash != hash {
		if err := stopReceiver(ctx, session, channel); err != nil {
			return err
		}
		if err := changeSource(ctx, session, channel, from); err != nil {
			return unavailable("setting the source", err)
		}
		if err := in.save(func(d *state.Durable) { d.ChannelHash, d.FreshClone = hash, false }); err != nil {
			return err
		}
	}
	if err := session.StartApplier(ctx); err != nil {
		return unavailable("following", err)
	}
	if d.ChannelHash == hash && channel != nil && channel.Receiver != "No" {
		return nil
	}
	if err := session.StartReceiver(ctx, from.User, password); err != nil {
		return unavailable("following", err)
	}
	return in.hasten(ctx, session, from.User, password)
}

const (
	// connectPatience is how long a receiver is watched that has just begun to connect, connectInterval how often.
	connectPatience = 300 * time.Millisecond
	connectInterval = 10 * time.Millisecond
	// maxHaste bounds how often it is started anew.
	maxHaste = 3
)

// hasten starts a receiver anew whose first attempt to connect failed: by itself it would wait a second, the least that
// SOURCE_CONNECT_RETRY can be, and writes wait with it. A candidate that closes to its clients at this moment turns away
// who is just logging in.
func (in *instance) hasten(ctx context.Context, session *mysql.Session, user, password string) error {
	watching, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	tick := time.NewTicker(connectInterval)
	defer tick.Stop()
	for begun := 0; begun < maxHaste; {
		report, err := session.Read(ctx, nil)
		if err != nil {
			return unavailable("reading the server's state", err)
		}
		channel := report.Channel
		if channel == nil || channel.Receiver != "Connecting" {
			return nil
		}
		if channel.ReceiverErrno != 0 {
			begun++
			if err := session.StopReceiver(ctx); err != nil {
				return unavailable("stopping the receiver", err)
			}
			if err := session.StartReceiver(ctx, user, password); err != nil {
				return unavailable("following", err)
			}
		}
		select {
		case <-tick.C:
		case <-watching.Done():
			return nil // it goes on by itself
		}
	}
	return nil
}

// changeSource makes the channel, or repoints it under a running applier: with both threads stopped MySQL would drop the
// relay log.
func changeSource(ctx context.Context, session *mysql.Session, channel *mysql.Channel, from mysql.Source) error {
	if channel == nil {
		return session.NewChannel(ctx, from)
	}
	if err := session.StartApplier(ctx); err != nil {
		return err
	}
	return session.Repoint(ctx, from)
}

// sourceHash identifies a source with its credentials, which the server does not tell.
func sourceHash(from mysql.Source, password string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%s\n%s\n%s", from.Host, from.Port, from.User, password, from.CA))
	return hex.EncodeToString(sum[:8])
}

// mustNotShrink makes sure that nothing received was lost by the change.
func (in *instance) mustNotShrink(ctx context.Context, session *mysql.Session, before string) error {
	report, err := session.Read(ctx, nil)
	if err != nil {
		return unavailable("reading the server's state", err)
	}
	kept, err := session.Contains(ctx, report.Received, before)
	if err != nil {
		return unavailable("comparing what was received", err)
	}
	if !kept {
		if err := in.save(func(d *state.Durable) { loseVote(d, unvouchedShrunk) }); err != nil {
			return err
		}
		// Stopped, so that the next command gives up the rest of the relay log and begins anew.
		if err := session.StopReceiver(ctx); err != nil {
			return unavailable("stopping the receiver", err)
		}
		return refuse(api.ErrorPrecondition, "the relay log lost transactions it had received")
	}
	return nil
}
