// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/test/mysqld"
)

// trio is a primary with two replicas, one of whose acknowledgements every write needs.
type trio struct {
	pair
	third *mysqld.Instance
}

func newTrio(t *testing.T) trio {
	t.Helper()
	c := trio{pair: newPair(t), third: mysqld.NewInstance(t, &lab, "c")}
	c.third.Start()
	c.Clone(c.third, c.primary)
	c.Follow(c.third, c.primary, api.AckOff)
	c.Grow(c.primary, 1, c.primary, c.replica, c.third)
	c.Open(c.replica)
	c.Open(c.third)
	return c
}

// claim begins the next epoch, which nobody leads yet.
func claim(c *mysqld.Cluster) {
	c.Record.Epoch++
	c.Record.Claim = fmt.Sprintf("claim-%d", c.Record.Epoch)
	c.Record.Phase, c.Record.Primary = v1beta1.RecordClaimed, nil
}

// promise shows an instance the record and returns its status after it.
func promise(c *mysqld.Cluster, i *mysqld.Instance) *api.Status {
	c.Do(i, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
	return i.Status()
}

// wantFence fails unless the status shows the fence of the present epoch.
func wantFence(t *testing.T, c *mysqld.Cluster, s *api.Status) api.Fence {
	t.Helper()
	if s.Fence == nil || s.Fence.Epoch != c.Record.Epoch || s.Fence.Claim != c.Record.Claim {
		t.Fatalf("%s is not fenced for epoch %d: %s", s.Pod, c.Record.Epoch, mysqld.Describe(s))
	}
	return *s.Fence
}

// TestATakeoverFromALivingPrimary fences the replicas of a primary that goes on serving, then the primary itself.
func TestATakeoverFromALivingPrimary(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	root := c.root(c.primary)
	execAll(t, root, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
	before := c.Record
	claim(c.Cluster)
	c.Record.Pending = &v1beta1.Configuration{AckCount: 1, Voters: []v1beta1.Member{mysqld.Member(c.replica), mysqld.Member(c.third)}}
	var outcome <-chan error

	t.Run("fenced replicas acknowledge nothing", func(t *testing.T) {
		for _, i := range []*mysqld.Instance{c.replica, c.third} {
			begun := time.Now()
			f := wantFence(t, c.Cluster, promise(c.Cluster, i))
			t.Logf("%s was fenced in %v", i.Name, time.Since(begun))
			if f.Received == "" || f.Killed || f.Spared {
				t.Errorf("%s: fence %s", i.Name, mysqld.Describe(f))
			}
			again := promise(c.Cluster, i)
			if diff := cmp.Diff(&f, again.Fence); diff != "" {
				t.Errorf("%s: the fence after a second promise (-first +second):\n%s", i.Name, diff)
			}
		}
		outcome = commit(root, "INSERT INTO d.t VALUES (2)")
		awaitSQL(t, c.primary.Session(adminEndpoint(c.primary, c.Passwords[agent.AccountAdmin])), "1", waits)
	})
	t.Run("a replica that never promised what it is shown keeps its promise over a restart of its agent", func(t *testing.T) {
		c.third.StopAgent()
		c.third.StartAgent()
		status := c.third.Await("mysqld answers again", func(s *api.Status) bool { return s.Server != nil })
		req := c.FollowRequest(c.third, c.primary, api.AckOn)
		req.Record = before
		req.Envelope = api.Envelope{
			Epoch: before.Epoch, Claim: before.Claim, Incarnation: status.Incarnation, StateCounter: status.StateCounter, DeadlineMillis: 5000,
		}
		if _, err := c.third.Client.Command(context.Background(), api.CommandFollow, req); mysqld.Reason(err) != api.ErrorStaleEpoch {
			t.Errorf("following the old primary: %v, want StaleEpoch", err)
		}
		if status.Fence != nil {
			t.Errorf("a new agent knows of a fence: %s", mysqld.Describe(status.Fence))
		}
		wantFence(t, c.Cluster, promise(c.Cluster, c.third))
	})
	t.Run("a leader with a waiting client is killed, and the client gets no OK", func(t *testing.T) {
		status := promise(c.Cluster, c.primary)
		if f := wantFence(t, c.Cluster, status); !f.Killed || f.Spared || !status.NeedsReturn || status.Mysqld != api.MysqldDown {
			t.Errorf("status %s", mysqld.Describe(status))
		}
		if err := <-outcome; err == nil {
			t.Error("the client got an OK for a write that no replica has")
		}
		if reason := c.Refused(c.primary, api.CommandStart, &api.StartRequest{}); reason != api.ErrorPrecondition {
			t.Errorf("starting it under another primary: refused as %q, want Precondition", reason)
		}
	})
	t.Run("a candidate that is not open yet locks out who leaves", func(t *testing.T) {
		c.Choose(c.replica)
		c.Lead(c.replica, 1)
		leaver := c.primary.Status().Incarnation
		c.Do(c.replica, api.CommandLockOut, &api.LockOutRequest{Record: c.Record, Members: []string{leaver}})
		status := c.replica.Await("it is locked out", func(s *api.Status) bool { return slices.Contains(s.LockedOut, leaver) && s.Server != nil })
		if !status.Server.SuperReadOnly || !status.Server.OfflineMode {
			t.Errorf("the candidate is not closed: %s", mysqld.Describe(status))
		}
		admin := c.replica.Session(adminEndpoint(c.replica, c.Passwords[agent.AccountAdmin]))
		awaitSQL(t, admin, "Y", "SELECT account_locked FROM mysql.user WHERE user=?", api.ReplicationUser(leaver))
	})
	t.Run("the candidate leads, and has what was acknowledged and nothing else", func(t *testing.T) {
		c.lead(t, c.replica, c.third)
		awaitSQL(t, c.root(c.replica), "1", "SELECT i FROM d.t")
		execAll(t, c.root(c.replica), "INSERT INTO d.t VALUES (3)")
		awaitSQL(t, c.root(c.third), "1,3", "SELECT i FROM d.t ORDER BY i")
	})
}

// lead carries the claimed epoch to being opened with a candidate and followers that acknowledge to it.
func (p pair) lead(t *testing.T, candidate *mysqld.Instance, followers ...*mysqld.Instance) {
	t.Helper()
	p.Choose(candidate)
	p.Do(candidate, api.CommandApply, &api.ApplyRequest{Record: p.Record})
	candidate.Await("everything is applied", func(s *api.Status) bool {
		return s.Server != nil && s.Server.GTIDExecuted == s.Server.Received
	})
	p.Lead(candidate, 1)
	for _, i := range followers {
		p.Do(i, api.CommandFollow, p.FollowRequest(i, candidate, api.AckOn))
	}
	p.AwaitMarker(candidate, p.Mark(candidate, 1))
	p.Opened(1, 1, append(followers, candidate)...)
	p.Open(candidate)
	for _, i := range followers {
		p.Open(i)
	}
}

// TestALeaderIsPreparedAlthoughItsRelayLogEndsWithinATransaction cuts a big transaction in the middle: the applier would
// wait a minute for the rest of it.
func TestALeaderIsPreparedAlthoughItsRelayLogEndsWithinATransaction(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	root := p.root(p.primary)
	execAll(t, root, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY AUTO_INCREMENT, v LONGTEXT)")
	narrow := newValve(t, p.primary.Conf.Port)
	req := p.FollowRequest(p.replica, p.primary, api.AckOn)
	req.Source.Port = narrow.port
	p.Do(p.replica, api.CommandFollow, req)
	p.replica.Await("it replicates through the valve", func(s *api.Status) bool {
		return s.Server != nil && s.Server.Channel != nil && s.Server.Channel.Port == narrow.port && s.Server.Channel.Receiver == "Yes"
	})
	execAll(t, root, "INSERT INTO d.t VALUES (1, 'whole')")

	narrow.letThrough(3 << 20)
	outcome := commit(root, "INSERT INTO d.t (v) VALUES "+strings.Repeat("(REPEAT('x', 1000000)),", 7)+"(REPEAT('x', 1000000))")
	<-narrow.drained
	claim(p.Cluster)
	promise(p.Cluster, p.primary)
	if err := <-outcome; err == nil {
		t.Error("the client got an OK for a write that no replica has")
	}
	wantFence(t, p.Cluster, promise(p.Cluster, p.replica))
	p.Choose(p.replica)
	p.Do(p.replica, api.CommandApply, &api.ApplyRequest{Record: p.Record})
	begun := time.Now()
	p.Lead(p.replica, 1)
	elapsed := time.Since(begun)
	t.Logf("prepared in %v", elapsed)
	if elapsed > 3*time.Second {
		t.Errorf("it took %v to prepare it", elapsed)
	}
	if elapsed < time.Second {
		t.Errorf("it took only %v: the applier was not within the transaction, and this shows nothing", elapsed)
	}
	awaitSQL(t, p.replica.Session(adminEndpoint(p.replica, p.Passwords[agent.AccountAdmin])), "1", "SELECT i FROM d.t")
}

// valve is a way to a mysqld that lets everything through until it is told to stop after so many bytes.
type valve struct {
	port    int32
	drained chan struct{} // closed when nothing more gets through

	mu    sync.Mutex
	left  int64
	tight bool
	once  sync.Once
}

func newValve(t *testing.T, to int32) *valve {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{port: int32(listener.Addr().(*net.TCPAddr).Port), drained: make(chan struct{})}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				_ = client.Close()
				continue
			}
			stop := context.AfterFunc(closing(done), func() { _, _ = client.Close(), server.Close() })
			wg.Go(func() {
				defer stop()
				_, _ = io.Copy(server, client)
				_ = server.Close()
			})
			wg.Go(func() {
				v.copy(client, server, done)
				_ = client.Close()
			})
		}
	})
	t.Cleanup(func() {
		close(done)
		_ = listener.Close()
		wg.Wait()
	})
	return v
}

