// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// poller is what the poll loop keeps between two looks at one start of mysqld.
type poller struct {
	start   string
	session *mysql.Session // nil when there is none to go on with
	quiet   quiet
}

const (
	// rushInterval is the time between two looks for rushPeriod after a command: a takeover waits for what it does.
	rushInterval = 25 * time.Millisecond
	rushPeriod   = time.Second
)

// poll looks at mysqld until the instance's context ends: often after a change, else once a second.
func (in *instance) poll() {
	p := &poller{}
	defer func() { in.drop(p.session) }()
	for {
		changed, wait := in.pollDelay()
		if running := in.startToPoll(); running != p.start {
			in.drop(p.session)
			*p = poller{start: running}
		}
		if p.start != "" {
			in.look(p)
		}
		timer := time.NewTimer(p.quiet.wait(time.Now(), wait))
		select {
		case <-in.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-changed:
			// Somebody wrote a state; look again soon, but not in a tight loop on one's own changes.
			_, soon := in.pollDelay()
			timer.Reset(min(soon, in.cfg.BusyPollInterval))
			select {
			case <-in.ctx.Done():
				return
			case <-timer.C:
			}
		}
	}
}

// startToPoll is the start of mysqld to look at, "" for none.
func (in *instance) startToPoll() string {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	if in.stopping {
		return ""
	}
	return in.serverStartLocked()
}

// pollDelay returns what ends the wait for the next look early, if anything, and its length.
func (in *instance) pollDelay() (<-chan struct{}, time.Duration) {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	switch now := time.Now(); {
	case now.Before(in.rushUntil):
		return nil, min(rushInterval, in.cfg.BusyPollInterval)
	case now.Before(in.busyUntil):
		return in.agent.changed, in.cfg.BusyPollInterval
	}
	return in.agent.changed, in.cfg.PollInterval
}

// look reads one report and publishes it. A session that failed is given up.
func (in *instance) look(p *poller) {
	ctx, cancel := context.WithTimeout(in.ctx, in.cfg.StatementTimeout)
	defer cancel()
	var err error
	if p.session == nil {
		if p.session, err = in.connect(ctx); err != nil {
			in.publish(p.start, nil, err)
			return
		}
	}
	before := in.expected()
	report, err := p.session.Read(ctx, forcedNames())
	if err != nil {
		in.drop(p.session)
		p.session = nil
		in.publish(p.start, nil, err)
		return
	}
	now := time.Now()
	p.quiet = p.quiet.seen(now, report.Channel)
	server := serverOf(report)
	if server.Channel != nil {
		server.Channel.QuietMillis = p.quiet.millis(now)
	}
	in.show(p.start, server, "")
	in.settle(p.start, report)
	in.guard(report, before)
}

// publish shows what a look at that start of mysqld has found.
func (in *instance) publish(start string, report *mysql.Report, err error) {
	var server *api.Server
	message := ""
	if report != nil {
		server = serverOf(report)
	}
	if err != nil {
		message = err.Error()
	}
	in.show(start, server, message)
}

// show takes over what that start of mysqld reported, or why it could not, unless it is known.
func (in *instance) show(start string, server *api.Server, message string) {
	in.agent.mu.Lock()
	same := in.serverStartLocked() == start && sameServer(in.server, server) && in.serverErr == message
	in.agent.mu.Unlock()
	if same {
		return
	}
	in.change(func() {
		if in.serverStartLocked() == start {
			in.server, in.serverErr = server, message
		}
	})
}

// sameServer compares all but the uptime, which always differs.
func sameServer(a, b *api.Server) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.UptimeSeconds, y.UptimeSeconds = 0, 0
	if x.Channel == nil || y.Channel == nil {
		return x == y
	}
	sameChannel := *x.Channel == *y.Channel
	x.Channel, y.Channel = nil, nil
	return sameChannel && x == y
}

func serverOf(r *mysql.Report) *api.Server {
	id, _ := strconv.ParseUint(r.Vars["server_id"], 10, 32)
	s := &api.Server{
		Version: r.Vars["version"], ServerUUID: r.Vars["server_uuid"], ServerID: uint32(id),
		GTIDExecuted: r.GTIDExecuted, GTIDPurged: r.GTIDPurged, Received: r.Received,
		SuperReadOnly: r.On("super_read_only"), OfflineMode: r.On("offline_mode"),
		SourceSemiSync: r.On("rpl_semi_sync_source_enabled"),
		SourceActive:   r.Status["Rpl_semi_sync_source_status"] == "ON",
		AckCount:       ackCountOf(r),
		Ackers:         int32(r.Int("Rpl_semi_sync_source_clients")), NoTx: r.Int("Rpl_semi_sync_source_no_tx"),
		ReplicaSemiSync: r.On("rpl_semi_sync_replica_enabled"),
		ReplicaActive:   r.Status["Rpl_semi_sync_replica_status"] == "ON",
		UptimeSeconds:   r.Int("Uptime"),
	}
	if c := r.Channel; c != nil {
		s.Channel = &api.Channel{
			Host: c.Host, Port: c.Port, User: c.User, SourceUUID: c.SourceUUID, Receiver: c.Receiver,
			ApplierRunning: c.ApplierRunning, ReceiverError: c.ReceiverError, ReceiverErrno: c.ReceiverErrno, ApplierError: c.ApplierError, LagSeconds: c.LagSeconds,
		}
	}
	return s
}

func ackCountOf(r *mysql.Report) int32 {
	n, err := strconv.ParseInt(r.Vars["rpl_semi_sync_source_wait_for_replica_count"], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// checkForced names the first forced setting that is not in force, "" when all are.
func checkForced(r *mysql.Report) string {
	for _, s := range forced() {
		if r.Vars[s.name] != s.value {
			return fmt.Sprintf("%s is %q, it must be %q", s.name, r.Vars[s.name], s.value)
		}
	}
	if r.Vars["innodb_flush_method"] == "nosync" {
		return `innodb_flush_method is "nosync"`
	}
	return ""
}
