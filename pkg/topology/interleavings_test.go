// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"strings"
	"testing"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// TestAMysqldThatDoesNotAnswerYetIsWaitedFor takes the report of one mysqld away in every phase of a takeover and of a
// switchover. Decide must have something to say, and what was chosen must not be given up for it.
func TestAMysqldThatDoesNotAnswerYetIsWaitedFor(t *testing.T) {
	for _, phase := range []v1beta1.RecordPhase{v1beta1.RecordClaimed, v1beta1.RecordChosen, v1beta1.RecordOpened} {
		for _, name := range []string{"db-mysql-0", "db-mysql-1", "db-mysql-2"} {
			m, want := three(t), want3()
			want.Switchover = &Switchover{Target: "db-mysql-1"}
			epoch := m.record.Epoch
			m.settleUntil(want, func() bool { return m.record.Phase == phase && m.record.Epoch > epoch })
			m.instance(name).Agent.Server = nil
			for _, a := range Decide(want, m.observe()).Actions {
				if a.Kind == WriteRecord && a.Record.Epoch > m.record.Epoch {
					t.Errorf("%s in phase %s does not answer: epoch %d is begun", name, phase, a.Record.Epoch)
				}
			}
		}
	}
}

// TestASparedPrimaryThatDoesNotAnswerStillCounts: it alone may have the last writes, and its fence says which.
func TestASparedPrimaryThatDoesNotAnswerStillCounts(t *testing.T) {
	m, want := three(t), want3()
	want.Switchover = &Switchover{Target: "db-mysql-1"}
	m.settleUntil(want, func() bool { f := m.instance("db-mysql-0").Agent.Fence; return f != nil && f.Spared })
	m.settleUntil(want, func() bool { f := m.instance("db-mysql-2").Agent.Fence; return f != nil })
	old := m.instance("db-mysql-0").Agent
	old.Fence.Received = union(t, old.Fence.Received, modelServer+":1-800")
	old.Server = nil
	for _, a := range Decide(want, m.observe()).Actions {
		if a.Kind == WriteRecord && a.Record.Primary != nil && a.Record.Primary.Name != "db-mysql-0" {
			t.Errorf("%s is chosen without the last writes", a.Record.Primary.Name)
		}
	}
}

// TestAPrimaryThatLeadsAgainFromItsOwnLogIsStarted: nobody else holds what it was seen to have committed, so its death is
// no reason to begin epoch after epoch.
func TestAPrimaryThatLeadsAgainFromItsOwnLogIsStarted(t *testing.T) {
	m := three(t)
	m.floor = modelServer + ":1-700"
	m.crash("db-mysql-0")
	m.volumes["db-mysql-0"] = union(t, m.volumes["db-mysql-0"], m.floor)
	epoch := m.record.Epoch
	plan := m.settle(want3())
	if plan.Decision.Rule != RuleSteady || m.leader() != "db-mysql-0" || m.record.Epoch != epoch+1 {
		t.Errorf("%+v in epoch %d after %d", plan.Decision, m.record.Epoch, epoch)
	}
}

// TestAReplicaThatHearsAnotherSourceMissesItsPrimary restarts the coordinator when the followers of a chosen candidate are
// connected to it already.
func TestAReplicaThatHearsAnotherSourceMissesItsPrimary(t *testing.T) {
	m := three(t)
	m.lose("db-mysql-0")
	m.settleUntil(want3(), func() bool {
		c := m.instance("db-mysql-2").Agent.Server.Channel
		return c != nil && c.Host == m.instance("db-mysql-1").IP
	})
	m.own = ""
	m.instance("db-mysql-1").Agent.Server.SourceSemiSync = false // it has not begun to lead
	plan := m.settle(want3())
	if m.leader() == "db-mysql-0" || plan.Decision.Rule != RuleRejoin {
		t.Errorf("%+v with %+v", plan.Decision, m.record)
	}
}

// TestARecordRestoredToAnEarlierPhaseOfItsEpochIsNotFollowed: the copies say that the epoch was opened, so what counts is
// what was acknowledged in it.
func TestARecordRestoredToAnEarlierPhaseOfItsEpochIsNotFollowed(t *testing.T) {
	m := three(t)
	m.crash("db-mysql-0")
	m.settleUntil(want3(), func() bool { return m.record.Phase == v1beta1.RecordChosen })
	stale := m.record
	m.settle(want3())
	if m.leader() != "db-mysql-1" || m.record.Epoch != stale.Epoch {
		t.Fatalf("%+v", m.record)
	}
	m.record, m.own = stale, ""
	plan := Decide(want3(), m.observe())
	if len(plan.Actions) != 1 || plan.Actions[0].Kind != WriteRecord || plan.Actions[0].Record.LastOpened.Epoch != stale.Epoch {
		t.Errorf("%+v", plan)
	}
}

