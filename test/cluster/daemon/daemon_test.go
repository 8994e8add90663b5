// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/test/cluster/config"
)

const soon = 10 * time.Second

// manager manages daemons below a directory of the test, in a tree of plain
// files that stands for the control groups.
func manager(t *testing.T) Manager {
	t.Helper()
	m := Manager{RunDir: t.TempDir(), LogDir: t.TempDir(), Groups: Groups{Roots: []string{t.TempDir()}}}
	t.Cleanup(func() {
		for _, name := range m.Names() {
			if err := m.Stop(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	})
	return m
}

func shell(name, script string) config.Daemon {
	return config.Daemon{Name: name, Group: "tests", Argv: []string{"/bin/sh", "-c", script}, Env: []string{"WORD=hello"}}
}

func start(t *testing.T, m Manager, d config.Daemon) int {
	t.Helper()
	if err := m.Start(d); err != nil {
		t.Fatal(err)
	}
	pid, ok := m.Running(d.Name)
	if !ok {
		t.Fatalf("%s does not run", d.Name)
	}
	return pid
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	if err := Wait(t.Context(), soon, done); err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

func TestDaemonRunsInItsGroupWithItsEnvironmentUntilItIsStopped(t *testing.T) {
	m := manager(t)
	pid := start(t, m, shell("d", "echo $WORD; exec tail -f /dev/null"))
	await(t, "its output", func() bool {
		log, _ := os.ReadFile(m.LogFile("d"))
		return string(log) == "hello\n"
	})
	procs, err := os.ReadFile(filepath.Join(m.Groups.Roots[0], config.CgroupName, "tests", "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fmt.Sprintln(pid), string(procs)); diff != "" {
		t.Errorf("the process that entered the group (-want +got):\n%s", diff)
	}
	if err := m.Stop(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Running("d"); ok {
		t.Error("it runs after Stop")
	}
	if names := m.Names(); len(names) != 0 {
		t.Errorf("pid files are left: %v", names)
	}
}

func TestStartingADaemonThatRunsLeavesItAlone(t *testing.T) {
	m := manager(t)
	d := shell("d", "exec tail -f /dev/null")
	if first, second := start(t, m, d), start(t, m, d); first != second {
		t.Errorf("pid was %d and is %d", first, second)
	}
}

func TestStartingADaemonThatDiedStartsItAgain(t *testing.T) {
	m := manager(t)
	d := shell("d", "exec tail -f /dev/null")
	first := start(t, m, d)
	if p, err := os.FindProcess(first); err != nil || p.Kill() != nil {
		t.Fatal("cannot kill it")
	}
	await(t, "its end", func() bool { _, ok := m.Running("d"); return !ok })
	if second := start(t, m, d); first == second {
		t.Errorf("pid %d is still the first", second)
	}
}

func TestAProcessThatWasGivenTheSameNumberIsNotStopped(t *testing.T) {
	m := manager(t)
	other := start(t, m, shell("other", "exec tail -f /dev/null"))
	if err := os.WriteFile(m.pidFile("d"), fmt.Appendf(nil, "%d 1\n", other), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Running("d"); ok {
		t.Error("another process is taken for the daemon")
	}
	if err := m.Stop(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Running("other"); !ok {
		t.Error("Stop ended another process")
	}
}

func TestGroupRootsAreFoundInTheMounts(t *testing.T) {
	tests := map[string]struct {
		mounts string
		want   []string
	}{
		"the hybrid layout has one per hierarchy": {
			mounts: "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n" +
				"cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n" +
				"cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
			want: []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"},
		},
		"version 2 has one": {
			mounts: "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n",
			want:   []string{"/sys/fs/cgroup"},
		},
		"a mount point that is listed twice counts once": {
			mounts: strings.Repeat("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", 2),
			want:   []string{"/sys/fs/cgroup"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, FindGroups(tt.mounts).Roots); diff != "" {
				t.Errorf("roots (-want +got):\n%s", diff)
			}
		})
	}
}

func TestANewCpusetIsGivenWhatItsParentHas(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"cpuset.cpus": "0-1\n", "cpuset.mems": "0\n", "a/cpuset.cpus": "\n", "a/cpuset.mems": "\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (Groups{Roots: []string{root}}).Make("a"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a/cpuset.cpus": "0-1\n", "a/cpuset.mems": "0\n"} {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
