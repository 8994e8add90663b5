// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// Patience bounds every wait of a test that has no bound of its own.
const Patience = 60 * time.Second

// Instance is one Pod: a volume, a supervisor and an agent.
type Instance struct {
	t   testing.TB
	lab *Lab
	// Name of the Pod and its UID.
	Name, PodUID string
	// Dir holds the volume (data) and the sockets (run); log the output of supervisor and mysqld.
	Dir  string
	Conf agent.Config
	// SlowLog is what the agent inside the test has streamed.
	SlowLog Buffer
	// Client talks to the agent that runs. ProbeURL is where the agent's process serves its probes.
	Client   *agent.Client
	ProbeURL string

	supervisor *exec.Cmd
	exited     chan struct{} // closed when the supervisor was reaped
	stopAgent  func()
	control    int32 // port of the agent's process
}

// NewInstance makes a Pod on an empty volume, with free ports. Nothing runs yet.
func NewInstance(t testing.TB, lab *Lab, name string) *Instance {
	t.Helper()
	dir, err := os.MkdirTemp(lab.Dir, name)
	must(t, err)
	i := &Instance{t: t, lab: lab, Name: name, PodUID: "uid-" + filepath.Base(dir), Dir: dir}
	must(t, os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "run"), 0o755))
	i.Conf = agent.Config{
		Pod: name, PodUID: i.PodUID, BootID: "boot-1", Version: "test",
		DataRoot: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"),
		Port: freePort(t), AdminPort: freePort(t), PollInterval: 200 * time.Millisecond, TaskRetry: 100 * time.Millisecond,
		SlowLog: &i.SlowLog, TimeZones: lab.timeZones,
		// The tests are the coordinator, and seldom listen: an agent must not think that it is alone.
		ResumeAfter: time.Hour,
	}
	t.Cleanup(i.destroy)
	return i
}

// Beside makes a second Pod on the same volume, with a directory of sockets of its own.
func (i *Instance) Beside(name string) *Instance {
	i.t.Helper()
	other := NewInstance(i.t, i.lab, name)
	other.Conf.DataRoot = i.Conf.DataRoot
	return other
}

func (i *Instance) destroy() {
	i.StopAgent()
	i.killSupervisor()
	if i.t.Failed() {
		i.t.Logf("%s: log of supervisor and mysqld:\n%s", i.Name, tail(i.logFile()))
	}
	must(i.t, os.RemoveAll(i.Dir))
}

func (i *Instance) logFile() string { return filepath.Join(i.Dir, "log") }

func tail(path string) string {
	text, _ := os.ReadFile(path)
	return string(text[max(0, len(text)-8<<10):])
}

