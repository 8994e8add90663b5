// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// upTo is the set of the first transactions of the first server; "" for none.
func upTo(last int) string {
	if last == 0 {
		return ""
	}
	return fmt.Sprintf("%s:1-%d", modelServer, last)
}

// purgeWorld is an open primary that executed 100 transactions and two replicas that executed 90 and 80; every instance
// keeps the first 50 in binary logs that it could delete.
func purgeWorld() Observed {
	voters := []Member{}
	seen := Observed{}
	for n := range int32(3) {
		m := Member{Name: fmt.Sprintf("db-mysql-%d", n), Ordinal: n, Incarnation: fmt.Sprintf("data-%d", n)}
		voters = append(voters, m)
		seen.Instances = append(seen.Instances, purgeInstance(m, 100-10*int(n)))
	}
	seen.Record = &Record{
		Version: v1beta1.RecordVersion, Epoch: 4, Phase: v1beta1.RecordOpened, Claim: "claim", Primary: &voters[0],
		LastOpened: &v1beta1.OpenedEpoch{Configuration: Configuration{Voters: voters, AckCount: 1}, Epoch: 4, Primary: voters[0]},
	}
	for n := range seen.Instances {
		a := seen.Instances[n].Agent
		a.Record, a.PromisedEpoch, a.PromisedClaim = seen.Record, 4, "claim"
	}
	return seen
}

func purgeInstance(m Member, last int) Instance {
	return Instance{Name: m.Name, Ordinal: m.Ordinal, HasVolume: true, Configured: true, Agent: &api.Status{
		Volume: api.VolumeReady, Incarnation: m.Incarnation, Mysqld: api.MysqldRunning, BinlogGTIDs: upTo(50),
		Server: &api.Server{GTIDExecuted: upTo(last), Received: upTo(last)},
	}}
}

