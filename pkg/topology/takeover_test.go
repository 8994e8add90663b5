// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// want3 is a cluster of three with the usual times.
func want3() Desired {
	return Desired{Replicas: 3, Detection: 2 * time.Second, RemoveAbsent: time.Minute}
}

// three returns a healthy cluster of three whose primary is db-mysql-0.
func three(t *testing.T) *model {
	m := newModel(t, 3)
	if plan := m.settle(want3()); plan.Decision.Rule != RuleSteady {
		t.Fatalf("%+v", plan.Decision)
	}
	return m
}

// TestTakeovers loses or asks for primaries and says who leads in the end, in which the model's own checks hold: nobody
// leads before he has applied everything, only voters acknowledge, never two take writes.
func TestTakeovers(t *testing.T) {
	cases := map[string]struct {
		change  func(m *model, want *Desired)
		primary string
		rule    Rule
		says    string
	}{
		"a crashed primary is replaced and comes back as a voter": {
			func(m *model, _ *Desired) { m.crash("db-mysql-0") }, "db-mysql-1", RuleSteady, "",
		},
		"the replica that holds more is chosen": {
			func(m *model, _ *Desired) {
				m.write1("db-mysql-0", "db-mysql-2", 50)
				m.crash("db-mysql-0")
			}, "db-mysql-2", RuleSteady, "",
		},
		"a silent primary that its replicas miss is replaced": {
			func(m *model, _ *Desired) { m.lose("db-mysql-0") }, "db-mysql-1", RuleRejoin, "db-mysql-0",
		},
		"a silent primary that its replicas hear is left alone": {
			func(m *model, _ *Desired) {
				m.lose("db-mysql-0")
				m.instance("db-mysql-1").Agent.Server.Channel.QuietMillis = 0
			}, "db-mysql-0", RuleHold, "does not answer",
		},
		"a primary that is silent for less than the detection time is left alone": {
			func(m *model, _ *Desired) {
				m.lose("db-mysql-0")
				m.instance("db-mysql-0").Silent = time.Second
			}, "db-mysql-0", RuleHold, "does not answer",
		},
		"a primary that completes no write is replaced": {
			func(m *model, _ *Desired) { m.instance("db-mysql-0").Agent.StalledMillis = 2000 }, "db-mysql-1", RuleSteady, "",
		},
		"a primary that has been starting for long is replaced": {
			func(m *model, _ *Desired) {
				m.instance("db-mysql-0").Agent.Server, m.instance("db-mysql-0").Unanswered = nil, time.Minute
			}, "db-mysql-1", RuleRejoin, "db-mysql-0",
		},
		"a primary that is starting is waited for": {
			func(m *model, _ *Desired) {
				m.instance("db-mysql-0").Agent.Server, m.instance("db-mysql-0").Unanswered = nil, 5*time.Second
			}, "db-mysql-0", RuleReopen, "db-mysql-0",
		},
		"a primary that its replicas do not hear is replaced although its agent answers": {
			func(m *model, _ *Desired) {
				for _, name := range []string{"db-mysql-1", "db-mysql-2"} {
					m.instance(name).Agent.Server.Channel.QuietMillis = 2500
				}
			}, "db-mysql-1", RuleSteady, "",
		},
		"with a replica missing the crashed primary opens again": {
			func(m *model, _ *Desired) {
				m.lose("db-mysql-2")
				m.crash("db-mysql-0")
			}, "db-mysql-0", RuleRejoin, "db-mysql-2",
		},
		"with a replica missing a lost primary is waited for, and the missing are named": {
			func(m *model, _ *Desired) {
				m.lose("db-mysql-2")
				m.lose("db-mysql-0")
				m.instance("db-mysql-1").Agent.Server.Channel.QuietMillis = 9000
			}, "db-mysql-0", RuleHold, "does not answer",
		},
		"a replica without a vote does not count": {
			func(m *model, _ *Desired) {
				m.instance("db-mysql-1").Agent.Unvouched = "its host was started again"
				m.crash("db-mysql-0")
			}, "db-mysql-0", RuleSteady, "",
		},
		"with failover by hand a crashed primary opens again": {
			func(m *model, want *Desired) {
				want.Manual = true
				m.crash("db-mysql-0")
			}, "db-mysql-0", RuleSteady, "",
		},
		"with failover by hand a lost primary is not replaced": {
			func(m *model, want *Desired) {
				want.Manual = true
				m.lose("db-mysql-0")
			}, "db-mysql-0", RuleHold, "spec.failover.mode is Manual",
		},
		"acknowledged writes that only the primary may hold are not left behind": {
			func(m *model, _ *Desired) {
				m.ownLog = true
				m.lose("db-mysql-0")
			}, "db-mysql-0", RuleHold, "db-mysql-0 alone",
		},
		"a floor that no replica covers is not left behind": {
			func(m *model, _ *Desired) {
				m.floor = modelServer + ":1-700"
				m.lose("db-mysql-0")
			}, "", RuleChoose, "was seen to have committed",
		},
		"a switchover to a replica by name": {
			func(_ *model, want *Desired) { want.Switchover = &Switchover{Target: "db-mysql-2"} }, "db-mysql-2", RuleSteady, "",
		},
		"a switchover to a replica that is away changes nothing": {
			func(m *model, want *Desired) {
				want.Switchover = &Switchover{Target: "db-mysql-2"}
				m.lose("db-mysql-2")
			}, "db-mysql-0", RuleRejoin, "db-mysql-2",
		},
		"a switchover to a name that does not exist changes nothing": {
			func(_ *model, want *Desired) { want.Switchover = &Switchover{Target: "db-mysql-7"} }, "db-mysql-0", RuleSteady, "",
		},
		"a primary whose Pod stops hands over": {
			func(m *model, _ *Desired) { m.instance("db-mysql-0").Stopping = true }, "db-mysql-1", RuleRejoin, "db-mysql-0",
		},
		"a primary whose Pod stops while a replica is away serves until it is back": {
			func(m *model, _ *Desired) {
				m.lose("db-mysql-2")
				m.instance("db-mysql-0").Stopping = true
			}, "db-mysql-0", RuleSwitchover, "serves until somebody can take over",
		},
		"when all are to stop the primary stops, too": {
			func(m *model, _ *Desired) {
				for n := range m.instances {
					m.instances[n].Stopping = true
				}
			}, "db-mysql-0", RuleStop, "nobody can take over",
		},
		"a fenced primary hands over and is stopped": {
			func(_ *model, want *Desired) { want.Fenced = []string{"db-mysql-0"} }, "db-mysql-1", RuleRejoin, "db-mysql-0",
		},
		"an accepted loss lets the one that is left lead alone": {
			func(m *model, want *Desired) {
				m.lose("db-mysql-0")
				m.lose("db-mysql-2")
				m.instance("db-mysql-0").Gone, m.instance("db-mysql-2").Gone = true, true
				want.AcceptLoss = []string{"db-mysql-0", "db-mysql-2"}
			}, "db-mysql-1", RuleFill, "1 of 3 instances vote",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m, want := three(t), want3()
			c.change(m, &want)
			plan := m.settle(want)
			if got := m.leader(); got != c.primary {
				t.Errorf("%q leads: %+v", got, plan.Decision)
			}
			if plan.Decision.Rule != c.rule || !strings.Contains(plan.Decision.Reason+plan.Decision.WaitingFor, c.says) {
				t.Errorf("%+v", plan.Decision)
			}
		})
	}
}