// TestARewoundInstanceVotesBesideOneThatLedAlone brings the old primary back after its loss was accepted.
func TestARewoundInstanceVotesBesideOneThatLedAlone(t *testing.T) {
	m, want := three(t), want3()
	was := m.lose("db-mysql-0")
	m.lose("db-mysql-2")
	m.instance("db-mysql-0").Gone, m.instance("db-mysql-2").Gone = true, true
	want.AcceptLoss = []string{"db-mysql-0", "db-mysql-2"}
	m.settle(want)
	i := m.instance("db-mysql-0")
	i.Agent, i.Gone, i.Silent = was, false, 0
	want.AcceptLoss = nil
	m.settle(want)
	if voters := strings.Join(m.voters(), " "); voters != "db-mysql-0 db-mysql-1" {
		t.Errorf("%s vote: %+v", voters, m.record)
	}
	if i.Agent.Unvouched != "" {
		t.Errorf("its vote does not count: %s", i.Agent.Unvouched)
	}
}

// TestAClosedPrimaryThatCommittedSinceDoesNotHandOver: what it was closed at is not all it has.
func TestAClosedPrimaryThatCommittedSinceDoesNotHandOver(t *testing.T) {
	m, want := three(t), want3()
	want.Switchover = &Switchover{Target: "db-mysql-1"}
	m.settleUntil(want, func() bool { return m.instance("db-mysql-0").Agent.Closed != nil })
	s := m.instance("db-mysql-0").Agent.Server
	s.GTIDExecuted = union(t, s.GTIDExecuted, m.record.ClusterUUID+":moco_e3:999")
	s.Received = s.GTIDExecuted
	for _, a := range Decide(want, m.observe()).Actions {
		if a.Kind == WriteRecord {
			t.Errorf("epoch %d is claimed: the primary would be killed, not spared", a.Record.Epoch)
		}
	}
}

// TestAnInstanceGetsOneReturnInAPlan: the second would be decided on what the first changes.
func TestAnInstanceGetsOneReturnInAPlan(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 1})
	s := m.instance("db-mysql-1").Agent
	s.Volume, s.NeedsReturn, s.PromisedEpoch, s.PromisedClaim, s.Record = api.VolumeReady, true, m.record.Epoch, m.record.Claim, m.record
	returns := 0
	for _, a := range Decide(Desired{Replicas: 2}, m.observe()).Actions {
		if a.Kind == Return {
			returns++
		}
	}
	if returns != 1 {
		t.Errorf("%d", returns)
	}
}

// TestACandidateThatCannotApplyMakesWayOnlyForOneThatCanLead: the old primary that handed over holds everything, and so may
// a joiner that was given up, but neither is chosen from the promises. Beginning epoch after epoch would help nobody.
func TestACandidateThatCannotApplyMakesWayOnlyForOneThatCanLead(t *testing.T) {
	m, want := three(t), want3()
	want.Switchover = &Switchover{Target: "db-mysql-1"}
	m.settleUntil(want, func() bool { return m.record.Phase == v1beta1.RecordChosen })
	m.cannotApply = "db-mysql-1"
	behind := m.instance("db-mysql-2").Agent
	behind.Fence.Received = intersection(t, behind.Fence.Received, m.record.LastOpened.MarkerGTID)
	behind.Server.Received, behind.Server.GTIDExecuted = behind.Fence.Received, behind.Fence.Received
	m.instance("db-mysql-1").Agent.Server.GTIDExecuted = m.record.LastOpened.MarkerGTID
	epoch := m.record.Epoch
	want.Switchover = nil
	m.settle(want)
	if m.leader() != "db-mysql-0" || m.record.Epoch != epoch+1 {
		t.Errorf("%+v after epoch %d", m.record, epoch)
	}
}

// TestAPrimaryThatWasGivenUpAndLeadsAgainVotes: with the configuration that was to open without it, one acknowledgement
// would be enough for a write, and the next takeover would ask one of two replicas.
func TestAPrimaryThatWasGivenUpAndLeadsAgainVotes(t *testing.T) {
	for _, phase := range []v1beta1.RecordPhase{v1beta1.RecordClaimed, v1beta1.RecordChosen} {
		m, want := three(t), want3()
		was := m.lose("db-mysql-0")
		want.AcceptLoss = []string{"db-mysql-0"}
		m.settleUntil(want, func() bool { return m.record.Phase == phase })
		m.own = "" // another coordinator goes on
		m.instance("db-mysql-0").Agent, m.instance("db-mysql-0").Silent = was, 0
		m.settleUntil(want, func() bool { return m.record.Phase != v1beta1.RecordClaimed && m.own != "" })
		conf := target(m.record)
		if !contains(&conf, m.record.Primary.Incarnation) {
			t.Errorf("after %s: %s leads and does not vote: %+v", phase, m.record.Primary.Name, m.record)
		}
		if phase == v1beta1.RecordClaimed && !remembersGivenUp(m.record) {
			t.Errorf("after %s: the configuration that was to open is forgotten: %+v", phase, m.record)
		}
	}
}