// closing is a context that ends when done is closed.
func closing(done <-chan struct{}) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-done
		cancel()
	}()
	return ctx
}

func (v *valve) letThrough(bytes int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.left, v.tight = bytes, true
}

func (v *valve) copy(to io.Writer, from io.Reader, done <-chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		v.mu.Lock()
		v.left -= int64(n)
		empty := v.tight && v.left < 0
		v.mu.Unlock()
		if empty {
			v.once.Do(func() { close(v.drained) })
			<-done // the connection stays, and nothing more comes
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// idle opens sessions of the tenant that do nothing.
func (p pair) idle(i *mysqld.Instance, n int) []*mysql.Session {
	sessions := make([]*mysql.Session, n)
	for k := range sessions {
		sessions[k] = p.root(i)
	}
	return sessions
}

// TestAnOpenPrimaryThatIsAloneIsFencedLikeAnyOther takes the lead from a primary that acknowledges without semi-sync: it
// must not go on, and what it wrote alone is never cut off.
func TestAnOpenPrimaryThatIsAloneIsFencedLikeAnyOther(t *testing.T) {
	t.Parallel()
	c := mysqld.NewCluster(t, &lab)
	i := mysqld.NewInstance(t, &lab, "a")
	i.Start()
	c.Bootstrap(i)
	claim(c)
	fence := wantFence(t, c, promise(c, i))
	if !fence.Killed || i.Status().Mysqld != api.MysqldDown {
		t.Errorf("an open primary was fenced as %+v, and mysqld is %s", fence, i.Status().Mysqld)
	}
	if i.Status().NeedsReturn {
		t.Error("what it acknowledged alone would be judged, and cut off")
	}
}