// TestTheOldPrimaryDoesNotStartUnderAnotherBeforeItWasCompared follows one crash step by step.
func TestTheOldPrimaryDoesNotStartUnderAnotherBeforeItWasCompared(t *testing.T) {
	m := three(t)
	m.crash("db-mysql-0")
	m.volumes["db-mysql-0"] += fmt.Sprintf(",%s:2-9", modelServer) // written, and never acknowledged
	plan := m.settle(want3())
	if plan.Decision.Rule != RuleSteady || strings.Contains(m.instance("db-mysql-0").Agent.Server.GTIDExecuted, modelServer+":1-9") {
		t.Errorf("%+v with %s", plan.Decision, m.instance("db-mysql-0").Agent.Server.GTIDExecuted)
	}
}

// TestASecondFailoverCountsAgainstTheEpochThatWasOpened loses the candidate of the first before its marker.
func TestASecondFailoverCountsAgainstTheEpochThatWasOpened(t *testing.T) {
	m := newModel(t, 5)
	want := want3()
	want.Replicas = 5
	m.settle(want)
	opened := m.record.LastOpened.Epoch
	m.lose("db-mysql-0")
	m.settleUntil(want, func() bool { return m.record.Phase == v1beta1.RecordChosen })
	candidate := m.record.Primary.Name
	m.lose(candidate)
	plan := m.settle(want)
	if m.record.LastOpened.Epoch != opened+2 || m.leader() == candidate || m.leader() == "db-mysql-0" {
		t.Errorf("%+v with %+v", plan.Decision, m.record)
	}
}