// StartSupervisor starts the supervisor process.
func (i *Instance) StartSupervisor() {
	i.t.Helper()
	log, err := os.OpenFile(i.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(i.t, err)
	defer func() { _ = log.Close() }()
	cmd := exec.Command(i.lab.Agent, "supervise", "--data-root="+i.Conf.DataRoot, "--run-dir="+i.Conf.RunDir, //nolint:gosec // own binary
		"--mysqld="+i.lab.Program, "--pod-uid="+i.PodUID, "--abandoned=3s")
	cmd.Stdout, cmd.Stderr = log, log
	must(i.t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	i.supervisor, i.exited = cmd, exited
}

// Signal sends a signal to the supervisor.
func (i *Instance) Signal(sig os.Signal) {
	i.t.Helper()
	must(i.t, i.supervisor.Process.Signal(sig))
}

// SignalServer sends a signal to mysqld, which must run.
func (i *Instance) SignalServer(sig unix.Signal) {
	i.t.Helper()
	for _, pid := range i.children() {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(command), i.Conf.ServerSocket()) {
			must(i.t, unix.Kill(pid, sig))
			return
		}
	}
	i.t.Fatalf("%s: mysqld does not run", i.Name)
}

// AwaitSupervisor waits until the supervisor has exited.
func (i *Instance) AwaitSupervisor(patience time.Duration) {
	i.t.Helper()
	select {
	case <-i.exited:
	case <-time.After(patience):
		i.t.Fatalf("%s: the supervisor is still there after %v", i.Name, patience)
	}
}

// killSupervisor ends the supervisor and everything it had started, as the end of a container does.
func (i *Instance) killSupervisor() {
	if i.supervisor == nil {
		return
	}
	_ = i.supervisor.Process.Kill()
	<-i.exited
	i.KillChildren()
}

// KillChildren ends the processes to which a supervisor handed the volume's lock, and waits until they are gone.
func (i *Instance) KillChildren() {
	deadline := time.Now().Add(Patience)
	for {
		children := i.children()
		if len(children) == 0 {
			return
		}
		for _, pid := range children {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if time.Now().After(deadline) {
			i.t.Fatalf("%s: processes %v do not end", i.Name, children)
		}
	}
}

// children lists the processes that have the lock of this volume as descriptor 3, which is where supervisors put it.
func (i *Instance) children() []int {
	links, err := filepath.Glob("/proc/[0-9]*/fd/3")
	must(i.t, err)
	var pids []int
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || target != i.Conf.LockFile() {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		must(i.t, err)
		if pid != os.Getpid() && (i.supervisor == nil || pid != i.supervisor.Process.Pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Crash ends the whole Pod at once, as the loss of its node does; the volume stays.
func (i *Instance) Crash() {
	i.t.Helper()
	i.killSupervisor()
	i.StopAgent()
	i.supervisor = nil
}

// StartAgent runs an agent inside the test, without TLS.
func (i *Instance) StartAgent() {
	i.t.Helper()
	a, err := agent.New(i.Conf)
	must(i.t, err)
	logger := klog.LoggerWithName(klog.Background(), i.Name)
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), logger))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			i.t.Errorf("%s: agent ended: %v", i.Name, err)
		}
	})
	server := httptest.NewUnstartedServer(a.ControlHandler())
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	address := server.Listener.Addr().(*net.TCPAddr)
	i.Client = agent.NewClient("127.0.0.1", int32(address.Port), nil)
	i.stopAgent = func() {
		cancel()
		i.Client.Close()
		server.CloseClientConnections()
		server.Close()
		wg.Wait()
	}
}

// StopAgent ends the agent that StartAgent started, mysqld goes on.
func (i *Instance) StopAgent() {
	if i.stopAgent != nil {
		i.stopAgent()
		i.stopAgent = nil
	}
}

// Start starts supervisor and agent and waits until the volume is the agent's.
func (i *Instance) Start() {
	i.t.Helper()
	i.StartSupervisor()
	i.StartAgent()
	i.Await("the volume is held", func(s *api.Status) bool { return s.Volume != api.VolumeWaiting })
}

var errSeen = errors.New("seen")

// Status is the agent's status as of now.
func (i *Instance) Status() *api.Status {
	i.t.Helper()
	return i.Await("a status", func(*api.Status) bool { return true })
}

// Await waits for a status that meets the condition.
func (i *Instance) Await(what string, met func(*api.Status) bool) *api.Status {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	var last *api.Status
	err := i.Client.Stream(ctx, func(s *api.Status) error {
		last = s
		if met(s) {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		i.t.Fatalf("%s: waiting until %s: %v; last status: %s", i.Name, what, err, Describe(last))
	}
	return last
}

// Endpoint is how a client reaches this mysqld over TLS.
func (i *Instance) Endpoint(user, password string) mysql.Endpoint {
	return mysql.Endpoint{
		Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", i.Conf.Port),
		User: user, Passwords: []string{password}, Encrypt: mysql.Loopback(),
	}
}

// Session opens a session that ends with the test.
func (i *Instance) Session(endpoint mysql.Endpoint) *mysql.Session {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	session, err := endpoint.Connect(ctx)
	must(i.t, err)
	i.t.Cleanup(session.Close)
	return session
}

// AwaitSession opens a session as soon as the server takes one; it ends with the test.
func AwaitSession(t testing.TB, endpoint mysql.Endpoint) *mysql.Session {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		session, err := endpoint.Connect(ctx)
		if err == nil {
			t.Cleanup(session.Close)
			return session
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the server takes no session: %v", err)
		}
	}
}

// LoseSupervisor ends supervisor and agent but not mysqld.
func (i *Instance) LoseSupervisor() {
	i.t.Helper()
	_ = i.supervisor.Process.Kill()
	<-i.exited
	i.StopAgent()
}
