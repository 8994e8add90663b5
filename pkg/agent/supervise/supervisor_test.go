// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const (
	patience  = 10 * time.Second
	abandoned = 500 * time.Millisecond
	// asSupervisor makes the test's own binary a supervisor: one takes over the signals and children of its process.
	asSupervisor = "MOCO_TEST_SUPERVISE"
)

func TestMain(m *testing.M) {
	dir := os.Getenv(asSupervisor)
	if dir == "" {
		goleak.VerifyTestMain(m)
		return
	}
	// PID 1 gets the orphans of its container; this one asks for them.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	err := Run(context.Background(), Config{
		Program: "/bin/sh", LockFile: filepath.Join(dir, "lock"), Socket: os.Getenv("MOCO_TEST_SOCKET"),
		Holder: Holder{PodUID: os.Getenv("MOCO_TEST_UID"), BootID: "boot"}, Abandoned: abandoned, OutputLimit: 100,
		Stdout: os.Stdout, Stderr: os.Stderr,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// pod is a supervisor process on a volume.
type pod struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string
	exited chan error
}

// newPod starts a supervisor, whose mysqld is a shell, on the volume dir.
func newPod(t *testing.T, dir, uid string) *pod {
	t.Helper()
	p := &pod{t: t, socket: filepath.Join(t.TempDir(), "s"), exited: make(chan error, 1)}
	p.cmd = exec.Command(os.Args[0]) //nolint:gosec // the test itself
	p.cmd.Env = append(os.Environ(), asSupervisor+"="+dir, "MOCO_TEST_SOCKET="+p.socket, "MOCO_TEST_UID="+uid)
	p.cmd.Stdout, p.cmd.Stderr = os.Stdout, os.Stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		p.exited <- p.cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-done
		killHolders(t, dir)
	})
	return p
}

// dial connects until it has a client that meets the condition.
func (p *pod) dial(met func(*Client) bool) *Client {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		client, err := Dial(ctx, p.socket)
		if err == nil && met(client) {
			return client
		}
		if err == nil {
			_ = client.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("connecting: %v", err)
		}
	}
}

// client connects and waits for the volume.
func (p *pod) client() *Client {
	p.t.Helper()
	client := p.dial((*Client).Locked)
	p.t.Cleanup(func() { _ = client.Close() })
	return client
}

func await(t *testing.T, c *Client, what string, met func(State) bool) State {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		state, changed := c.State()
		if met(state) {
			return state
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("waiting until %s: %+v", what, state)
		}
	}
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start starts a shell as mysqld that says that it runs by making the file ready.
func start(t *testing.T, c *Client, id, script string) {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	if err := c.Start(bounded(t), id, []string{"-c", "trap 'exit 0' TERM; touch " + ready + "; " + script}); err != nil {
		t.Fatal(err)
	}
	awaitFile(t, ready)
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s does not appear", path)
		}
	}
}

// forever runs until a signal; wait is interrupted by it.
const forever = "while :; do sleep 1 & wait $!; done"

func TestHowAProcessEndsIsPushedAtOnce(t *testing.T) {
	tests := map[string]struct {
		script string
		end    func(*testing.T, *Client)
		want   Exit
	}{
		"by itself": {script: "exit 3", want: Exit{StartID: "id", Code: 3}},
		"by an ordered stop": {
			script: forever, want: Exit{StartID: "id", Code: 0, Ordered: OpStop},
			end: func(t *testing.T, c *Client) { noError(t, c.Stop(bounded(t), "id")) },
		},
		"by an ordered kill": {
			script: forever, want: Exit{StartID: "id", Code: -1, Signal: 9, Ordered: OpKill},
			end: func(t *testing.T, c *Client) { noError(t, c.Kill(bounded(t), "id")) },
		},
		"by a crash": {script: "kill -SEGV $$", want: Exit{StartID: "id", Code: -1, Signal: 11}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newPod(t, t.TempDir(), "uid").client()
			start(t, c, "id", test.script)
			if test.end != nil {
				test.end(t, c)
			}
			state := await(t, c, "it ended", func(s State) bool { return s.Exit != nil })
			got := *state.Exit
			got.At = time.Time{}
			if diff := cmp.Diff(test.want, got); diff != "" || state.Running {
				t.Errorf("running %v, exit (-want +got):\n%s", state.Running, diff)
			}
		})
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAKillIsAnsweredAfterTheProcessWasReaped(t *testing.T) {
	c := newPod(t, t.TempDir(), "uid").client()
	pid := filepath.Join(t.TempDir(), "pid")
	start(t, c, "id", "echo $$ > "+pid+".new; mv "+pid+".new "+pid+"; "+forever)
	awaitFile(t, pid)
	text, err := os.ReadFile(pid)
	noError(t, err)
	number, err := strconv.Atoi(strings.TrimSpace(string(text)))
	noError(t, err)
	noError(t, c.Kill(bounded(t), "id"))
	if err := unix.Kill(number, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d after the answer: %v, want no such process", number, err)
	}
}

func TestAnOrderForAnotherStartEndsNothing(t *testing.T) {
	c := newPod(t, t.TempDir(), "uid").client()
	start(t, c, "present", forever)
	noError(t, c.Kill(bounded(t), "past"))
	noError(t, c.Stop(bounded(t), "past"))
	if err := c.Start(bounded(t), "next", []string{"-c", forever}); err == nil {
		t.Error("a second mysqld was started")
	}
	if state, _ := c.State(); !state.Running || state.StartID != "present" {
		t.Errorf("state %+v, want the present one to run", state)
	}
}

func TestARunIsBounded(t *testing.T) {
	c := newPod(t, t.TempDir(), "uid").client()
	exit, output, err := c.Run(bounded(t), []string{"-c", "echo out; echo err >&2; exit 4"}, patience)
	if err != nil || exit.Code != 4 || output != "out\nerr\n" {
		t.Errorf("exit %+v, output %q, error %v", exit, output, err)
	}
	if _, output, err = c.Run(bounded(t), []string{"-c", "yes | head -c 1000000"}, patience); err != nil || len(output) != 100 {
		t.Errorf("output of %d bytes, %v, want 100", len(output), err)
	}
	if _, _, err = c.Run(bounded(t), []string{"-c", forever}, 100*time.Millisecond); err == nil {
		t.Error("a run without an end was not ended")
	}
	if _, _, err = c.Run(bounded(t), []string{"-c", "true"}, patience); err != nil {
		t.Errorf("the run after it: %v", err)
	}
}

func TestATerminationIsReportedAndNotPassedOn(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			p := newPod(t, t.TempDir(), "uid")
			c := p.client()
			start(t, c, "id", forever)
			noError(t, p.cmd.Process.Signal(signal))
			state := await(t, c, "it is reported", func(s State) bool { return s.Terminating })
			if !state.Running || state.Exit != nil {
				t.Errorf("state %+v, want mysqld to run", state)
			}
			if err := c.Start(bounded(t), "next", nil); err == nil {
				t.Error("a start was carried out while terminating")
			}
			noError(t, c.Stop(bounded(t), "id"))
			p.mustExit()
		})
	}
}

