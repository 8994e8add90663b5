// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/agent/supervise"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// instance is the agent's work on one volume, for as long as it may use it. Its context ends with the supervisor's
// connection; everything it starts is waited for before the volume is given back.
type instance struct {
	agent *Agent
	cfg   *Config
	sup   *supervise.Client
	file  *state.File // nil when the volume is unreadable

	ctx    context.Context // of everything on this volume
	cancel context.CancelFunc
	work   sync.WaitGroup
	// slot holds one token: the right to carry out a command that changes anything.
	slot chan struct{}
	// saving serialises changes of the durable state.
	saving sync.Mutex

	// The rest is guarded by agent.mu and shown in Status.
	volume  api.VolumeState
	durable state.Durable
	config  *settings // nil before the first Configure
	process supervise.State
	server  *api.Server
	// imageVersion is what mysqld --version says; imageError why it could not be asked.
	imageVersion, imageError string
	serverErr                string
	marker                   *api.Marker
	task                     *api.Task
	busyUntil, rushUntil     time.Time
	// sessions of this agent process, by connection id; markers waits for the ones that commit a marker.
	sessions map[int64]struct{}
	markers  int
	// spare is the session that the last command gave back, and spareStart the start of mysqld it belongs to.
	spare      *mysql.Session
	spareStart string
	// stopping is set when a clean stop was ordered: nobody looks at mysqld any more.
	stopping bool
	// fence is what the last fencing found, closing the last order to close, locked who was locked out.
	fence   *fence
	closing *closing
	locked  lockOuts
	// running is the command being carried out.
	running running
	// noted are what was last done to the running mysqld.
	noted noted
	// failed is the restore that failed last.
	failed failedRestore
	// stalled is how long the canary has been silent, as it is shown.
	stalled time.Duration
	// archiving is the archiver at work, or nil.
	archiving *archiving
	// binlogGTIDs are the transactions in binary logs that could be purged, as they are shown.
	binlogGTIDs string
}

// running is a command that can be called off for a higher epoch.
type running struct {
	epoch  int64
	cancel context.CancelFunc // nil while there is none
}

// noted remembers which work of the maintainer is done for which start of mysqld.
type noted struct {
	tlsStart, tlsHash           string
	accountsStart, accountsHash string
	// eventsStart and eventsEpoch are the opening behind which the scheduled events were taken over.
	eventsStart string
	eventsEpoch int64
}

// openInstance reads the volume and ends a private mysqld that an earlier agent left behind.
func openInstance(ctx context.Context, a *Agent, sup *supervise.Client) (*instance, error) {
	in := &instance{
		agent: a, cfg: &a.cfg, sup: sup, slot: make(chan struct{}, 1), sessions: map[int64]struct{}{},
	}
	in.ctx, in.cancel = context.WithCancel(ctx)
	if err := in.readVolume(); err != nil {
		in.cancel()
		return nil, err
	}
	if err := in.judgeBoot(); err != nil {
		in.cancel()
		return nil, errors.Join(err, in.closeFile())
	}
	in.process, _ = sup.State()
	if in.process.Running && in.process.StartID != in.durable.StartedID {
		klog.FromContext(ctx).Info("Killing a private mysqld that was left behind", "startID", in.process.StartID)
		if err := sup.Kill(ctx, in.process.StartID); err != nil {
			return nil, errors.Join(fmt.Errorf("killing a left-over mysqld: %w", err), in.closeFile())
		}
		in.process, _ = sup.State()
	}
	if !in.process.Running && in.file != nil {
		if err := in.resumeRewind(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Ending a rewind failed; mysqld does not start before it is ended")
		}
	}
	return in, nil
}

// run works until the supervisor is gone or the agent's context ends.
func (in *instance) run() error {
	defer in.cancel()
	in.work.Go(in.inspectImage)
	in.work.Go(in.keepExporter)
	in.work.Go(in.poll)
	in.work.Go(in.maintain)
	in.work.Go(in.keepCanary)
	in.work.Go(in.keepResuming)
	in.work.Go(in.keepArchive)
	in.work.Go(in.keepBinlogs)
	in.work.Go(in.streamSlowLog)
	in.work.Go(in.removeDiscarded)
	for {
		next, changed := in.sup.State()
		if err := in.observe(next); err != nil {
			return err
		}
		select {
		case <-in.ctx.Done():
			return nil
		case <-in.sup.Done():
			return supervise.ErrDisconnected
		case <-changed:
		}
	}
}

