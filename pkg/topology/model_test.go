// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

const modelServer = "3e11fa47-71ca-11e1-9e33-c80aa9429560"

// modelUUID is the UUID of the server of an ordinal; that of the first is modelServer.
func modelUUID(ordinal int32) string {
	return fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa942956%d", ordinal)
}

// model is a cluster in memory: agents that do at once what the real ones do in seconds. It refuses what they refuse.
type model struct {
	t         *testing.T
	record    *Record
	own       string
	claims    int
	instances []Instance
	// writes counts transactions the primary executed.
	writes int
	// volumes is what each instance has on disk, as a GTID set.
	volumes map[string]string
	// opened are the instances whose running mysqld was open for writes.
	opened map[string]bool
	floor  string
	ownLog bool
	// cannotApply is an instance whose applier fails.
	cannotApply string
	// loseAcks keeps markers waiting although the replicas receive them.
	loseAcks bool
	// restart forgets the claim, as a new coordinator would, after this many record writes; 0 is never.
	restartEvery, recordWrites int
}

func newModel(t *testing.T, instances int) *model {
	m := &model{t: t, writes: 1, volumes: map[string]string{}, opened: map[string]bool{}}
	for n := range instances {
		m.instances = append(m.instances, Instance{
			Name: fmt.Sprintf("db-mysql-%d", n), Ordinal: int32(n), IP: fmt.Sprintf("10.0.0.%d", n+1), HasVolume: true, Configured: true,
			Agent: &api.Status{Volume: api.VolumeEmpty, Incarnation: fmt.Sprintf("empty-%d", n), Mysqld: api.MysqldDown, StateCounter: 1},
		})
	}
	return m
}

func (m *model) observe() Observed {
	m.claims++
	return Observed{
		Record: m.record, OwnClaim: m.own, FreshClaim: fmt.Sprintf("claim-%d", m.claims),
		FreshUUID: "0d3aeb4e-0000-11ef-8a00-0242ac110002", Instances: m.instances,
		Floor: m.floor, OwnLog: m.ownLog,
	}
}

// settle runs Decide and its plans until nothing is left to do, and checks the invariants after every step.
func (m *model) settle(want Desired) Plan {
	m.t.Helper()
	for range 300 {
		seen := m.observe()
		plan := Decide(want, seen)
		if testing.Verbose() {
			m.t.Logf("%s: %s; %s: %v", plan.Decision.Rule, plan.Decision.Reason, plan.Decision.WaitingFor, kinds(plan))
		}
		if diff := cmp.Diff(plan, Decide(want, seen)); diff != "" {
			m.t.Fatalf("not deterministic:\n%s", diff)
		}
		if len(plan.Actions) == 0 {
			return plan
		}
		for _, a := range plan.Actions {
			m.do(a, len(plan.Actions))
			m.check()
		}
	}
	m.t.Fatalf("no end; last: %+v", Decide(want, m.observe()))
	return Plan{}
}

// kinds names the actions of a plan.
func kinds(plan Plan) []string {
	var names []string
	for _, a := range plan.Actions {
		names = append(names, string(a.Kind)+" "+a.Instance)
	}
	return names
}

// settleUntil runs plans until done.
func (m *model) settleUntil(want Desired, done func() bool) {
	m.t.Helper()
	for range 100 {
		plan := Decide(want, m.observe())
		for _, a := range plan.Actions {
			m.do(a, len(plan.Actions))
			m.check()
			if done() {
				return
			}
		}
	}
	m.t.Fatal("it never came to that")
}

func (m *model) instance(name string) *Instance {
	for n := range m.instances {
		if m.instances[n].Name == name {
			return &m.instances[n]
		}
	}
	m.t.Fatalf("no instance %q", name)
	return nil
}