// remembersGivenUp reports whether the record still counts two voters with one acknowledgement.
func remembersGivenUp(r *Record) bool {
	for _, c := range configurations(r) {
		if len(c.Voters) == 2 && c.AckCount == 1 {
			return true
		}
	}
	return false
}

// disturbances are what may happen to the machinery in the middle of a change of the primary. None of them hurts data, so
// each must end with an open primary and everybody who is there voting.
var disturbances = map[string]func(m *model){
	"another coordinator":                      func(m *model) { m.own = "" },
	"the candidate's agent is started again":   func(m *model) { m.forget(m.leader()) },
	"the candidate's mysqld ends":              func(m *model) { m.end(m.leader()) },
	"a follower's agent is started again":      func(m *model) { m.forget("db-mysql-2") },
	"a follower's mysqld ends":                 func(m *model) { m.end("db-mysql-2") },
	"the old primary's agent is started again": func(m *model) { m.forget("db-mysql-0") },
	"the old primary's mysqld ends":            func(m *model) { m.end("db-mysql-0") },
	"another coordinator after the candidate's mysqld ended": func(m *model) {
		m.end(m.leader())
		m.own = ""
	},
}

// forget is the restart of an agent: what it knows in memory alone is gone.
func (m *model) forget(name string) {
	for n := range m.instances {
		if i := &m.instances[n]; i.Name == name && i.Agent != nil {
			i.Agent.Fence, i.Agent.Closed, i.Agent.Marker = nil, nil, nil
		}
	}
}

// end is the death of a mysqld that runs.
func (m *model) end(name string) {
	for n := range m.instances {
		if i := &m.instances[n]; i.Name == name && i.running() {
			m.crash(name)
		}
	}
}

// TestAChangeOfThePrimaryEndsWhateverDisturbsIt disturbs a switchover, a crash and a loss after every single action.
func TestAChangeOfThePrimaryEndsWhateverDisturbsIt(t *testing.T) {
	begin := map[string]func(m *model, want *Desired){
		"switchover": func(_ *model, want *Desired) { want.Switchover = &Switchover{Target: "db-mysql-1"} },
		"crash":      func(m *model, _ *Desired) { m.crash("db-mysql-0") },
		"loss":       func(m *model, _ *Desired) { m.lose("db-mysql-0") },
	}
	for what, change := range begin {
		for name, disturb := range disturbances {
			for n := 2; n <= 3; n++ {
				if n == 2 && what == "loss" {
					continue // nobody could acknowledge
				}
				for step := range 16 {
					m, want := newModel(t, n), want3()
					want.Replicas = int32(n)
					m.settle(want)
					change(m, &want)
					m.steps(want, step)
					disturb(m)
					want.Switchover = nil
					plan := m.settle(want)
					voting := plan.Decision.Rule == RuleSteady || what == "loss" && plan.Decision.Rule == RuleRejoin
					if p := m.instance(m.leaderOr("db-mysql-0")); !voting || p.Agent == nil || p.closed() || !p.running() {
						t.Errorf("%d instances, %s, %s after %d actions: %+v with %+v", n, what, name, step, plan.Decision, m.record)
					}
				}
			}
		}
	}
}

// steps carries out that many actions.
func (m *model) steps(want Desired, count int) {
	for count > 0 {
		plan := Decide(want, m.observe())
		if len(plan.Actions) == 0 {
			return
		}
		for _, a := range plan.Actions {
			m.do(a, len(plan.Actions))
			m.check()
			if count--; count == 0 {
				return
			}
		}
	}
}

// leaderOr is the primary of the record, or otherwise while there is none.
func (m *model) leaderOr(otherwise string) string {
	if name := m.leader(); name != "" {
		return name
	}
	return otherwise
}

// TestAReplicaWithoutAVoteFollowsACandidateThatHasAllOfIt: it lost its vote after it had promised, and the old primary
// cannot be compared before somebody is open, so nobody else could acknowledge.
func TestAReplicaWithoutAVoteFollowsACandidateThatHasAllOfIt(t *testing.T) {
	m := three(t)
	m.crash("db-mysql-0")
	m.settleUntil(want3(), func() bool { return m.record.Phase == v1beta1.RecordChosen })
	m.crash("db-mysql-2")
	m.instance("db-mysql-2").Agent.Unvouched = "its host was started again"
	if plan := m.settle(want3()); plan.Decision.Rule != RuleSteady || m.instance("db-mysql-2").Agent.Unvouched != "" {
		t.Errorf("%+v with %+v", plan.Decision, m.record)
	}
}

