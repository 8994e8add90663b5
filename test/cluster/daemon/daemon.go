// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moco-mysql/moco/test/cluster/config"
)

const (
	stopGrace = 10 * time.Second
	pollEvery = 50 * time.Millisecond
)

// Manager knows where the daemons' pid files and logs are.
type Manager struct {
	// RunDir holds a pid file per daemon, LogDir a log file.
	RunDir, LogDir string
	// Groups are the control groups that daemons are put into.
	Groups Groups
}

func (m Manager) pidFile(name string) string { return filepath.Join(m.RunDir, name+".pid") }

// LogFile is where the daemon's output goes.
func (m Manager) LogFile(name string) string { return filepath.Join(m.LogDir, name+".log") }

// Start starts d unless it runs already. It does not wait until d serves.
func (m Manager) Start(d config.Daemon) error {
	if _, ok := m.Running(d.Name); ok {
		return nil
	}
	procs, err := m.Groups.Make(filepath.Join(config.CgroupName, d.Group))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(m.LogFile(d.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", d.Name, err)
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", shellArgs(d, procs)...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", d.Name, err)
	}
	pid := cmd.Process.Pid
	started, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("starting %s: %w", d.Name, err)
	}
	// Collected here should it end while this program runs; later init does it.
	go func() { _ = cmd.Wait() }()
	return os.WriteFile(m.pidFile(d.Name), fmt.Appendf(nil, "%d %s\n", pid, started), 0o644)
}

// A shell enters the control group before it becomes the daemon, so that no
// child of the daemon can escape it; exec keeps the pid.
func shellArgs(d config.Daemon, procs []string) []string {
	argv := d.Argv
	if d.Netns != "" {
		argv = append([]string{"nsenter", "--net=" + d.Netns}, argv...)
	}
	script := "for f in " + strings.Join(procs, " ") + "; do echo $$ > $f; done; exec \"$@\""
	return append([]string{"-c", script, d.Name}, argv...)
}

// Running returns the daemon's pid when it runs.
func (m Manager) Running(name string) (int, bool) {
	content, err := os.ReadFile(m.pidFile(name))
	if err != nil {
		return 0, false
	}
	var pid int
	var started string
	if _, err := fmt.Sscan(string(content), &pid, &started); err != nil {
		return 0, false
	}
	now, err := startTime(pid)
	return pid, err == nil && now == started
}

// Stop ends the daemon, first politely, then not, and removes its pid file. A
// daemon that does not run is no error.
func (m Manager) Stop(ctx context.Context, name string) error {
	if pid, ok := m.Running(name); ok {
		if err := m.end(ctx, name, pid); err != nil {
			return fmt.Errorf("stopping %s: %w", name, err)
		}
	}
	if err := os.Remove(m.pidFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stopping %s: %w", name, err)
	}
	return nil
}

func (m Manager) end(ctx context.Context, name string, pid int) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(pid, sig); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		if Wait(ctx, stopGrace, func() bool { _, ok := m.Running(name); return !ok }) == nil {
			return nil
		}
	}
	return fmt.Errorf("process %d survived SIGKILL for %s", pid, stopGrace)
}

// Names lists the daemons that have a pid file.
func (m Manager) Names() []string {
	files, _ := filepath.Glob(m.pidFile("*"))
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".pid"))
	}
	return names
}

// startTime returns when the process started, in the kernel's ticks since boot
// (proc(5), field 22 of stat); an error when it is gone or a zombie.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field, the name, may hold spaces; it ends at the last ')'.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}

// Wait asks done until it is true or limit has passed.
func Wait(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