// do carries out one action as an agent would.
func (m *model) do(a Action, actions int) {
	m.t.Helper()
	if a.Kind == WriteRecord {
		m.write(a.Record, actions)
		return
	}
	i := m.instance(a.Instance)
	s := i.Agent
	if a.Kind != Promise && a.Record.Epoch < s.PromisedEpoch {
		m.t.Fatalf("%s of epoch %d to %s, which promised %d", a.Kind, a.Record.Epoch, i.Name, s.PromisedEpoch)
	}
	s.StateCounter++
	if slices.Contains([]ActionKind{Apply, Follow, Lead, Mark, Open, Close, LockOut}, a.Kind) {
		s.PromisedEpoch, s.PromisedClaim, s.Record = a.Record.Epoch, a.Record.Claim, a.Record
	}
	switch a.Kind {
	case Promise:
		m.promise(i, a.Record)
	case Apply:
		s.Server.OfflineMode = true
		if m.cannotApply != i.Name {
			s.Server.GTIDExecuted = s.Server.Received
		} else if s.Server.Channel != nil {
			s.Server.Channel.ApplierError = "a row is missing"
		}
	case Close:
		s.Server.OfflineMode, s.Server.SuperReadOnly = true, true
		s.Closed = &api.Closed{GTIDExecuted: s.Server.GTIDExecuted}
	case Stop:
		m.crash(i.Name)
		s.NeedsReturn = false // it was clean
	case LockOut:
		s.LockedOut = append(s.LockedOut, a.Members...)
	case Return:
		m.comeBack(i, a.Executed)
	case Await:
		s.Awaiting = fmt.Sprintf("%s:moco_e%d:%d", a.Record.ClusterUUID, a.Record.Epoch, a.Attempt)
	case Discard:
		if IsVoter(m.record, s.Incarnation) {
			m.t.Fatalf("%s is discarded and votes", i.Name)
		}
		delete(m.volumes, i.Name)
		i.Agent = &api.Status{
			Volume: api.VolumeEmpty, Incarnation: "emptied-" + i.Name, Mysqld: api.MysqldDown, StateCounter: s.StateCounter,
			PromisedEpoch: s.PromisedEpoch, PromisedClaim: s.PromisedClaim, Record: s.Record,
		}
	case Initialise, Restore:
		s.Volume = api.VolumeReady
	case Clone:
		s.Volume, s.Incarnation = api.VolumeReady, "cloned-"+i.Name+fmt.Sprint(s.StateCounter)
		s.Task = &api.Task{Kind: api.TaskClone, State: api.TaskDone, Donor: a.Peer}
	case Start:
		s.Mysqld = api.MysqldRunning
		if m.volumes[i.Name] == "" {
			m.volumes[i.Name] = fmt.Sprintf("%s:1-%d", modelUUID(0), m.writes)
		}
		if s.NeedsReturn && (m.record.Primary == nil || m.record.Primary.Incarnation != s.Incarnation) {
			m.t.Fatalf("%s is started before it was compared", i.Name)
		}
		s.NeedsReturn = false
		s.Server = &api.Server{
			ServerUUID: modelUUID(i.Ordinal), SuperReadOnly: true, OfflineMode: true, GTIDExecuted: m.volumes[i.Name], Received: m.volumes[i.Name],
		}
	case Follow:
		if IsVoter(a.Record, s.Incarnation) != (a.Ack == api.AckOn) {
			m.t.Fatalf("%s acknowledges %s although voter is %t", i.Name, a.Ack, IsVoter(a.Record, s.Incarnation))
		}
		peer := m.instance(a.Peer)
		if s.Server.SourceSemiSync {
			m.t.Fatalf("%s follows and leads", i.Name)
		}
		s.Server.ReplicaSemiSync, s.Fence = a.Ack == api.AckOn, nil
		if peer.Agent.Server != nil {
			s.Server.Received = union(m.t, s.Server.Received, peer.Agent.Server.GTIDExecuted)
			s.Server.GTIDExecuted = s.Server.Received
		}
		s.Server.Channel = &api.Channel{
			Host: peer.IP, User: api.ReplicationUser(s.Incarnation), SourceUUID: modelUUID(peer.Ordinal), Receiver: "Yes", ApplierRunning: true,
		}
		m.deliver(peer)
	case Lead:
		if s.Server.Received != s.Server.GTIDExecuted {
			m.t.Fatalf("%s leads before it has applied %s", i.Name, s.Server.Received)
		}
		s.Server.SourceSemiSync, s.Server.SourceActive, s.Server.AckCount, s.Server.Channel = a.AckCount > 0, a.AckCount > 0, a.AckCount, nil
	case Mark:
		m.mark(i, a)
	case Open:
		m.open(i, a)
	case Admit:
		peer := m.instance(a.Peer).Agent
		s.LockedOut = slices.DeleteFunc(s.LockedOut, func(in string) bool { return in == peer.Incarnation })
	case WriteRecord, Purge:
	}
}