// TestWhoeverCouldTakeOverIsStarted although the chosen primary is lost: a replica that is merely down must not keep the
// takeover waiting for ever.
func TestWhoeverCouldTakeOverIsStarted(t *testing.T) {
	m, want := three(t), want3()
	was := m.lose("db-mysql-2")
	m.crash("db-mysql-0")
	m.settleUntil(want, func() bool { return m.record.Phase == v1beta1.RecordOpened && m.instance("db-mysql-0").running() })
	m.own = ""
	m.record.Epoch, m.record.Phase, m.record.Claim = m.record.Epoch+1, v1beta1.RecordChosen, "somebody"
	m.settleUntil(want, func() bool { return m.record.Phase == v1beta1.RecordChosen && m.record.Claim == m.own })
	m.lose("db-mysql-0")
	m.instance("db-mysql-2").Agent, m.instance("db-mysql-2").Silent = was, 0
	m.crash("db-mysql-2")
	if plan := m.settle(want); m.leader() == "db-mysql-0" {
		t.Errorf("%+v with %+v", plan.Decision, m.record)
	}
}

// TestAPrimaryLeadsAgainWhenAJoinerThatWasGivenUpHoldsMost: the joiner may have acknowledged, and cannot be chosen.
func TestAPrimaryLeadsAgainWhenAJoinerThatWasGivenUpHoldsMost(t *testing.T) {
	m, want := newModel(t, 4), want3()
	m.settle(want)
	want.Replicas = 4
	m.settleUntil(want, func() bool {
		s := m.instance("db-mysql-3").Agent.Server
		return m.record.Pending != nil && s.ReplicaSemiSync
	})
	m.write1("db-mysql-0", "db-mysql-3", 50)
	m.crash("db-mysql-0")
	plan := m.settle(want)
	if plan.Decision.Rule != RuleSteady || !strings.Contains(m.instance("db-mysql-1").Agent.Server.GTIDExecuted, modelServer+":1-51") {
		t.Errorf("%+v with %+v", plan.Decision, m.record)
	}
}

// TestAFencedInstanceIsNotStartedForATakeover: a person wants it down, whoever is missing.
func TestAFencedInstanceIsNotStartedForATakeover(t *testing.T) {
	m, want := three(t), want3()
	want.Fenced = []string{"db-mysql-2"}
	m.settle(want)
	m.own = ""
	m.record.Epoch, m.record.Phase, m.record.Claim = m.record.Epoch+1, v1beta1.RecordChosen, "somebody"
	for n := range m.instances {
		m.promise(&m.instances[n], m.record)
	}
	m.lose("db-mysql-0")
	for _, a := range Decide(want, m.observe()).Actions {
		if a.Kind == Start && a.Instance == "db-mysql-2" {
			t.Error("it is started")
		}
	}
}

// TestWritesThatWaitAreNotMissing: a primary that leads does not show what waits for acknowledgements, its voters do.
func TestWritesThatWaitAreNotMissing(t *testing.T) {
	m := three(t)
	p := m.instance("db-mysql-0").Agent
	p.Server.OfflineMode, p.Server.SuperReadOnly, p.Marker = true, true, nil
	replica := m.instance("db-mysql-1").Agent.Server
	replica.Received = union(t, replica.Received, modelServer+":1-500")
	if plan := Decide(want3(), m.observe()); plan.Decision.Rule == RuleHold {
		t.Errorf("%+v", plan.Decision)
	}
}

// TestAClosedPrimaryRaisesKWithItsJoiner: one of the two that would have to be connected before lost its volume.
func TestAClosedPrimaryRaisesKWithItsJoiner(t *testing.T) {
	m, want := newModel(t, 4), want3()
	m.settle(want)
	want.Replicas = 4
	m.settleUntil(want, func() bool { return m.record.Pending != nil })
	delete(m.volumes, "db-mysql-2")
	m.instance("db-mysql-2").Agent = &api.Status{Volume: api.VolumeEmpty, Incarnation: "new", Mysqld: api.MysqldDown, StateCounter: 1}
	m.crash("db-mysql-0")
	if plan := m.settle(want); plan.Decision.Rule != RuleSteady || len(m.record.LastOpened.Voters) != 4 {
		t.Errorf("%+v with %+v", plan.Decision, m.record)
	}
}
