package topology

import (
	"testing"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func try(t *testing.T, name string, f func(t *testing.T)) { t.Run(name, f) }

func TestScratch(t *testing.T) {
	try(t, "silent candidate server nil panics", func(t *testing.T) {
		m := three(t)
		m.crash("db-mysql-0")
		m.settleUntil(want3(), func() bool { return m.record.Phase == v1beta1.RecordChosen })
		m.instance(m.record.Primary.Name).Agent.Server = nil
		Decide(want3(), m.observe())
	})
	try(t, "salvage thrash on floor", func(t *testing.T) {
		m := three(t)
		m.floor = modelServer + ":1-700"
		m.crash("db-mysql-0")
		m.volumes["db-mysql-0"] += "," + modelServer + ":1-700"
		plan := m.settle(want3())
		t.Logf("%+v %+v", plan.Decision, m.record)
	})
	try(t, "rewound learner joins alone primary", func(t *testing.T) {
		m, want := three(t), want3()
		was := m.lose("db-mysql-0")
		m.lose("db-mysql-2")
		m.instance("db-mysql-0").Gone, m.instance("db-mysql-2").Gone = true, true
		want.AcceptLoss = []string{"db-mysql-0", "db-mysql-2"}
		m.settle(want)
		i := m.instance("db-mysql-0")
		i.Agent, i.Gone, i.Silent = was, false, 0
		want.AcceptLoss = nil
		plan := m.settle(want)
		t.Logf("%+v %+v", plan.Decision, m.record)
	})
	try(t, "n2 diverged", func(t *testing.T) {
		m := newModel(t, 2)
		want := want3()
		want.Replicas = 2
		m.settle(want)
		i := m.instance("db-mysql-1")
		i.Agent.Diverged = &api.Divergence{GTIDs: "4e11fa47-71ca-11e1-9e33-c80aa9429562:1"}
		i.Agent.Server.Channel = nil
		plan := m.settle(want)
		t.Logf("%+v %+v", plan.Decision, m.record)
	})
	for n := 2; n <= 3; n++ {
		try(t, "restart after lead", func(t *testing.T) {
			m := newModel(t, n)
			want := want3()
			want.Replicas = int32(n)
			m.settle(want)
			if n == 2 {
				want.Switchover = &Switchover{Target: "db-mysql-1"}
			} else {
				m.lose("db-mysql-0")
			}
			m.settleUntil(want, func() bool { s := m.instance("db-mysql-1").Agent.Server; return s != nil && s.SourceSemiSync })
			m.own = ""
			plan := m.settle(want)
			t.Logf("%+v %+v", plan.Decision, m.record)
		})
	}
}
