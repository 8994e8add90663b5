// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

const modelServer = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

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
	// loseAcks keeps markers waiting although the replicas receive them.
	loseAcks bool
	// restart forgets the claim, as a new coordinator would, after this many record writes; 0 is never.
	restartEvery, recordWrites int
}

func newModel(t *testing.T, instances int) *model {
	m := &model{t: t, writes: 1, volumes: map[string]string{}}
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
	}
}

// settle runs Decide and its plans until nothing is left to do, and checks the invariants after every step.
func (m *model) settle(want Desired) Plan {
	m.t.Helper()
	for range 300 {
		seen := m.observe()
		plan := Decide(want, seen)
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
	switch a.Kind {
	case Promise:
		s.PromisedEpoch, s.PromisedClaim, s.Record = a.Record.Epoch, a.Record.Claim, a.Record
	case Initialise:
		s.Volume = api.VolumeReady
	case Clone:
		s.Volume, s.Incarnation = api.VolumeReady, "cloned-"+i.Name+fmt.Sprint(s.StateCounter)
		s.Task = &api.Task{Kind: api.TaskClone, State: api.TaskDone, Donor: a.Peer}
	case Start:
		s.Mysqld = api.MysqldRunning
		if m.volumes[i.Name] == "" {
			m.volumes[i.Name] = fmt.Sprintf("%s:1-%d", modelServer, m.writes)
		}
		s.Server = &api.Server{
			ServerUUID: modelServer, SuperReadOnly: true, OfflineMode: true, GTIDExecuted: m.volumes[i.Name], Received: m.volumes[i.Name],
		}
	case Follow:
		if IsVoter(a.Record, s.Incarnation) != (a.Ack == api.AckOn) {
			m.t.Fatalf("%s acknowledges %s although voter is %t", i.Name, a.Ack, IsVoter(a.Record, s.Incarnation))
		}
		peer := m.instance(a.Peer)
		s.Server.ReplicaSemiSync = a.Ack == api.AckOn
		s.Server.Channel = &api.Channel{Host: peer.IP, User: api.ReplicationUser(s.Incarnation), Receiver: "Yes", ApplierRunning: true}
	case Lead:
		s.Server.SourceSemiSync, s.Server.SourceActive, s.Server.AckCount, s.Server.Channel = a.AckCount > 0, a.AckCount > 0, a.AckCount, nil
	case Mark:
		m.mark(i, a)
	case Open:
		m.open(i, a)
	case Admit, WriteRecord:
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
	acks := int32(0)
	for n := range m.instances {
		s := m.instances[n].Agent
		if s.Server != nil && s.Server.Channel != nil && s.Server.Channel.Host == p.IP {
			s.Server.Received += "," + marker
			s.Server.GTIDExecuted = s.Server.Received
			if s.Server.ReplicaSemiSync {
				acks++
			}
		}
	}
	state := api.MarkerWaiting
	if acks >= p.Agent.Server.AckCount && !m.loseAcks {
		state = api.MarkerCommitted
		p.Agent.Server.Received += "," + marker
		p.Agent.Server.GTIDExecuted = p.Agent.Server.Received
	}
	p.Agent.Marker = &api.Marker{GTID: marker, Epoch: a.Record.Epoch, Claim: a.Record.Claim, State: state}
}

func (m *model) open(i *Instance, a Action) {
	m.t.Helper()
	i.Agent.Server.OfflineMode = false
	if a.Record.Primary.Incarnation != i.Agent.Incarnation {
		return
	}
	if a.Record.Phase != v1beta1.RecordOpened {
		m.t.Fatalf("%s opens in phase %s", i.Name, a.Record.Phase)
	}
	i.Agent.Server.SuperReadOnly = false
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
		if s.ReplicaSemiSync && !IsVoter(m.record, i.Agent.Incarnation) {
			m.t.Fatalf("%s acknowledges and is no voter", i.Name)
		}
		if s.SuperReadOnly {
			continue
		}
		open++
		if voters := len(m.record.LastOpened.Voters); s.AckCount < AckCount(voters) {
			m.t.Fatalf("%s is open with k=%d and %d voters", i.Name, s.AckCount, voters)
		}
	}
	if open > 1 {
		m.t.Fatalf("%d instances take writes", open)
	}
}

// crash ends mysqld of an instance.
func (m *model) crash(name string) {
	s := m.instance(name).Agent
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
