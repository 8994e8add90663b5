// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxRun bounds a run that asks for no bound of its own.
	maxRun = 10 * time.Minute
	// maxRuns bounds the runs at the same time.
	maxRuns = 4
)

// run runs the program once and returns how it ended and the head of what it printed. It ends with ctx.
func (s *supervisor) run(ctx context.Context, args []string, timeout time.Duration) (*Exit, string, error) {
	if timeout <= 0 || timeout > maxRun {
		timeout = maxRun
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, "", fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _ = read.Close() }()
	p, done, err := s.startOneoff(args, write)
	_ = write.Close()
	if err != nil {
		return nil, "", err
	}
	output := make(chan string, 1)
	go func() { output <- head(read, s.cfg.OutputLimit) }()
	status, err := s.awaitOneoff(ctx, p, done)
	// A grandchild may keep the pipe open; nobody waits for it.
	_ = read.SetReadDeadline(time.Now().Add(time.Second))
	text := <-output
	if err != nil {
		return nil, text, err
	}
	exit := exitOf(status)
	return &exit, text, nil
}

func (s *supervisor) startOneoff(args []string, output *os.File) (*process, <-chan unix.WaitStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.lock == nil:
		return nil, nil, errors.New("the volume is not locked")
	case s.state.Terminating:
		return nil, nil, errors.New("the container is terminating")
	case len(s.oneoffs) >= maxRuns:
		return nil, nil, fmt.Errorf("%d other runs are not over", len(s.oneoffs))
	}
	files := []uintptr{s.null.Fd(), output.Fd(), output.Fd(), s.lock.Fd()}
	pid, done, err := s.reaper.start(append([]string{s.cfg.Program}, args...), files)
	if err != nil {
		return nil, nil, err
	}
	p := &process{pid: pid}
	s.oneoffs[p] = struct{}{}
	return p, done, nil
}

func (s *supervisor) awaitOneoff(ctx context.Context, p *process, done <-chan unix.WaitStatus) (unix.WaitStatus, error) {
	defer func() {
		s.mu.Lock()
		delete(s.oneoffs, p)
		s.mu.Unlock()
	}()
	select {
	case status := <-done:
		return status, nil
	case <-ctx.Done():
		s.mu.Lock()
		_ = unix.Kill(p.pid, unix.SIGKILL)
		s.mu.Unlock()
		<-done
		return 0, fmt.Errorf("waiting for the run: %w", ctx.Err())
	}
}

// head reads everything and keeps the first limit bytes.
func head(from io.Reader, limit int) string {
	kept, _ := io.ReadAll(io.LimitReader(from, int64(limit)))
	_, _ = io.Copy(io.Discard, from)
	return string(kept)
}
