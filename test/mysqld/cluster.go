// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
	"github.com/moco-mysql/moco/pkg/pki"
)

// MyCnf renders the option file of an instance with small sizes. Paths and ports are those of a Pod: the agent's own, on
// mysqld's command line, win.
func MyCnf() string {
	in := mycnf.DefaultInput()
	in.ServerID, in.Version, in.MemoryBytes, in.MilliCPU = 1, mycnf.MinVersion, 512<<20, 1000
	in.User = map[string]string{
		"innodb_redo_log_capacity": "32M", "innodb_buffer_pool_size": "64M", "max_connections": "50",
	}
	return mycnf.Render(in)
}

// Cluster is the coordinator's side of a test.
type Cluster struct {
	t   testing.TB
	lab *Lab
	// Record as last decided by the test.
	Record v1beta1.ReplicationRecord
	// Passwords by account.
	Passwords map[string]string
	// Application is the account of bootstrap.user, or nil.
	Application *api.Account
	// MyCnf is the option file.
	MyCnf string
	// Archive is where the primary archives, or nil.
	Archive *wire.Archive
}

// NewCluster begins the record of a cluster at epoch 1, which nobody leads yet.
func NewCluster(t testing.TB, lab *Lab) *Cluster {
	c := &Cluster{t: t, lab: lab, Passwords: map[string]string{}, MyCnf: MyCnf(), Record: v1beta1.ReplicationRecord{
		Version: v1beta1.RecordVersion, Epoch: 1, Phase: v1beta1.RecordClaimed, Claim: "claim-1",
		ClusterUUID: "11111111-2222-3333-4444-555555555555",
	}}
	for _, spec := range agent.Accounts {
		c.Passwords[spec.Name] = `it's "` + spec.Name + `" \ %`
	}
	return c
}

// Configuration is the configure request for an instance.
func (c *Cluster) Configuration(i *Instance) *api.ConfigureRequest {
	c.t.Helper()
	leaf, err := c.lab.CA.Leaf(time.Now(), pki.LeafRequest{
		CommonName: i.Name, DNSNames: []string{i.Name}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Usage: pki.UsagePeer, Validity: time.Hour,
	})
	must(c.t, err)
	req := &api.ConfigureRequest{
		MyCnf: c.MyCnf, CA: string(c.lab.CA.CertPEM()), Certificate: string(leaf.CertPEM), Key: string(leaf.KeyPEM), Application: c.Application,
		Archive: c.Archive,
	}
	for _, spec := range agent.Accounts {
		req.Accounts = append(req.Accounts, api.Account{Username: spec.Name, Password: c.Passwords[spec.Name]})
	}
	text, err := json.Marshal(req)
	must(c.t, err)
	req.Hash = fmt.Sprintf("%x", text[len(text)-8:]) + leaf.Certificate.SerialNumber.String()
	return req
}

// Try sends a command whose envelope is filled in from the record and the instance's status.
func (c *Cluster) Try(i *Instance, name api.CommandName, req api.Request) (api.Reply, error) {
	c.t.Helper()
	status := i.Status()
	*req.Header() = api.Envelope{
		Epoch: c.Record.Epoch, Claim: c.Record.Claim, Incarnation: status.Incarnation,
		StateCounter: status.StateCounter, DeadlineMillis: 10_000,
	}
	return i.Client.Command(context.Background(), name, req)
}

// Do is Try for a command that must succeed. One whose state moved on meanwhile is decided anew.
func (c *Cluster) Do(i *Instance, name api.CommandName, req api.Request) api.Reply {
	c.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		reply, err := c.Try(i, name, req)
		if err == nil {
			return reply
		}
		var refused *api.Error
		if !errors.As(err, &refused) || refused.Reason != api.ErrorStaleState || time.Now().After(deadline) {
			c.t.Fatalf("%s: %s: %v", i.Name, name, err)
		}
	}
}

// Refused is the reason for which a command is refused.
func (c *Cluster) Refused(i *Instance, name api.CommandName, req api.Request) api.ErrorReason {
	c.t.Helper()
	_, err := c.Try(i, name, req)
	return Reason(err)
}

// Reason is the agent's reason in an error, or "".
func Reason(err error) api.ErrorReason {
	var refused *api.Error
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}

