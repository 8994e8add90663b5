// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Process is a process in a container, seen from the machine that runs the local cluster.
type Process struct {
	// PID on that machine.
	PID int
	// Start tells two processes with the same PID apart: ticks since the machine started.
	Start string
}

// ErrNoProcess says that nothing in the Pod's control group matches.
var ErrNoProcess = errors.New("no such process in the Pod; scenarios with signals need the local cluster")

// Mysqld finds the server process of an instance.
func (w *World) Mysqld(ctx context.Context, namespace, pod string) (Process, error) {
	return w.process(ctx, namespace, pod, func(arguments []string) bool { return filepath.Base(arguments[0]) == "mysqld" })
}

// Agent finds the agent of an instance.
func (w *World) Agent(ctx context.Context, namespace, pod string) (Process, error) {
	return w.process(ctx, namespace, pod, func(arguments []string) bool {
		return filepath.Base(arguments[0]) == "moco-agent" && len(arguments) > 1 && arguments[1] == "serve"
	})
}

// Controller finds the controller in one of its Pods.
func (w *World) Controller(ctx context.Context, pod string) (Process, error) {
	return w.process(ctx, SystemNamespace, pod, func(arguments []string) bool { return filepath.Base(arguments[0]) == "moco-controller" })
}

// Kubelet is the process of a node's kubelet.
func (w *World) Kubelet(node string) (Process, error) {
	return find(func(_ int, arguments []string) bool {
		return filepath.Base(arguments[0]) == "kubelet" && slices.Contains(arguments, "--hostname-override="+node)
	})
}

// Signal sends a signal to the very process that was found, never to another that got its PID.
func (p Process) Signal(signal syscall.Signal) error {
	if start, err := startOf(p.PID); err != nil || start != p.Start {
		return fmt.Errorf("process %d is gone", p.PID)
	}
	return syscall.Kill(p.PID, signal)
}

// Running counts the threads of the process that have not stopped yet. After SIGSTOP a thread that waits for the disk goes
// on until the disk has answered.
func (p Process) Running() (int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.PID))
	if err != nil {
		return 0, fmt.Errorf("listing the threads of process %d: %w", p.PID, err)
	}
	running := 0
	for _, task := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", p.PID, task.Name()))
		if err != nil {
			continue // the thread has ended
		}
		_, state, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
		if !strings.HasPrefix(state, "T") && !strings.HasPrefix(state, "t") {
			running++
		}
	}
	return running, nil
}

// process looks through the processes whose control group is the Pod's.
func (w *World) process(ctx context.Context, namespace, pod string, matches func(arguments []string) bool) (Process, error) {
	found, err := w.Pod(ctx, namespace, pod)
	if err != nil {
		return Process{}, err
	}
	uid := string(found.UID)
	process, err := find(func(pid int, arguments []string) bool { return inPod(pid, uid) && matches(arguments) })
	if err != nil {
		err = fmt.Errorf("%s: %w", pod, err)
	}
	return process, err
}

// find returns the first process of this machine that matches.
func find(matches func(pid int, arguments []string) bool) (Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return Process{}, fmt.Errorf("listing processes: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		arguments := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		if err != nil || !matches(pid, arguments) {
			continue
		}
		if start, err := startOf(pid); err == nil {
			return Process{PID: pid, Start: start}, nil
		}
	}
	return Process{}, ErrNoProcess
}

// inPod reads the control groups; systemd's driver writes the UID with underscores.
func inPod(pid int, uid string) bool {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && (strings.Contains(string(groups), "pod"+uid) || strings.Contains(string(groups), "pod"+strings.ReplaceAll(uid, "-", "_")))
}

// startOf reads field 22 of /proc/PID/stat (proc_pid_stat(5)); the fields are counted from behind the command's name.
func startOf(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return "", fmt.Errorf("reading /proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields[19], nil
}
