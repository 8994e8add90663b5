// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// wantReplaced asks for other data of one of n instances.
func wantReplaced(n int32, name string) Desired {
	return Desired{Replicas: n, Replace: []Replacement{{Instance: name, Why: "a person asked for a new volume"}}}
}

// renew gives an instance another Pod with an empty volume.
func (m *model) renew(name string) {
	delete(m.volumes, name)
	m.instance(name).Agent = &api.Status{Volume: api.VolumeEmpty, Incarnation: "another-" + name, Mysqld: api.MysqldDown, StateCounter: 1}
}

func TestAReplacedVoterLosesItsVoteBeforeItIsGivenUp(t *testing.T) {
	for _, n := range []int{3, 4, 5} {
		m := newModel(t, n)
		m.settle(Desired{Replicas: int32(n)})
		old := m.instance("db-mysql-1").Agent.Incarnation
		if ok, _ := Removable(m.observe(), "db-mysql-1"); ok {
			t.Fatal("it may be given up while it votes")
		}
		want := wantReplaced(int32(n), "db-mysql-1")
		for range 100 {
			plan := Decide(want, m.observe())
			ok, waitingFor := Removable(m.observe(), "db-mysql-1")
			if ok && slices.ContainsFunc(configurations(m.record), func(c Configuration) bool { return contains(&c, old) }) {
				t.Fatalf("it may be given up in %+v", m.record)
			}
			if ok == (waitingFor != "") {
				t.Errorf("removable %t, waiting for %q", ok, waitingFor)
			}
			if len(plan.Actions) == 0 {
				break
			}
			for _, a := range plan.Actions {
				m.do(a, len(plan.Actions))
				m.check()
			}
		}
		if ok, _ := Removable(m.observe(), "db-mysql-1"); !ok || slices.Contains(m.voters(), "db-mysql-1") || !m.lockedOut(old) {
			t.Fatalf("of %d: removable %t, voters %v, locked out %t", n, ok, m.voters(), m.lockedOut(old))
		}
		m.renew("db-mysql-1")
		m.settle(Desired{Replicas: int32(n)})
		if len(m.voters()) != n || contains(opened(m.record), old) || !m.lockedOut(old) {
			t.Errorf("of %d in the end: voters %v, the old data votes: %t, is locked out: %t", n, m.voters(), contains(opened(m.record), old), m.lockedOut(old))
		}
	}
}

func TestAReplacedLearnerIsNotBroughtForward(t *testing.T) {
	m := newModel(t, 3)
	want := wantReplaced(3, "db-mysql-2")
	plan := m.settle(want)
	if diff := cmp.Diff([]string{"db-mysql-0", "db-mysql-1"}, m.voters()); diff != "" {
		t.Errorf("voters (-want +got):\n%s", diff)
	}
	if ok, _ := Removable(m.observe(), "db-mysql-2"); !ok || !strings.Contains(plan.Decision.WaitingFor, "to be replaced") {
		t.Errorf("removable %t, waiting for %q", ok, plan.Decision.WaitingFor)
	}
}

func TestOneOfTwoVotersIsSwappedWhenItsVolumeIsOutOfReach(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 2})
	i := m.instance("db-mysql-1")
	old := i.Agent.Incarnation
	status := i.Agent
	i.Agent, i.Cause = nil, "its Pod cannot be scheduled"
	want := wantReplaced(2, "db-mysql-1")
	before := m.record.Epoch
	m.settle(want)
	if m.record.Epoch != before || !slices.Contains(m.voters(), "db-mysql-1") {
		t.Fatalf("one voter alone was left: %+v", m.record)
	}
	if !Lost(m.observe(), "db-mysql-1") || Lost(m.observe(), "db-mysql-0") {
		t.Fatal("only the volume of the replica is lost")
	}
	i.Agent = status
	if Lost(m.observe(), "db-mysql-1") {
		t.Error("what answers is not lost")
	}
	m.renew("db-mysql-1")
	m.settle(Desired{Replicas: 2})
	if contains(opened(m.record), old) || len(m.voters()) != 2 || !m.lockedOut(old) {
		t.Errorf("voters %v, the old data votes: %t, is locked out: %t", m.voters(), contains(opened(m.record), old), m.lockedOut(old))
	}
}