// Member names an instance in a record.
func Member(i *Instance) v1beta1.Member {
	return v1beta1.Member{Name: i.Name, Incarnation: i.Status().Incarnation}
}

// Choose makes the instance the record's primary.
func (c *Cluster) Choose(i *Instance) {
	member := Member(i)
	c.Record.Primary, c.Record.Phase = &member, v1beta1.RecordChosen
}

// Next begins the next epoch with the same primary and the given voters pending.
func (c *Cluster) Next(ackCount int32, voters ...*Instance) {
	c.Record.Epoch++
	c.Record.Claim = fmt.Sprintf("claim-%d", c.Record.Epoch)
	c.Record.Phase = v1beta1.RecordChosen
	c.Record.Pending = &v1beta1.Configuration{AckCount: ackCount}
	for _, voter := range voters {
		c.Record.Pending.Voters = append(c.Record.Pending.Voters, Member(voter))
	}
}

// Opened records that the epoch's marker is acknowledged.
func (c *Cluster) Opened(ackCount int32, attempt int64, voters ...*Instance) {
	opened := &v1beta1.OpenedEpoch{
		Configuration: v1beta1.Configuration{AckCount: ackCount}, Epoch: c.Record.Epoch, Primary: *c.Record.Primary,
		MarkerGTID: agent.MarkerGTID(&c.Record, attempt),
	}
	for _, voter := range voters {
		opened.Voters = append(opened.Voters, Member(voter))
	}
	c.Record.Phase, c.Record.LastOpened, c.Record.Pending = v1beta1.RecordOpened, opened, nil
}

// Initialise makes the first data directory and starts mysqld on it, closed.
func (c *Cluster) Initialise(i *Instance, req api.InitialiseRequest) {
	c.t.Helper()
	c.BeginInitialise(i, req)
	c.AwaitTask(i)
	c.StartServer(i)
}

// BeginInitialise configures the instance and begins to make its data directory.
func (c *Cluster) BeginInitialise(i *Instance, req api.InitialiseRequest) {
	c.t.Helper()
	c.Do(i, api.CommandConfigure, c.Configuration(i))
	c.Choose(i)
	req.Record = c.Record
	c.Do(i, api.CommandInitialise, &req)
}

// AwaitTask waits until the running task is done.
func (c *Cluster) AwaitTask(i *Instance) {
	c.t.Helper()
	status := i.Await("the task ends", func(s *api.Status) bool { return s.Task != nil && s.Task.State != api.TaskRunning })
	if status.Task.State != api.TaskDone {
		c.t.Fatalf("%s: task failed: %s", i.Name, status.Task.Error)
	}
}

// StartServer starts mysqld and waits until it answers.
func (c *Cluster) StartServer(i *Instance) {
	c.t.Helper()
	c.Do(i, api.CommandStart, &api.StartRequest{})
	i.Await("mysqld answers", func(s *api.Status) bool { return s.Server != nil })
}

// Lead, Mark and Open carry the primary through an epoch.
func (c *Cluster) Lead(i *Instance, ackCount int32) {
	c.t.Helper()
	c.Do(i, api.CommandLead, &api.LeadRequest{Record: c.Record, AckCount: ackCount})
}

// Mark begins a marker and returns its GTID.
func (c *Cluster) Mark(i *Instance, attempt int64) string {
	c.t.Helper()
	c.Do(i, api.CommandMarker, &api.MarkerRequest{Record: c.Record, Attempt: attempt})
	return agent.MarkerGTID(&c.Record, attempt)
}

// AwaitMarker waits until the marker is committed.
func (c *Cluster) AwaitMarker(i *Instance, gtid string) {
	c.t.Helper()
	i.Await("the marker is committed", func(s *api.Status) bool {
		return s.Marker != nil && s.Marker.GTID == gtid && s.Marker.State == api.MarkerCommitted
	})
}

// Open opens an instance under the record.
func (c *Cluster) Open(i *Instance) {
	c.t.Helper()
	c.Do(i, api.CommandOpen, &api.OpenRequest{Record: c.Record})
	i.Await("it is open", func(s *api.Status) bool { return s.Server != nil && !s.Server.OfflineMode })
}