func TestWhatMayBePurged(t *testing.T) {
	learner := Member{Name: "db-mysql-3", Ordinal: 3, Incarnation: "data-3"}
	others := Configuration{Voters: []Member{learner}}
	archive := func(text string) func(*Desired, *Observed) {
		return func(want *Desired, seen *Observed) {
			want.Archived = true
			seen.Instances[0].Agent.Archive = &api.Archive{GTIDs: text}
		}
	}
	joined := func(change func(*Instance)) func(*Desired, *Observed) {
		return func(_ *Desired, seen *Observed) {
			i := purgeInstance(learner, 60)
			change(&i)
			seen.Instances = append(seen.Instances, i)
		}
	}
	cases := map[string]struct {
		change func(*Desired, *Observed)
		want   string
	}{
		"what all voters executed":                       {func(*Desired, *Observed) {}, upTo(80)},
		"nothing without a record":                       {func(_ *Desired, seen *Observed) { seen.Record = nil }, ""},
		"nothing before the first epoch was opened":      {func(_ *Desired, seen *Observed) { seen.Record.LastOpened = nil }, ""},
		"nothing while a voter is silent":                {func(_ *Desired, seen *Observed) { seen.Instances[2].Agent = nil }, ""},
		"nothing while mysqld of a voter does not run":   {func(_ *Desired, seen *Observed) { seen.Instances[2].Agent.Server = nil }, ""},
		"nothing while the primary is silent":            {func(_ *Desired, seen *Observed) { seen.Instances[0].Agent = nil }, ""},
		"nothing while the data of a voter are missing":  {func(_ *Desired, seen *Observed) { seen.Instances[1].Agent.Incarnation = "other" }, ""},
		"nothing while a set cannot be read":             {func(_ *Desired, seen *Observed) { seen.Instances[1].Agent.Server.GTIDExecuted = "?" }, ""},
		"received is not executed":                       {func(_ *Desired, seen *Observed) { seen.Instances[1].Agent.Server.GTIDExecuted = upTo(10) }, upTo(10)},
		"what a learner still has to apply stays":        {joined(func(*Instance) {}), upTo(60)},
		"nothing while a learner is cloned":              {joined(func(i *Instance) { i.Agent.Volume, i.Agent.Server = api.VolumeFilling, nil }), ""},
		"nothing while a learner is about to be cloned":  {joined(func(i *Instance) { i.Agent.Volume, i.Agent.Server = api.VolumeEmpty, nil }), ""},
		"nothing while a learner with data is silent":    {joined(func(i *Instance) { i.Agent = nil }), ""},
		"an instance that never had a volume lacks all":  {joined(func(i *Instance) { i.Agent, i.HasVolume = nil, false }), upTo(80)},
		"nothing while a voter of a pending one is away": {func(_ *Desired, seen *Observed) { seen.Record.Pending = &others }, ""},
		"nothing while one of an earlier one is away":    {func(_ *Desired, seen *Observed) { seen.Record.Earlier = []Configuration{others} }, ""},
		"a voter of a pending one counts": {func(want *Desired, seen *Observed) {
			seen.Record.Pending = &others
			joined(func(*Instance) {})(want, seen)
		}, upTo(60)},
		"nothing of what is not archived":        {archive(upTo(30)), upTo(30)},
		"no more than executed, if all is there": {archive(upTo(200)), upTo(80)},
		"nothing while the archive is empty":     {archive(""), ""},
		"nothing while nobody tells what is archived": {func(want *Desired, _ *Observed) {
			want.Archived = true
		}, ""},
		"the word of a replica about the archive does not count": {func(want *Desired, seen *Observed) {
			want.Archived = true
			seen.Instances[1].Agent.Archive = &api.Archive{GTIDs: upTo(100)}
		}, ""},
		"an archive that is not asked for is not waited for": {func(_ *Desired, seen *Observed) {
			seen.Instances[0].Agent.Archive = &api.Archive{GTIDs: upTo(5)}
		}, upTo(80)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			want, seen := Desired{Replicas: 3}, purgeWorld()
			c.change(&want, &seen)
			if diff := cmp.Diff(c.want, Purgeable(want, seen).String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhoIsToldToPurge(t *testing.T) {
	all := []string{"db-mysql-0", "db-mysql-1", "db-mysql-2"}
	cases := map[string]struct {
		change func(*Observed)
		want   []string
	}{
		"everybody who keeps what nobody needs":              {func(*Observed) {}, all},
		"not who keeps nothing":                              {func(seen *Observed) { seen.Instances[1].Agent.BinlogGTIDs = "" }, []string{all[0], all[2]}},
		"not who keeps only what somebody needs":             {func(seen *Observed) { seen.Instances[0].Agent.BinlogGTIDs = modelServer + ":81-90" }, all[1:]},
		"not whose Pod is being stopped":                     {func(seen *Observed) { seen.Instances[2].Stopping = true }, all[:2]},
		"not who has not promised the present epoch":         {func(seen *Observed) { seen.Instances[1].Agent.PromisedEpoch = 3 }, []string{all[0], all[2]}},
		"nobody while somebody may still need all there is":  {func(seen *Observed) { seen.Instances[2].Agent.Server = nil }, nil},
		"nobody while the newest voter has executed nothing": {func(seen *Observed) { seen.Instances[2].Agent.Server.GTIDExecuted = "" }, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			seen := purgeWorld()
			c.change(&seen)
			var got []string
			for _, a := range Purges(Desired{Replicas: 3}, seen) {
				got = append(got, a.Instance)
				if a.Kind != Purge || a.Record != seen.Record || a.Purgeable != upTo(80) {
					t.Errorf("%+v", a)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// purgeModel is a cluster whose transactions are numbered: each instance executed those up to a number, and keeps those
// above another in its binary log. What the coordinator knows of each instance is of an own, earlier moment.
type purgeModel struct {
	*rand.Rand
	seen     Observed
	primary  int
	executed []int
	purged   []int
	archived int
	clones   int
}

func newPurgeModel(seed uint64) *purgeModel {
	m := &purgeModel{Rand: rand.New(rand.NewPCG(seed, 1)), seen: purgeWorld(), executed: []int{0, 0, 0, 0}, purged: []int{0, 0, 0, 0}}
	m.seen.Instances = append(m.seen.Instances, purgeInstance(Member{Name: "db-mysql-3", Ordinal: 3, Incarnation: "data-3"}, 0))
	for n := range m.seen.Instances {
		m.report(n)
	}
	return m
}

// report brings the news of one instance.
func (m *purgeModel) report(n int) {
	a := m.seen.Instances[n].Agent
	a.Server = &api.Server{GTIDExecuted: upTo(m.executed[n])}
	a.Archive, a.BinlogGTIDs = nil, ""
	if n == m.primary {
		a.Archive = &api.Archive{GTIDs: upTo(m.archived)}
	}
	if m.executed[n] > m.purged[n] {
		a.BinlogGTIDs = fmt.Sprintf("%s:%d-%d", modelServer, m.purged[n]+1, m.executed[n])
	}
}

// step does one thing that may happen.
func (m *purgeModel) step() {
	n := m.IntN(4)
	switch m.IntN(8) {
	case 0, 1:
		m.executed[m.primary] += m.IntN(5)
	case 2, 3: // a replica applies some of it
		if lag := m.executed[m.primary] - m.executed[n]; lag > 0 {
			m.executed[n] += m.IntN(lag + 1)
		}
	case 4: // the archive takes what a voter besides the primary has, too
		m.archived = max(m.archived, min(m.executed[m.primary], m.executed[(m.primary+1)%3]))
	case 5:
		m.report(n)
	case 6: // a silence, or an end of mysqld
		m.seen.Instances[n].Agent.Server = nil
	case 7:
		m.failOver(n)
	}
}

// failOver makes a voter the primary, if it has as much as another replica: what the others executed beyond is cut off.
// The fourth instance is cloned anew, which the coordinator learns with its next report.
func (m *purgeModel) failOver(n int) {
	if n == 3 {
		m.clones++
		m.executed[3], m.purged[3] = m.executed[m.primary], m.executed[m.primary]
		m.seen.Instances[3].Agent.Server, m.seen.Instances[3].Agent.Incarnation = nil, fmt.Sprint("clone-", m.clones)
		return
	}
	if other := 3 - n - m.primary; n == m.primary || m.executed[n] < m.executed[other] || m.executed[n] < m.archived {
		return
	}
	m.primary = n
	for i := range m.executed {
		m.executed[i] = min(m.executed[i], m.executed[n])
	}
	m.seen.Record.Primary = &m.seen.Record.LastOpened.Voters[n]
	m.seen.Record.LastOpened.Primary = m.seen.Record.LastOpened.Voters[n]
	for i := range m.seen.Instances {
		m.report(i) // they promised the new epoch
	}
}

// purge has everybody delete what they are told to.
func (m *purgeModel) purge(t *testing.T) (deleted bool) {
	t.Helper()
	for _, a := range Purges(Desired{Replicas: 4, Archived: true}, m.seen) {
		n := slices.IndexFunc(m.seen.Instances, func(i Instance) bool { return i.Name == a.Instance })
		for m.purged[n] < m.executed[n] && has(a.Purgeable, fmt.Sprintf("%s:%d", modelServer, m.purged[n]+1)) {
			m.purged[n]++
			deleted = true
		}
		if m.purged[n] > m.archived {
			t.Fatalf("%s deleted %d, archived are %d", a.Instance, m.purged[n], m.archived)
		}
	}
	return deleted
}

func TestNobodyEverLacksWhatWasPurged(t *testing.T) {
	purges := 0
	for seed := range uint64(300) {
		m := newPurgeModel(seed)
		for range 300 {
			m.step()
			if m.purge(t) {
				purges++
			}
			for lacking, executed := range m.executed {
				for source, purged := range m.purged {
					if source != lacking && source != 3 && purged > executed {
						t.Fatalf("seed %d: instance %d executed %d, and %d has purged %d", seed, lacking, executed, source, purged)
					}
				}
			}
		}
	}
	if purges < 1000 {
		t.Errorf("only %d purges: the test shows little", purges)
	}
}