func (m *model) write(next *Record, actions int) {
	m.t.Helper()
	if actions != 1 {
		m.t.Fatalf("WriteRecord stands among %d actions", actions)
	}
	if m.record != nil && next.Epoch < m.record.Epoch {
		m.t.Fatalf("the epoch goes back from %d to %d", m.record.Epoch, next.Epoch)
	}
	if next.Phase == v1beta1.RecordOpened && next.Claim != m.own {
		m.t.Fatalf("epoch %d is opened by somebody who did not claim it", next.Epoch)
	}
	m.record, m.own = next.DeepCopy(), next.Claim
	m.recordWrites++
	if m.restartEvery > 0 && m.recordWrites%m.restartEvery == 0 {
		m.own = ""
	}
}

// mark commits a marker if k connected replicas acknowledge, and hands it to them.
func (m *model) mark(p *Instance, a Action) {
	m.t.Helper()
	marker := fmt.Sprintf("%s:moco_e%d:%d", a.Record.ClusterUUID, a.Record.Epoch, a.Attempt)
	if strings.Contains(p.Agent.Server.Received, marker) {
		m.t.Fatalf("marker %s is used twice", marker)
	}
	p.Agent.Marker = &api.Marker{GTID: marker, Epoch: a.Record.Epoch, Claim: a.Record.Claim, State: api.MarkerWaiting}
	m.deliver(p)
}

// deliver hands a marker that waits to whoever is connected now, and commits it if that is enough.
func (m *model) deliver(p *Instance) {
	m.t.Helper()
	waiting := p.Agent.Marker
	if waiting == nil || waiting.State != api.MarkerWaiting || p.Agent.Server == nil {
		return
	}
	acks := int32(0)
	for n := range m.instances {
		s := m.instances[n].Agent
		if s != nil && s.Server != nil && s.Server.Channel != nil && s.Server.Channel.Host == p.IP && s.Server.Channel.Receiver == receiverConnected {
			if waiting.GTID == s.Awaiting {
				s.Awaiting, s.Unvouched = "", ""
			}
			s.Server.Received = union(m.t, s.Server.Received, waiting.GTID)
			s.Server.GTIDExecuted = s.Server.Received
			if s.Server.ReplicaSemiSync {
				acks++
			}
		}
	}
	if acks >= p.Agent.Server.AckCount && !m.loseAcks {
		committed := *waiting
		committed.State = api.MarkerCommitted
		p.Agent.Marker = &committed
		p.Agent.Server.Received = union(m.t, p.Agent.Server.Received, waiting.GTID)
		p.Agent.Server.GTIDExecuted = p.Agent.Server.Received
	}
}

func (m *model) open(i *Instance, a Action) {
	m.t.Helper()
	i.Agent.Server.OfflineMode, i.Agent.Closed = false, nil
	if a.Record.Primary.Incarnation != i.Agent.Incarnation {
		return
	}
	if a.Record.Phase != v1beta1.RecordOpened {
		m.t.Fatalf("%s opens in phase %s", i.Name, a.Record.Phase)
	}
	i.Agent.Server.SuperReadOnly = false
	m.opened[i.Name] = true
}

// check holds the invariants of the protocol that concern this model.
func (m *model) check() {
	m.t.Helper()
	open := 0
	for n := range m.instances {
		i := &m.instances[n]
		if i.Agent == nil || i.Agent.Server == nil {
			continue
		}
		s := i.Agent.Server
		counts := m.record.LastOpened != nil && voted(m.record, i.Agent.Incarnation) // of a configuration that was given up, too
		if s.ReplicaSemiSync && !counts && !IsVoter(m.record, i.Agent.Incarnation) && !m.lockedOut(i.Agent.Incarnation) {
			m.t.Fatalf("%s acknowledges and is no voter", i.Name)
		}
		if s.SuperReadOnly {
			continue
		}
		open++
		least := m.record.LastOpened.AckCount
		if m.record.Pending != nil {
			least = min(least, m.record.Pending.AckCount)
		}
		if s.AckCount < least {
			m.t.Fatalf("%s is open with k=%d instead of %d", i.Name, s.AckCount, least)
		}
	}
	if open > 1 {
		m.t.Fatalf("%d instances take writes", open)
	}
}

