// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper starts processes and is the only one that waits for any: PID 1 inherits orphans and must reap them, too, and
// wait4(-1) would take the exit status from anybody else who waits.
type reaper struct {
	mu       sync.Mutex
	children map[int]chan unix.WaitStatus
}

func newReaper() *reaper { return &reaper{children: map[int]chan unix.WaitStatus{}} }

// start starts argv, whose first element is looked up on the PATH, with the given descriptors from 0 on. The channel
// gets the one exit status.
func (r *reaper) start(argv []string, files []uintptr) (int, <-chan unix.WaitStatus, error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, nil, fmt.Errorf("finding %s: %w", argv[0], err)
	}
	// The lock is held over the fork, so that the child is known before it can be reaped.
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env:   syscall.Environ(),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, nil, fmt.Errorf("starting %s: %w", path, err)
	}
	done := make(chan unix.WaitStatus, 1)
	r.children[pid] = done
	return pid, done, nil
}

// reap collects every child that has ended; to be called on each SIGCHLD.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done, ok := r.children[pid]; ok {
			delete(r.children, pid)
			done <- status
		}
	}
}