// observe takes the supervisor's state over. What the process does counts as a change of state.
func (in *instance) observe(next supervise.State) error {
	in.agent.mu.Lock()
	before := in.process
	in.agent.mu.Unlock()
	moved := before.Running != next.Running || before.StartID != next.StartID
	in.change(func() {
		in.process = next
		if moved {
			// A marker proves something of the mysqld that committed it, and of no later one.
			in.server, in.serverErr, in.marker = nil, "", nil
			in.stopping = in.stopping && !next.Running
			in.hurry()
		}
	})
	if next.Terminating && !in.agent.Terminating() {
		in.change(func() { in.agent.terminating = true })
		in.work.Go(in.terminate)
	}
	if exit := in.endedCleanly(before, next); exit != nil {
		in.work.Go(func() { in.noteCleanStop(exit) })
	}
	if moved && in.file != nil && in.isServer(before, next) {
		return in.save(func(d *state.Durable) { d.Counter++ })
	}
	return nil
}

// isServer says whether a change of process concerns the instance's own mysqld and not a private one.
func (in *instance) isServer(before, next supervise.State) bool {
	own := in.snapshot().StartedID
	return before.StartID == own || next.StartID == own
}

// close gives up the volume: run has returned, and no command can enter any more.
func (in *instance) close() {
	in.cancel()
	in.work.Wait()
	if in.spare != nil {
		in.spare.Close()
	}
	if err := in.closeFile(); err != nil {
		klog.FromContext(in.ctx).Error(err, "Closing the state file failed")
	}
}

func (in *instance) closeFile() error {
	if in.file == nil {
		return nil
	}
	return in.file.Close()
}

// change alters the part of the instance that Status shows.
func (in *instance) change(alter func()) { in.agent.change(alter) }

// hurry makes the poller look often for a while; agent.mu is held.
func (in *instance) hurry() {
	now := time.Now()
	in.busyUntil, in.rushUntil = now.Add(in.cfg.BusyPeriod), now.Add(rushPeriod)
}

// save changes the durable state: on disk first, then in memory.
func (in *instance) save(alter func(*state.Durable)) error {
	in.saving.Lock()
	defer in.saving.Unlock()
	next := in.snapshot()
	alter(&next)
	next.BootID = in.cfg.BootID
	if in.file == nil {
		return refuse(api.ErrorPrecondition, "the agent's state on the volume is unreadable")
	}
	if err := in.file.Save(next); err != nil {
		return refuse(api.ErrorUnavailable, "the agent's state cannot be written: %v", err)
	}
	in.change(func() { in.durable = next })
	return nil
}

// snapshot is the durable state as of now. Its Record is never changed in place.
func (in *instance) snapshot() state.Durable {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.durable
}

// serverStart returns the id of the running mysqld if it is the instance's own, else "".
func (in *instance) serverStart() string {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.serverStartLocked()
}

func (in *instance) serverStartLocked() string {
	if !in.process.Running || in.process.StartID != in.durable.StartedID {
		return ""
	}
	return in.process.StartID
}

// connect opens a session of the agent's account in the instance's mysqld. The caller gives it back with release.
func (in *instance) connect(ctx context.Context) (*mysql.Session, error) {
	if in.serverStart() == "" {
		return nil, refuse(api.ErrorPrecondition, "mysqld is not running")
	}
	session, err := in.endpoint().Connect(ctx)
	if err != nil {
		return nil, refuse(api.ErrorUnavailable, "mysqld cannot be reached: %v", err)
	}
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	in.sessions[session.ID()] = struct{}{}
	return session, nil
}

// borrow returns a session for a command: the one that the last command gave back, if it still works. While a statement
// on an account waits for an acknowledgement nobody can log in, and commands must get through then, too. The caller gives
// it back with giveBack and leaves no session variable changed.
func (in *instance) borrow(ctx context.Context) (*mysql.Session, error) {
	start := in.serverStart()
	in.agent.mu.Lock()
	session, of := in.spare, in.spareStart
	in.spare = nil
	in.agent.mu.Unlock()
	if session == nil {
		return in.connect(ctx)
	}
	patience, cancel := context.WithTimeout(ctx, in.cfg.StatementTimeout)
	defer cancel()
	if of == start && session.Exec(patience, "DO 0") == nil {
		return session, nil
	}
	in.release(session)
	return in.connect(ctx)
}

// giveBack keeps the session of a command for the next one, unless its context has ended: it was killed then.
func (in *instance) giveBack(ctx context.Context, session *mysql.Session) {
	in.agent.mu.Lock()
	kept := ctx.Err() == nil && in.spare == nil
	if kept {
		in.spare, in.spareStart = session, in.serverStartLocked()
	}
	in.agent.mu.Unlock()
	if !kept {
		in.release(session)
	}
}

// release closes a session of connect.
func (in *instance) release(session *mysql.Session) {
	session.Close()
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	delete(in.sessions, session.ID())
}

// endpoint is the administrative interface: it lets the agent in when max_connections is used up.
func (in *instance) endpoint() mysql.Endpoint {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return mysql.Endpoint{
		Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", in.cfg.AdminPort),
		User: AccountAdmin, Passwords: in.config.adminPasswords(), Encrypt: mysql.Loopback(),
	}
}

// newID makes a random identifier in the form of a UUID, version 4.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
