// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/pki"
	"github.com/moco-mysql/moco/test/mysqld"
)

// fileSize waits until there is a file and returns its size.
func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	deadline := time.Now().Add(mysqld.Patience)
	for {
		info, err := os.Stat(path)
		if err == nil {
			return info.Size()
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestClone takes one recipient through everything that can go wrong before it succeeds.
func TestClone(t *testing.T) {
	t.Parallel()
	donor := mysqld.NewInstance(t, &lab, "donor")
	donor.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(donor)
	root := donor.Session(donor.Endpoint("root", c.Passwords["root"]))
	execAll(t, root, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY, v LONGBLOB)",
		"INSERT INTO d.t SELECT 1, REPEAT('x', 30000000)", "INSERT INTO d.t SELECT 2, REPEAT('y', 30000000)")

	recipient := mysqld.NewInstance(t, &lab, "recipient")
	recipient.Conf.CloneStall = 3 * time.Second
	recipient.Start()
	c.Do(recipient, api.CommandConfigure, c.Configuration(recipient))
	first := recipient.Status().Incarnation

	t.Run("a voter is not cloned over", func(t *testing.T) {
		c.Do(donor, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
		if reason := c.Refused(donor, api.CommandClone, &api.CloneRequest{Donor: c.Donor(donor)}); reason != api.ErrorPrecondition {
			t.Errorf("refused as %q, want Precondition", reason)
		}
	})
	t.Run("a donor that goes away fails the clone, which can be begun again", func(t *testing.T) {
		source, _ := throttled(t, c, donor, 8<<20)
		status := failedClone(t, c, recipient, source)
		if status.Task.Busy || status.Task.BytesTotal < 60_000_000 {
			t.Errorf("status %s", mysqld.Describe(status))
		}
	})
	t.Run("a donor that serves another is busy", func(t *testing.T) { donorBusy(t, c, donor, recipient) })
	t.Run("a donor with a certificate of a stranger is refused", func(t *testing.T) {
		other := *c
		req := other.Configuration(recipient)
		stranger, err := pki.NewCA(time.Now(), pki.CARequest{CommonName: "stranger", Validity: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		req.CA, req.Hash = string(stranger.CertPEM()), "stranger"
		c.Do(recipient, api.CommandConfigure, req)
		status := failedClone(t, c, recipient, c.Donor(donor))
		if !strings.Contains(status.Task.Error, "SSL") {
			t.Errorf("task failed for another reason: %s", status.Task.Error)
		}
	})
	c.Clone(recipient, donor)
	status := recipient.Status()
	if status.Task.BytesDone != status.Task.BytesTotal {
		t.Errorf("progress %s", mysqld.Describe(status.Task))
	}
	if status.Incarnation == first || status.Server.ServerUUID == donor.Status().Server.ServerUUID || status.Server.ServerID == donor.Status().Server.ServerID {
		t.Errorf("the clone is not an instance of its own: %s", mysqld.Describe(status))
	}
	c.Follow(recipient, donor, api.AckOff)
	c.Open(recipient)
	reader := recipient.Session(recipient.Endpoint("root", c.Passwords["root"]))
	awaitSQL(t, reader, "60000000", "SELECT SUM(LENGTH(v)) FROM d.t")
	if left, err := filepath.Glob(filepath.Join(recipient.Conf.DataRoot, "*.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Run("a clone of a replica does not go on with its channel", func(t *testing.T) {
		third := mysqld.NewInstance(t, &lab, "third")
		third.Start()
		c.Clone(third, recipient)
		c.Follow(third, donor, api.AckOff)
		execAll(t, root, "CREATE TABLE d.later (i INT PRIMARY KEY)", "INSERT INTO d.later VALUES (7)")
		c.Open(third)
		awaitSQL(t, third.Session(third.Endpoint("root", c.Passwords["root"])), "7", "SELECT i FROM d.later")
	})
}

// failedClone begins a clone and waits until it failed.
func failedClone(t *testing.T, c *mysqld.Cluster, i *mysqld.Instance, donor api.Source) *api.Status {
	t.Helper()
	c.Do(i, api.CommandClone, &api.CloneRequest{Donor: donor})
	status := i.Await("the clone ends", func(s *api.Status) bool {
		return s.Task != nil && s.Task.State != api.TaskRunning && s.Volume != api.VolumeFilling
	})
	if status.Task.State != api.TaskFailed || status.Volume != api.VolumeEmpty {
		t.Fatalf("the clone did not fail: %s", mysqld.Describe(status))
	}
	return status
}

func donorBusy(t *testing.T, c *mysqld.Cluster, donor, recipient *mysqld.Instance) {
	other := mysqld.NewInstance(t, &lab, "other")
	other.Start()
	c.Do(other, api.CommandConfigure, c.Configuration(other))
	source, reached := throttled(t, c, donor, 8<<20)
	c.Do(other, api.CommandClone, &api.CloneRequest{Donor: source})
	<-reached
	status := failedClone(t, c, recipient, c.Donor(donor))
	if !status.Task.Busy {
		t.Errorf("status %s", mysqld.Describe(status))
	}
	other.Crash()
}

// throttled is the donor behind a relay that passes on so many bytes from it and then nothing any more, while the
// connections stay open. The channel is closed when that point is reached.
func throttled(t *testing.T, c *mysqld.Cluster, donor *mysqld.Instance, limit int64) (api.Source, <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{donor: donor.Endpoint("", "").Address, limit: limit, reached: make(chan struct{}), over: make(chan struct{})}
	t.Cleanup(func() {
		close(r.over)
		_ = listener.Close()
	})
	go r.serve(listener)
	source := c.Donor(donor)
	source.Port = int32(listener.Addr().(*net.TCPAddr).Port)
	return source, r.reached
}

type relay struct {
	donor         string
	limit         int64
	passed        atomic.Int64
	once          sync.Once
	reached, over chan struct{}
}

func (r *relay) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.donor)
		if err != nil {
			_ = client.Close()
			continue
		}
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		go r.pass(client, server)
	}
}

// pass copies from the donor up to the limit of all connections together.
func (r *relay) pass(client, server net.Conn) {
	defer func() { _ = client.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if r.passed.Add(int64(n)) > r.limit {
			r.once.Do(func() { close(r.reached) })
			<-r.over
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
