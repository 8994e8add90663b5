// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// supervisor is one running supervisor.
type supervisor struct {
	cfg    Config
	reaper *reaper
	// null is the standard input of every child.
	null *os.File

	mu     sync.Mutex
	state  State
	lock   *os.File // nil while the volume is not held
	server *process // the running mysqld, or nil
	// oneoffs are the runs that are not over.
	oneoffs map[*process]struct{}
	conns   map[*connection]struct{}
	// lonely is when the last connection ended, or the zero time while there is one.
	lonely time.Time
}

// process is a child.
type process struct {
	pid     int
	startID string
	ordered Op
	// gone is closed after waitpid, when exit is set.
	gone chan struct{}
	exit Exit
}

// Run supervises until the container is told to stop and no child is left, or until ctx ends, which ends nothing but
// Run: it is for tests. It takes over the signals of the whole process.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("checking the supervisor's configuration: %w", err)
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGCHLD)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("opening the children's standard input: %w", err)
	}
	defer func() { _ = null.Close() }()
	s := &supervisor{
		null: null, cfg: cfg, reaper: newReaper(), conns: map[*connection]struct{}{}, oneoffs: map[*process]struct{}{}, lonely: time.Now(),
		state: State{Version: Version},
	}
	listener, err := listen(ctx, cfg.Socket)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.accept(ctx, listener) })
	lockFailed := make(chan error, 1)
	wg.Go(func() { lockFailed <- s.waitForVolume(ctx) })
	err = s.loop(ctx, signals, lockFailed)
	cancel()
	err = errors.Join(err, listener.Close())
	s.closeConnections()
	wg.Wait()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

func listen(ctx context.Context, path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing the old socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return listener.(*net.UnixListener), nil
}

// loop handles signals until the supervisor may exit.
func (s *supervisor) loop(ctx context.Context, signals <-chan os.Signal, lockFailed <-chan error) error {
	watch := time.NewTicker(100 * time.Millisecond)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-lockFailed:
			if err != nil {
				return err
			}
			lockFailed = nil
		case sig := <-signals:
			if sig == unix.SIGCHLD {
				s.reaper.reap()
			} else {
				s.terminate(ctx, sig)
			}
		case now := <-watch.C:
			if s.finished(ctx, now) {
				return nil
			}
		}
	}
}

// waitForVolume takes the lock and lets those who connected before come back for the descriptor.
func (s *supervisor) waitForVolume(ctx context.Context) error {
	lock, err := acquire(ctx, s.cfg.LockFile, s.cfg.Holder, func(h *Holder) {
		s.change(func() { s.state.Holder = h })
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerr // told to stop; that is no failure
	}
	if err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Volume is locked", "podUID", s.cfg.Holder.PodUID)
	s.mu.Lock()
	s.lock, s.state.Locked, s.state.Holder = lock, true, nil
	s.mu.Unlock()
	s.closeConnections()
	return nil
}

// change alters the state and pushes it.
func (s *supervisor) change(alter func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	alter()
	s.push()
}

// push sends the state to every connection; s.mu is held.
func (s *supervisor) push() {
	state := s.state
	for c := range s.conns {
		c.send(Message{State: &state})
	}
}

func (s *supervisor) terminate(ctx context.Context, sig os.Signal) {
	klog.FromContext(ctx).Info("Told to stop, mysqld is not", "signal", sig.String())
	s.change(func() {
		s.state.Terminating = true
		s.lonely = latest(s.lonely, len(s.conns) == 0)
	})
}

// latest keeps the zero time while there are connections, and else starts the wait for the agent anew.
func latest(lonely time.Time, alone bool) time.Time {
	if alone {
		return time.Now()
	}
	return lonely
}

// finished says whether the supervisor may exit, and ends what must not outlive an absent agent.
func (s *supervisor) finished(ctx context.Context, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.Terminating {
		return false
	}
	for p := range s.oneoffs {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
	if s.server == nil {
		return len(s.oneoffs) == 0
	}
	abandoned := !s.lonely.IsZero() && now.Sub(s.lonely) >= s.cfg.Abandoned
	if abandoned && s.server.ordered != OpKill {
		klog.FromContext(ctx).Info("The agent is gone, killing mysqld", "startID", s.server.startID)
		s.server.ordered = OpKill
		_ = unix.Kill(s.server.pid, unix.SIGKILL)
	}
	return false
}

// start starts mysqld under the id its agent chose, or one made here.
func (s *supervisor) start(ctx context.Context, startID string, args []string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lock == nil:
		return "", errors.New("the volume is not locked")
	case s.state.Terminating:
		return "", errors.New("the container is terminating")
	case s.server != nil:
		return "", fmt.Errorf("mysqld runs already as %s", s.server.startID)
	}
	if startID == "" {
		startID = rand.Text()
	}
	p := &process{startID: startID, gone: make(chan struct{})}
	files := []uintptr{s.null.Fd(), s.cfg.Stdout.Fd(), s.cfg.Stderr.Fd(), s.lock.Fd()}
	pid, done, err := s.reaper.start(append([]string{s.cfg.Program}, args...), files)
	if err != nil {
		return "", err
	}
	p.pid = pid
	s.server = p
	s.state.Running, s.state.StartID, s.state.Since = true, p.startID, time.Now()
	s.push()
	klog.FromContext(ctx).Info("Started mysqld", "startID", p.startID, "pid", pid)
	go s.await(ctx, p, done)
	return p.startID, nil
}

// await takes mysqld's exit status and publishes it.
func (s *supervisor) await(ctx context.Context, p *process, done <-chan unix.WaitStatus) {
	status := <-done
	s.change(func() {
		p.exit = exitOf(status)
		p.exit.StartID, p.exit.Ordered = p.startID, p.ordered
		s.server = nil
		s.state.Running, s.state.Since, s.state.Exit = false, p.exit.At, &p.exit
	})
	close(p.gone)
	klog.FromContext(ctx).Info("mysqld ended", "startID", p.startID, "code", p.exit.Code, "signal", p.exit.Signal)
}

func exitOf(status unix.WaitStatus) Exit {
	exit := Exit{Code: status.ExitStatus(), At: time.Now()}
	if status.Signaled() {
		exit.Code, exit.Signal = -1, int(status.Signal())
	}
	return exit
}

// end sends the signal of op to mysqld and, for a kill, waits until it was reaped.
func (s *supervisor) end(ctx context.Context, op Op, startID string) error {
	s.mu.Lock()
	p := s.server
	if p == nil || startID != "" && startID != p.startID {
		s.mu.Unlock()
		return nil // it is gone already, which is what was asked for
	}
	signal := unix.SIGTERM
	if op == OpKill {
		signal = unix.SIGKILL
	}
	if p.ordered != OpKill {
		p.ordered = op
	}
	// The pid cannot have been reused: it is reaped only after s.server was found, and published under s.mu.
	err := unix.Kill(p.pid, signal)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("sending %v to mysqld: %w", signal, err)
	}
	if op != OpKill {
		return nil
	}
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