// TestAJoinerCountsUntilAnEpochIsOpened gives up a growth in the middle of it: what the joiner alone may have acknowledged
// keeps the takeover waiting for it.
func TestAJoinerCountsUntilAnEpochIsOpened(t *testing.T) {
	m := newModel(t, 4)
	want := want3()
	m.settle(want)
	want.Replicas = 4
	m.settleUntil(want, func() bool { return m.record.Pending != nil })
	m.lose("db-mysql-0")
	m.lose("db-mysql-3")
	m.lose("db-mysql-1")
	plan := m.settle(want)
	if plan.Decision.Rule == RuleSteady || m.leader() != "" && m.leader() != "db-mysql-0" {
		t.Errorf("%+v with %+v", plan.Decision, m.record)
	}
}

func TestAnAbsentVoterLosesItsVoteAndGetsItBack(t *testing.T) {
	m := three(t)
	was := m.lose("db-mysql-2")
	m.settle(want3())
	if len(m.record.LastOpened.Voters) != 3 {
		t.Fatal("it lost its vote at once")
	}
	m.instance("db-mysql-2").Away = time.Minute
	m.settle(want3())
	if len(m.record.LastOpened.Voters) != 2 || m.record.LastOpened.AckCount != 1 {
		t.Fatalf("after a minute: %+v", m.record.LastOpened)
	}
	m.instance("db-mysql-2").Agent, m.instance("db-mysql-2").Away, m.instance("db-mysql-2").Silent = was, 0, 0
	plan := m.settle(want3())
	if plan.Decision.Rule != RuleSteady || len(m.record.LastOpened.Voters) != 3 {
		t.Errorf("when it is back: %+v, %+v", plan.Decision, m.record.LastOpened)
	}
}

func TestOfTwoVotersNoneLosesItsVoteByBeingAway(t *testing.T) {
	m := newModel(t, 2)
	want := want3()
	want.Replicas = 2
	m.settle(want)
	m.lose("db-mysql-1")
	m.instance("db-mysql-1").Away = time.Hour
	m.settle(want)
	if len(m.record.LastOpened.Voters) != 2 {
		t.Errorf("%+v", m.record.LastOpened)
	}
}

func TestWhatADivergedReplicaExecutedIsShownAndItIsFilledAnew(t *testing.T) {
	m := three(t)
	i := m.instance("db-mysql-2")
	i.Agent.Diverged = &api.Divergence{GTIDs: "4e11fa47-71ca-11e1-9e33-c80aa9429562:1"}
	plan := m.settle(want3())
	if plan.Decision.Rule != RuleSteady || i.Agent.Diverged != nil || len(m.record.LastOpened.Voters) != 3 {
		t.Errorf("%+v, %+v", plan.Decision, i.Agent)
	}
}

func TestFailoverPossible(t *testing.T) {
	cases := map[string]struct {
		change func(m *model)
		says   string
	}{
		"with all voters there":              {func(*model) {}, ""},
		"not without a replica, by its name": {func(m *model) { m.lose("db-mysql-1") }, "missing: db-mysql-1"},
		"not with a replica that has no vote": {
			func(m *model) { m.instance("db-mysql-2").Agent.Unvouched = "its host was started again" }, "missing: db-mysql-2",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := three(t)
			c.change(m)
			possible, reason := FailoverPossible(want3(), m.observe())
			if possible != (c.says == "") || !strings.Contains(reason, c.says) {
				t.Errorf("%t: %s", possible, reason)
			}
		})
	}
}