func (p *pod) mustExit() {
	p.t.Helper()
	select {
	case err := <-p.exited:
		if err != nil {
			p.t.Errorf("the supervisor ended: %v", err)
		}
	case <-time.After(patience):
		p.t.Fatal("the supervisor is still there")
	}
}

func TestAnAbandonedMysqldIsKilledAndNeverStopped(t *testing.T) {
	p := newPod(t, t.TempDir(), "uid")
	c := p.dial((*Client).Locked)
	stopped := filepath.Join(t.TempDir(), "stopped")
	start(t, c, "id", "trap 'touch "+stopped+"; exit 0' TERM; "+forever)
	noError(t, c.Close())
	noError(t, p.cmd.Process.Signal(unix.SIGTERM))
	begun := time.Now()
	p.mustExit()
	if elapsed := time.Since(begun); elapsed < abandoned {
		t.Errorf("it was killed after %v, want at least %v", elapsed, abandoned)
	}
	if _, err := os.Stat(stopped); err == nil {
		t.Error("mysqld got SIGTERM")
	}
}

func TestOrphansAreReaped(t *testing.T) {
	c := newPod(t, t.TempDir(), "uid").client()
	pid := filepath.Join(t.TempDir(), "pid")
	// The shell is gone before its child, which the supervisor inherits.
	script := "(sleep 0.2 >/dev/null 2>&1 & echo $! > " + pid + ".new; mv " + pid + ".new " + pid + ")"
	if _, _, err := c.Run(bounded(t), []string{"-c", script}, patience); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(pid)
	noError(t, err)
	awaitGone(t, "/proc/"+strings.TrimSpace(string(text)))
}

// awaitGone waits until a process is not even a zombie any more.
func awaitGone(t *testing.T, path string) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s does not go", path)
		}
	}
}

func TestASecondSupervisorWaitsAndNamesTheHolder(t *testing.T) {
	volume := t.TempDir()
	first := newPod(t, volume, "uid-1")
	holder := first.client()
	start(t, holder, "id", forever)
	second := newPod(t, volume, "uid-2")
	waiting := second.dial(func(c *Client) bool { return !c.Locked() })
	defer func() { _ = waiting.Close() }()
	state := await(t, waiting, "the holder is named", func(s State) bool { return s.Holder != nil })
	if diff := cmp.Diff(&Holder{PodUID: "uid-1", BootID: "boot"}, state.Holder); diff != "" || state.Locked {
		t.Errorf("locked %v, holder (-want +got):\n%s", state.Locked, diff)
	}
	if err := waiting.Start(bounded(t), "x", nil); err == nil {
		t.Error("mysqld was started without the volume")
	}
	// The supervisor dies, mysqld and the agent live: the volume is still theirs.
	noError(t, first.cmd.Process.Kill())
	<-first.exited
	if c, _ := waiting.State(); c.Locked {
		t.Error("the volume was taken from a mysqld that lives")
	}
	mustStayLocked(t, filepath.Join(volume, "lock"))
	noError(t, holder.Close())
	mustStayLocked(t, filepath.Join(volume, "lock"))
	killHolders(t, volume)
	if c := second.client(); !c.Locked() {
		t.Error("the volume was not taken over")
	}
}

// mustStayLocked shows that nobody else can lock the file now.
func mustStayLocked(t *testing.T, path string) {
	t.Helper()
	file, err := os.Open(path)
	noError(t, err)
	defer func() { _ = file.Close() }()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("locking %s: %v, want it to be held", path, err)
	}
}

// killHolders ends the shells of this test that still hold the volume's lock.
func killHolders(t *testing.T, volume string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/fd/3")
	noError(t, err)
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || target != filepath.Join(volume, "lock") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		noError(t, err)
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.TrimSpace(string(name)) != "supervise.test" {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