func TestWhatCannotBeReplaced(t *testing.T) {
	cases := map[string]struct {
		instances int
		name      string
		change    func(m *model)
		refused   string
		waiting   string
	}{
		"a replica of three":                      {instances: 3, name: "db-mysql-1"},
		"a replica of five with another one away": {instances: 5, name: "db-mysql-1", change: func(m *model) { m.instance("db-mysql-2").Agent = nil }},
		"an instance that does not exist":         {instances: 3, name: "db-mysql-7", refused: "there is no instance db-mysql-7"},
		"nobody":                                  {instances: 3, name: "", refused: "there is no instance"},
		"the only instance":                       {instances: 1, name: "db-mysql-0", refused: "the only instance"},
		"the primary":                             {instances: 3, name: "db-mysql-0", refused: "db-mysql-0 is the primary; ask for a switchover first"},
		"one of two voters":                       {instances: 2, name: "db-mysql-1", refused: "raise spec.replicas first"},
		"the only replica that is connected": {
			instances: 3, name: "db-mysql-1", change: func(m *model) { m.instance("db-mysql-2").Agent = nil },
			refused: "1 of the other replicas would have to acknowledge writes, 0 are connected",
		},
		"the replica that is away": {instances: 3, name: "db-mysql-2", change: func(m *model) { m.instance("db-mysql-2").Agent = nil }},
		"an instance that does not vote": {instances: 3, name: "db-mysql-2", change: func(m *model) {
			m.record.LastOpened.Voters = m.record.LastOpened.Voters[:2]
		}},
		"a replica while the primary is closed": {
			instances: 3, name: "db-mysql-1", change: func(m *model) { m.instance("db-mysql-0").Agent.Server.OfflineMode = true }, waiting: "an open primary",
		},
		"a replica while an epoch is chosen": {
			instances: 3, name: "db-mysql-1", change: func(m *model) { m.record.Phase = v1beta1.RecordChosen }, waiting: "an opened epoch",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, c.instances)
			m.settle(Desired{Replicas: int32(c.instances)})
			m.record = m.record.DeepCopy()
			if c.change != nil {
				c.change(m)
			}
			refused, waiting := CannotReplace(Desired{Replicas: int32(c.instances)}, m.observe(), c.name)
			if (refused == "") != (c.refused == "") || !strings.Contains(refused, c.refused) || waiting != c.waiting {
				t.Errorf("refused %q, waiting for %q", refused, waiting)
			}
		})
	}
}

func TestWhatMayBeGivenUp(t *testing.T) {
	member := func(name, incarnation string) Member { return Member{Name: name, Incarnation: incarnation} }
	p, r1, r2 := member("db-mysql-0", "p"), member("db-mysql-1", "r1"), member("db-mysql-2", "r2")
	all := Configuration{Voters: []Member{p, r1, r2}, AckCount: 1}
	left := Configuration{Voters: []Member{p, r1}, AckCount: 1}
	record := func(phase v1beta1.RecordPhase, opened Configuration, change func(r *Record)) *Record {
		r := &Record{Epoch: 5, Phase: phase, Primary: &p, LastOpened: &v1beta1.OpenedEpoch{Configuration: opened, Epoch: 5, Primary: p}}
		if change != nil {
			change(r)
		}
		return r
	}
	cases := map[string]struct {
		record *Record
		holds  string // the incarnation db-mysql-2 holds
		want   bool
	}{
		"there is no record":                       {},
		"it votes":                                 {record: record(v1beta1.RecordOpened, all, nil), holds: "r2"},
		"it votes, and is silent":                  {record: record(v1beta1.RecordOpened, all, nil)},
		"the epoch without it is not opened":       {record: record(v1beta1.RecordChosen, all, func(r *Record) { r.Pending = &left }), holds: "r2"},
		"the epoch without it is opened":           {record: record(v1beta1.RecordOpened, left, nil), holds: "r2", want: true},
		"it is opened, and it is silent":           {record: record(v1beta1.RecordOpened, left, nil), want: true},
		"another configuration still counts on it": {record: record(v1beta1.RecordOpened, left, func(r *Record) { r.Earlier = []Configuration{all} })},
		"it holds the data of another voter":       {record: record(v1beta1.RecordOpened, left, nil), holds: "r1"},
		"it holds the data of the primary":         {record: record(v1beta1.RecordOpened, left, nil), holds: "p"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			i := Instance{Name: "db-mysql-2", Ordinal: 2}
			if c.holds != "" {
				i.Agent = &api.Status{Incarnation: c.holds}
			}
			if got, _ := Removable(Observed{Record: c.record, Instances: []Instance{i}}, "db-mysql-2"); got != c.want {
				t.Errorf("removable %t, want %t", got, c.want)
			}
		})
	}
}
