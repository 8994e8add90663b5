// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func TestANewClusterGrowsToWhatIsWanted(t *testing.T) {
	for n := 1; n <= 9; n++ {
		t.Run(fmt.Sprintf("%d instances", n), func(t *testing.T) {
			m := newModel(t, n)
			plan := m.settle(Desired{Replicas: int32(n)})
			if plan.Decision.Rule != RuleSteady || len(m.record.LastOpened.Voters) != n || m.record.LastOpened.AckCount != int32(n/2) {
				t.Errorf("ended with %+v and %+v", plan.Decision, m.record.LastOpened)
			}
			if m.record.Epoch != int64(n) {
				t.Errorf("epoch %d after %d changes of the voters", m.record.Epoch, n)
			}
			for _, i := range m.instances {
				if i.Agent.Server.OfflineMode {
					t.Errorf("%s serves nobody", i.Name)
				}
			}
		})
	}
}

func TestARunningClusterGrowsWithoutClosingItsPrimary(t *testing.T) {
	m := newModel(t, 1)
	m.settle(Desired{Replicas: 1})
	m.instances = append(m.instances, newModel(t, 3).instances[1:]...)
	primary := m.instance("db-mysql-0")
	for range 100 {
		plan := Decide(Desired{Replicas: 3}, m.observe())
		if len(plan.Actions) == 0 {
			break
		}
		for _, a := range plan.Actions {
			m.do(a, len(plan.Actions))
			if primary.closed() {
				t.Fatalf("%s closed the primary", a.Kind)
			}
		}
	}
	if diff := cmp.Diff([]string{"db-mysql-0", "db-mysql-1", "db-mysql-2"}, m.voters()); diff != "" {
		t.Error(diff)
	}
}

func TestKIsRaisedOnlyWhileEnoughVotersAreConnected(t *testing.T) {
	m := newModel(t, 3)
	m.settle(Desired{Replicas: 3})
	m.instances = append(m.instances, newModel(t, 4).instances[3])
	m.instance("db-mysql-2").Agent.Server.Channel.Receiver = "Connecting"
	m.settle(Desired{Replicas: 4})
	if m.record.Epoch != 3 || m.instance("db-mysql-0").Agent.Server.AckCount != 1 {
		t.Fatalf("with one of two replicas connected: epoch %d, k %d", m.record.Epoch, m.instance("db-mysql-0").Agent.Server.AckCount)
	}
	m.instance("db-mysql-2").Agent.Server.Channel.Receiver = "Yes"
	m.settle(Desired{Replicas: 4})
	if m.record.LastOpened.AckCount != 2 {
		t.Errorf("with both connected: %+v", m.record.LastOpened)
	}
}

func TestACoordinatorThatForgetsGoesOnInTheNextEpoch(t *testing.T) {
	for every := 1; every <= 4; every++ {
		m := newModel(t, 3)
		m.restartEvery = every + 1 // with 1 nothing could ever be opened
		plan := m.settle(Desired{Replicas: 3})
		if plan.Decision.Rule != RuleSteady || len(m.record.LastOpened.Voters) != 3 {
			t.Errorf("forgetting after every %d writes: %+v", every+1, plan.Decision)
		}
	}
}

func TestACrashedPrimaryThatNobodyCanReplaceOpensAgainInItsEpoch(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 2})
	epoch, marker := m.record.Epoch, m.record.LastOpened.MarkerGTID
	m.crash("db-mysql-0")
	plan := m.settle(Desired{Replicas: 2})
	primary := m.instance("db-mysql-0")
	if plan.Decision.Rule != RuleSteady || m.record.Epoch != epoch || primary.closed() {
		t.Fatalf("%+v in epoch %d", plan.Decision, m.record.Epoch)
	}
	if primary.Agent.Marker.GTID == marker {
		t.Error("it opened with its old marker")
	}
}

func TestAPrimaryWithoutAckersStaysClosed(t *testing.T) {
	m := newModel(t, 3)
	m.settle(Desired{Replicas: 3})
	for n := range m.instances {
		m.crash(m.instances[n].Name)
	}
	m.instance("db-mysql-1").Agent, m.instance("db-mysql-1").Cause = nil, "its agent is silent"
	m.instance("db-mysql-2").Agent, m.instance("db-mysql-2").Cause = nil, "its agent is silent"
	plan := m.settle(Desired{Replicas: 3})
	if plan.Decision.Rule != RuleReopen || !m.instance("db-mysql-0").closed() || !strings.Contains(plan.Decision.WaitingFor, "voters connected") {
		t.Errorf("%+v", plan.Decision)
	}
}