// promise persists a record, and fences when it takes the lead from the primary known before.
func (m *model) promise(i *Instance, r *Record) {
	s := i.Agent
	takes := r.Primary == nil || r.Primary.Incarnation != s.Incarnation &&
		(s.Record == nil || s.Record.Primary == nil || s.Record.Primary.Incarnation != r.Primary.Incarnation)
	s.PromisedEpoch, s.PromisedClaim, s.Record = r.Epoch, r.Claim, r
	if !takes || s.Server == nil {
		return
	}
	fence := &api.Fence{Epoch: r.Epoch, Claim: r.Claim}
	switch {
	case s.Server.SourceSemiSync && !m.opened[i.Name]:
		s.Server.SourceSemiSync, s.Server.SourceActive = false, false
		fence.Received = s.Server.Received
	case s.Server.SourceSemiSync && s.Closed == nil:
		m.crash(i.Name)
		s.NeedsReturn, fence.Killed = true, true
	case s.Server.SourceSemiSync:
		s.Server.SourceSemiSync, s.Server.SourceActive = false, false
		fence.Spared, fence.Received = true, s.Server.GTIDExecuted
	default:
		if s.Server.Channel != nil {
			s.Server.Channel.Receiver = receiverStopped
		}
		fence.Received = s.Server.Received
	}
	s.Fence = fence
}

// comeBack cuts off what the instance holds beyond the history it is given, and takes its vote until it has shown more.
func (m *model) comeBack(i *Instance, history string) {
	s := i.Agent
	if s.NeedsReturn {
		s.NeedsReturn, s.Unvouched = false, "it was rewound"
		m.volumes[i.Name] = intersection(m.t, m.volumes[i.Name], history)
		return
	}
	if extra := missing(m.t, s.Server.GTIDExecuted, history); extra != "" {
		s.Diverged = &api.Divergence{GTIDs: extra}
		return
	}
	s.Server.Received, s.Server.Channel, s.Unvouched = s.Server.GTIDExecuted, nil, "its relay log was dropped"
}

func union(t *testing.T, a, b string) string { return parsed(t, a).Union(parsed(t, b)).String() }

func intersection(t *testing.T, a, b string) string {
	return parsed(t, a).Intersect(parsed(t, b)).String()
}

// missing is what a holds and b does not, markers left out.
func missing(t *testing.T, a, b string) string {
	return parsed(t, a).Subtract(parsed(t, b)).WithoutTagPrefix(gtid.MarkerTagPrefix).String()
}

func parsed(t *testing.T, text string) gtid.Set {
	t.Helper()
	set, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// write1 commits n transactions on a primary that only one of its replicas receives.
func (m *model) write1(primary, replica string, n int) {
	line := fmt.Sprintf("%s:1-%d", m.instance(primary).Agent.Server.ServerUUID, m.writes+n)
	for _, name := range []string{primary, replica} {
		s := m.instance(name).Agent.Server
		s.Received = union(m.t, s.Received, line)
	}
	s := m.instance(primary).Agent.Server
	s.GTIDExecuted = s.Received
}

// leader is the primary of the record, "" while none is chosen.
func (m *model) leader() string {
	if m.record.Primary == nil {
		return ""
	}
	return m.record.Primary.Name
}

// lose makes an instance silent for longer than any detection time, and cuts its followers off from it.
func (m *model) lose(name string) *api.Status {
	i := m.instance(name)
	was := i.Agent
	i.Agent, i.Cause, i.Silent = nil, "its agent is silent", time.Minute
	for n := range m.instances {
		s := m.instances[n].Agent
		if s != nil && s.Server != nil && s.Server.Channel != nil && s.Server.Channel.Host == i.IP {
			s.Server.Channel.QuietMillis = 60000
		}
	}
	return was
}

// lockedOut reports whether a primary keeps an incarnation from acknowledging.
func (m *model) lockedOut(incarnation string) bool {
	return slices.ContainsFunc(m.instances, func(i Instance) bool { return i.Agent != nil && slices.Contains(i.Agent.LockedOut, incarnation) })
}

// crash ends mysqld of an instance. One that led must be compared before it starts under another primary.
func (m *model) crash(name string) {
	s := m.instance(name).Agent
	s.NeedsReturn = s.Server.SourceSemiSync && m.opened[name]
	m.opened[name] = false
	s.Fence, s.Closed, s.LockedOut = nil, nil, nil
	m.volumes[name] = s.Server.Received
	s.Mysqld, s.Server, s.Marker, s.StateCounter = api.MysqldDown, nil, nil, s.StateCounter+1
}

func (m *model) voters() []string {
	var names []string
	for _, v := range m.record.LastOpened.Voters {
		names = append(names, v.Name)
	}
	slices.Sort(names)
	return names
}
