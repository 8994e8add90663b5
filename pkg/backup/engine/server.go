// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// initialiseTimeout bounds mysqld --initialize, startTimeout the wait for a server that recovers a clone, and stopTimeout
	// the wait for a clean end.
	initialiseTimeout = 5 * time.Minute
	startTimeout      = 30 * time.Minute
	stopTimeout       = 10 * time.Minute
	// giveUp is how long a process that is told to end because the job ends may take before it is killed.
	giveUp = 5 * time.Second
	// startRetry is the pause between two attempts to log in.
	startRetry = 50 * time.Millisecond
	// outputLimit is how much of what a program prints is kept, in bytes.
	outputLimit = 64 << 10
	// complaintLines and complaintLimit are how much of that goes into an error: so many lines of so many bytes.
	complaintLines = 3
	complaintLimit = 250
)

// process is a program that this job started. Its end is known only from wait.
type process struct {
	cmd    *exec.Cmd
	output *tail
	ended  chan struct{} // closed when it was reaped
	err    error         // of its end; to be read after ended
}

// launch starts a program in a process group of its own, so that a signal to the job does not reach it before the job
// decides; it dies with the job all the same. Output that is not given a place is kept, the last of it.
func launch(program string, args []string, prepare func(*exec.Cmd)) (*process, error) {
	p := &process{output: &tail{}, ended: make(chan struct{})}
	p.cmd = exec.Command(program, args...) //nolint:gosec,noctx // mysqld or mysqldump; who ends it is decided in stop
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if prepare != nil {
		prepare(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// wait waits for the end. When ctx ends first, the process is ended, too.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.stop(giveUp)
		return ctx.Err()
	}
	if p.err != nil {
		return fmt.Errorf("%w: %s", p.err, p.output.complaints())
	}
	return nil
}

// stop asks the process to end and kills it when it has not in time. It returns when it was reaped.
func (p *process) stop(patience time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		p.kill()
	}
}

// kill ends the process and whatever it started, at once.
func (p *process) kill() {
	if p.running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.ended
}

// running says whether the process has not been reaped.
func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// tail keeps the last of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 2*outputLimit {
		t.text = append([]byte(nil), t.text[len(t.text)-outputLimit:]...)
	}
	return len(p), nil
}

// complaints are the lines that say what was wrong, or the last lines when none does; short enough for an error.
func (t *tail) complaints() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	var bad []string
	for _, line := range lines {
		if strings.Contains(line, "[ERROR]") || strings.Contains(strings.ToLower(line), "error:") {
			bad = append(bad, line)
		}
	}
	if len(bad) == 0 {
		bad = lines
	}
	bad = slices.Clone(bad[max(0, len(bad)-complaintLines):])
	for n, line := range bad {
		bad[n] = strings.ToValidUTF8(line[:min(len(line), complaintLimit)], "")
	}
	return strings.Join(bad, "; ")
}

// private is a mysqld that nobody else can reach.
type private struct {
	*process
	endpoint mysql.Endpoint
}

// startPrivate starts mysqld and waits until the account can log in through the socket.
func (j *job) startPrivate(ctx context.Context, args []string, user, password string) (*private, error) {
	for _, stale := range []string{j.cfg.socket(), j.cfg.socket() + ".lock"} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("removing an old socket: %w", err)
		}
	}
	p, err := launch(j.cfg.Mysqld, args, nil)
	if err != nil {
		return nil, err
	}
	s := &private{process: p, endpoint: mysql.Endpoint{
		Network: "unix", Address: j.cfg.socket(), User: user, Passwords: []string{password},
	}}
	session, err := s.await(ctx)
	if err != nil {
		s.stop(giveUp)
		return nil, err
	}
	session.Close()
	return s, nil
}

func (s *private) await(ctx context.Context) (*mysql.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	retry := time.NewTicker(startRetry)
	defer retry.Stop()
	for {
		session, err := s.endpoint.Connect(ctx)
		if err == nil {
			return session, nil
		}
		select {
		case <-s.ended:
			return nil, fmt.Errorf("waiting for mysqld: it ended (%w): %s", exitOf(s.err), s.output.complaints())
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for mysqld: %w", errors.Join(ctx.Err(), err))
		case <-retry.C:
		}
	}
}

var errExited = errors.New("exit code 0")

// exitOf is how a process ended, as an error in any case.
func exitOf(err error) error {
	if err == nil {
		return errExited
	}
	return err
}

// shutdown ends mysqld cleanly, so that its files are complete.
func (s *private) shutdown(ctx context.Context) error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping mysqld: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.kill()
		return fmt.Errorf("stopping mysqld: %w", ctx.Err())
	}
	if s.err != nil {
		return fmt.Errorf("stopping mysqld: it did not end cleanly (%w): %s", s.err, s.output.complaints())
	}
	return nil
}