func TestALostRecordIsTakenUpFromTheCopies(t *testing.T) {
	m := newModel(t, 3)
	m.settle(Desired{Replicas: 3})
	old := m.record
	m.record, m.own = nil, ""
	silent := m.instance("db-mysql-2").Agent
	m.instance("db-mysql-2").Agent, m.instance("db-mysql-2").Cause = nil, "its node is starting"
	plan := m.settle(Desired{Replicas: 3})
	if plan.Decision.Rule != RuleReadVolumes || !strings.Contains(plan.Decision.WaitingFor, "db-mysql-2") {
		t.Fatalf("with a volume unread: %+v", plan.Decision)
	}
	m.instance("db-mysql-2").Agent = silent
	plan = m.settle(Desired{Replicas: 3})
	if plan.Decision.Rule != RuleSteady || m.record.Epoch <= old.Epoch || m.record.Primary.Name != old.Primary.Name {
		t.Errorf("%+v with record %+v", plan.Decision, m.record)
	}
}

func TestARecordOlderThanAPromiseIsNotFollowed(t *testing.T) {
	m := newModel(t, 1)
	m.settle(Desired{Replicas: 1})
	stale := m.record
	m.instances = append(m.instances, newModel(t, 2).instances[1])
	m.settle(Desired{Replicas: 2})
	m.record, m.own = stale, ""
	m.settle(Desired{Replicas: 2})
	if m.record.Epoch <= 2 || len(m.record.LastOpened.Voters) != 2 {
		t.Errorf("the restored record %+v", m.record)
	}
}

func TestOneDonorServesOneClone(t *testing.T) {
	m := newModel(t, 3)
	m.settle(Desired{Replicas: 1})
	plan := Decide(Desired{Replicas: 3}, m.observe())
	for len(plan.Actions) > 0 && plan.Actions[0].Kind == Promise {
		for _, a := range plan.Actions {
			m.do(a, len(plan.Actions))
		}
		plan = Decide(Desired{Replicas: 3}, m.observe())
	}
	clones := 0
	for _, a := range plan.Actions {
		if a.Kind == Clone {
			clones++
		}
	}
	if clones != 1 || !strings.Contains(plan.Decision.WaitingFor, "db-mysql-2: a donor") {
		t.Errorf("%d clones at once; %+v", clones, plan.Decision)
	}
}

// TestHolds names what Decide refuses to do, and the words it says it with.
func TestHolds(t *testing.T) {
	cases := map[string]struct {
		change func(m *model)
		rule   Rule
		says   string
	}{
		"data without a record is not initialised over": {
			func(m *model) { m.instance("db-mysql-1").Agent.Volume = api.VolumeReady }, RuleHold, "db-mysql-1",
		},
		"data whose agent state is unreadable is not touched": {
			func(m *model) { m.instance("db-mysql-2").Agent.Volume = api.VolumeUnreadable }, RuleHold, "db-mysql-2",
		},
		"a volume nobody has read is waited for": {
			func(m *model) {
				m.instance("db-mysql-2").Agent, m.instance("db-mysql-2").Cause = nil, "its Pod is starting"
			}, RuleReadVolumes, "db-mysql-2: its Pod is starting",
		},
		"a volume another Pod holds is waited for": {
			func(m *model) {
				m.instance("db-mysql-0").Agent.Volume, m.instance("db-mysql-0").Agent.VolumeHolder = api.VolumeWaiting, "uid-1"
			}, RuleReadVolumes, "uid-1",
		},
		"a record of a newer format is left alone": {
			func(m *model) { m.record = &Record{Version: v1beta1.RecordVersion + 1} }, RuleRecordTooNew, "a controller",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, 3)
			c.change(m)
			plan := Decide(Desired{Replicas: 3}, m.observe())
			if plan.Decision.Rule != c.rule || len(plan.Actions) != 0 || !strings.Contains(plan.Decision.Reason+plan.Decision.WaitingFor, c.says) {
				t.Errorf("%+v", plan)
			}
		})
	}
}

func TestAVoterWhoseVolumeWasLostIsFilledAnewAndVotesAgain(t *testing.T) {
	for n := int32(2); n <= 5; n++ {
		m := newModel(t, int(n))
		m.settle(Desired{Replicas: n})
		before := m.record.Epoch
		last := m.instance(fmt.Sprintf("db-mysql-%d", n-1))
		delete(m.volumes, last.Name)
		last.Agent = &api.Status{Volume: api.VolumeEmpty, Incarnation: "new", Mysqld: api.MysqldDown, StateCounter: 1}
		plan := m.settle(Desired{Replicas: n})
		if plan.Decision.Rule != RuleSteady || len(m.record.LastOpened.Voters) != int(n) || !contains(opened(m.record), last.Agent.Incarnation) {
			t.Errorf("%d instances: %+v, %+v", n, plan.Decision, m.record.LastOpened)
		}
		if changes := m.record.Epoch - before; changes != 2 && n > 2 || changes != 1 && n == 2 {
			t.Errorf("%d instances: %d epochs for one lost volume", n, changes)
		}
	}
}

