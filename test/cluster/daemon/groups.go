// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Groups is the machine's control group tree. On cgroup v1 (and the hybrid
// layout) each controller has a tree of its own, on v2 there is one.
type Groups struct {
	// Roots are the mount points: one per v1 hierarchy, or v2's alone.
	Roots []string
}

// FindGroups reads the mount points from mounts, in the form of /proc/mounts.
func FindGroups(mounts string) Groups {
	var g Groups
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") && !slices.Contains(g.Roots, f[1]) {
			g.Roots = append(g.Roots, f[1])
		}
	}
	return g
}

// Make makes the group in every hierarchy and returns its cgroup.procs files. A
// new cpuset (v1) is empty and would take no process: it is given its parent's.
func (g Groups) Make(name string) ([]string, error) {
	var procs []string
	for _, root := range g.Roots {
		dir := root
		for part := range strings.SplitSeq(name, "/") {
			delegate(dir)
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("making a control group: %w", err)
			}
			if err := inheritCpuset(dir); err != nil {
				return nil, fmt.Errorf("making a control group: %w", err)
			}
		}
		procs = append(procs, filepath.Join(dir, "cgroup.procs"))
	}
	return procs, nil
}

// delegate lets the group's children use every controller that it has: on v2
// kubelet refuses a parent without them (cgroups(7), cgroup.subtree_control). On
// v1 there is nothing to delegate, and what one controller refuses is not held
// against the others: kubelet names those that it misses.
func delegate(dir string) {
	controllers, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	for name := range strings.FieldsSeq(string(controllers)) {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0o644)
	}
}

func inheritCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || strings.TrimSpace(string(own)) != "" {
			continue
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			continue // v2: an empty one means the parent's
		}
		if err := os.WriteFile(filepath.Join(dir, file), above, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Trees returns the directories of the top-level groups with the given prefix.
func (g Groups) Trees(prefix string) []string {
	var dirs []string
	for _, root := range g.Roots {
		found, _ := filepath.Glob(filepath.Join(root, prefix+"*"))
		dirs = append(dirs, found...)
	}
	return dirs
}

// Procs returns the processes in the trees with the given prefix.
func (g Groups) Procs(prefix string) []int {
	var pids []int
	for _, tree := range g.Trees(prefix) {
		_ = filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil
			}
			content, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for s := range strings.FieldsSeq(string(content)) {
				if pid, err := strconv.Atoi(s); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// Kill ends every process in the trees with the given prefix and removes the
// trees. It fails when something is left after limit.
func (g Groups) Kill(ctx context.Context, prefix string, limit time.Duration) error {
	err := Wait(ctx, limit, func() bool {
		for _, pid := range g.Procs(prefix) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		for _, tree := range g.Trees(prefix) {
			removeTree(tree)
		}
		return len(g.Trees(prefix)) == 0
	})
	if err != nil {
		return fmt.Errorf("ending everything in %v: processes %v are left: %w", g.Trees(prefix), g.Procs(prefix), err)
	}
	return nil
}

// A control group's directory can be removed only when it has no child; its
// files go with it.
func removeTree(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	_ = os.Remove(dir)
}