// Bootstrap carries an instance on an empty volume to being the open primary of a cluster of one.
func (c *Cluster) Bootstrap(i *Instance) {
	c.t.Helper()
	c.Initialise(i, api.InitialiseRequest{})
	c.Lead(i, 0)
	c.AwaitMarker(i, c.Mark(i, 1))
	c.Opened(0, 1, i)
	c.Open(i)
}

// Clone fills an instance's empty volume from a donor and starts it.
func (c *Cluster) Clone(i, donor *Instance) {
	c.t.Helper()
	c.Do(i, api.CommandConfigure, c.Configuration(i))
	c.Do(i, api.CommandClone, &api.CloneRequest{Donor: c.Donor(donor)})
	c.AwaitTask(i)
	c.StartServer(i)
}

// Donor is how to clone from an instance.
func (c *Cluster) Donor(donor *Instance) api.Source {
	return api.Source{
		Name: donor.Name, Host: "127.0.0.1", Port: donor.Conf.Port,
		User: agent.AccountDataProtection, Password: c.Passwords[agent.AccountDataProtection],
	}
}

// FollowRequest makes an instance follow the primary.
func (c *Cluster) FollowRequest(i, primary *Instance, ack api.Acknowledge) *api.FollowRequest {
	return &api.FollowRequest{Record: c.Record, Ack: ack, Source: api.Source{
		Name: primary.Name, Host: "127.0.0.1", Port: primary.Conf.Port,
		User: api.ReplicationUser(i.Status().Incarnation), Password: c.Passwords[agent.AccountReplicator],
	}}
}

// Follow makes the replication account and follows the primary with it.
func (c *Cluster) Follow(i, primary *Instance, ack api.Acknowledge) {
	c.t.Helper()
	c.Do(primary, api.CommandEnsureAccount, &api.EnsureAccountRequest{
		Member: i.Status().Incarnation, Password: c.Passwords[agent.AccountReplicator],
	})
	c.Do(i, api.CommandFollow, c.FollowRequest(i, primary, ack))
	i.Await("it replicates", func(s *api.Status) bool {
		return s.Server != nil && s.Server.Channel != nil && s.Server.Channel.Receiver == "Yes" && s.Server.Channel.ApplierRunning &&
			s.Server.ReplicaActive == (ack == api.AckOn)
	})
}

// Grow makes a cloned replica a voter of the open primary's cluster.
func (c *Cluster) Grow(primary *Instance, ackCount int32, voters ...*Instance) {
	c.t.Helper()
	c.Next(ackCount, voters...)
	for _, voter := range voters {
		c.Do(voter, api.CommandPromise, &api.PromiseRequest{Record: c.Record})
	}
	c.Lead(primary, ackCount)
	for _, voter := range voters {
		if voter != primary {
			c.Follow(voter, primary, api.AckOn)
		}
	}
	c.AwaitMarker(primary, c.Mark(primary, 1))
	c.Opened(ackCount, 1, voters...)
	c.Open(primary)
}

// BootstrapPair carries two instances on empty volumes to being the open primary and its replica, whose acknowledgement
// every write needs.
func (c *Cluster) BootstrapPair(primary, replica *Instance) {
	c.t.Helper()
	primary.Start()
	c.Bootstrap(primary)
	replica.Start()
	c.Clone(replica, primary)
	c.Follow(replica, primary, api.AckOff)
	c.Grow(primary, 1, primary, replica)
	c.Open(replica)
}

// Describe is a value as indented JSON, for messages.
func Describe(value any) string {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Ports of instances come from below those that the kernel gives to outgoing connections: it could give away one that a
// mysqld is to listen on seconds later, or again after a restart.
const (
	firstPort = 15000
	lastPort  = 29999
)

// nextPort counts the ports that were given out; none is given twice.
var nextPort atomic.Int32

func freePort(t testing.TB) int32 {
	t.Helper()
	for range lastPort - firstPort {
		port := firstPort + (int32(os.Getpid())*100+nextPort.Add(1))%(lastPort-firstPort+1)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue // somebody listens there
		}
		must(t, listener.Close())
		return port
	}
	t.Fatalf("no port from %d to %d is free", firstPort, lastPort)
	return 0
}

// Buffer collects what several goroutines write. The zero value is ready.
type Buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String is all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