func TestALearnerWithForeignTransactionsIsNotConnected(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 1})
	stray := m.instance("db-mysql-1").Agent
	stray.Volume, stray.Mysqld = api.VolumeReady, api.MysqldRunning
	stray.Server = &api.Server{SuperReadOnly: true, OfflineMode: true, GTIDExecuted: "4e11fa47-71ca-11e1-9e33-c80aa9429562:1", Received: "4e11fa47-71ca-11e1-9e33-c80aa9429562:1"}
	plan := m.settle(Desired{Replicas: 2})
	if stray.Server.Channel != nil || !strings.Contains(plan.Decision.WaitingFor, "transactions that the primary does not have") {
		t.Errorf("%+v", plan.Decision)
	}
}

func TestAPrimaryWhoseVolumeWasSetBackStaysClosed(t *testing.T) {
	m := newModel(t, 3)
	m.settle(Desired{Replicas: 3})
	for n := range m.instances {
		m.crash(m.instances[n].Name)
	}
	m.volumes["db-mysql-1"] += "," + modelServer + ":1-900"
	plan := m.settle(Desired{Replicas: 3})
	if plan.Decision.Rule != RuleHold || !m.instance("db-mysql-0").closed() || !strings.Contains(plan.Decision.Reason, "db-mysql-1") {
		t.Errorf("%+v", plan.Decision)
	}
}

func TestWhatAReplicaExecutedByItselfDoesNotKeepThePrimaryClosed(t *testing.T) {
	m := newModel(t, 3)
	m.settle(Desired{Replicas: 3})
	for n := range m.instances {
		m.crash(m.instances[n].Name)
	}
	m.volumes["db-mysql-1"] += ",4e11fa47-71ca-11e1-9e33-c80aa9429562:1"
	if plan := m.settle(Desired{Replicas: 3}); plan.Decision.Rule != RuleSteady {
		t.Errorf("%+v", plan.Decision)
	}
}

func TestAMarkerWhoseAcknowledgementWasLostIsFollowedByAnother(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 2})
	m.crash("db-mysql-0")
	m.loseAcks = true
	for range 12 { // until the first marker waits
		plan := Decide(Desired{Replicas: 2}, m.observe())
		for _, a := range plan.Actions {
			m.do(a, len(plan.Actions))
		}
		if marker := m.instance("db-mysql-0").Agent.Marker; marker != nil {
			break
		}
	}
	first := m.instance("db-mysql-0").Agent.Marker
	m.loseAcks = false
	plan := m.settle(Desired{Replicas: 2})
	if first == nil || plan.Decision.Rule != RuleSteady || m.instance("db-mysql-0").Agent.Marker.GTID == first.GTID {
		t.Errorf("first %+v; %+v", first, plan.Decision)
	}
}

func TestAReceiverThatIsTurnedAwayIsAdmittedAgain(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 2})
	channel := m.instance("db-mysql-1").Agent.Server.Channel
	channel.Receiver, channel.ReceiverErrno = "Connecting", accessDenied
	var kinds []string
	for _, a := range Decide(Desired{Replicas: 2}, m.observe()).Actions {
		kinds = append(kinds, string(a.Kind)+" "+a.Instance)
	}
	if diff := cmp.Diff([]string{"Admit db-mysql-0", "Follow db-mysql-1"}, kinds); diff != "" {
		t.Error(diff)
	}
}

func TestALearnerThatReportsNoLagButLacksMuchDoesNotVote(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 1})
	m.settleUntil(Desired{Replicas: 2}, func() bool {
		s := m.instance("db-mysql-1").Agent.Server
		return s != nil && s.Channel != nil
	})
	p := m.instance("db-mysql-0").Agent.Server
	p.GTIDExecuted += "," + modelServer + ":1-5000"
	if plan := m.settle(Desired{Replicas: 2}); m.record.Epoch != 1 || plan.Decision.Rule != RuleFill {
		t.Errorf("epoch %d, %+v", m.record.Epoch, plan.Decision)
	}
}

func TestAClusterDeletedBeforeItsFirstOpeningBeginsAgain(t *testing.T) {
	m := newModel(t, 3)
	m.settleUntil(Desired{Replicas: 3}, func() bool { return m.instance("db-mysql-0").Agent.Volume == api.VolumeReady })
	m.record, m.own = nil, ""
	if plan := m.settle(Desired{Replicas: 3}); plan.Decision.Rule != RuleSteady {
		t.Errorf("%+v", plan.Decision)
	}
}

func TestAPromiseWithoutARecordIsOvertaken(t *testing.T) {
	m := newModel(t, 2)
	m.settle(Desired{Replicas: 2})
	m.instance("db-mysql-1").Agent.PromisedEpoch, m.instance("db-mysql-1").Agent.PromisedClaim = 9, "lost"
	if plan := m.settle(Desired{Replicas: 2}); plan.Decision.Rule != RuleSteady || m.record.Epoch != 10 {
		t.Errorf("epoch %d, %+v", m.record.Epoch, plan.Decision)
	}
}
