// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

func TestWhatIsDesired(t *testing.T) {
	done := &v1beta1.RequestStatus{Annotation: v1beta1.AnnotationSwitchover, Value: "any=1", State: v1beta1.RequestSucceeded}
	running := &v1beta1.RequestStatus{Annotation: v1beta1.AnnotationSwitchover, Value: "any=1", State: v1beta1.RequestRunning}
	plain := topology.Desired{Replicas: 3, Detection: 2 * time.Second, RemoveAbsent: time.Minute}
	with := func(change func(*topology.Desired)) topology.Desired {
		d := plain
		change(&d)
		return d
	}
	cases := map[string]struct {
		failover    v1beta1.Failover
		annotations map[string]string
		last        *v1beta1.RequestStatus
		want        topology.Desired
	}{
		"fields that are not set have their defaults": {want: plain},
		"fields that are set are used": {
			failover: v1beta1.Failover{DetectionSeconds: 5, RemoveAbsentVoterSeconds: 30, Mode: v1beta1.FailoverManual},
			want:     topology.Desired{Replicas: 3, Detection: 5 * time.Second, RemoveAbsent: 30 * time.Second, Manual: true},
		},
		"a switchover to a named instance, with a token": {
			annotations: map[string]string{v1beta1.AnnotationSwitchover: "db-mysql-1=monday"},
			want:        with(func(d *topology.Desired) { d.Switchover = &topology.Switchover{Target: "db-mysql-1"} }),
		},
		"a switchover to any instance": {
			annotations: map[string]string{v1beta1.AnnotationSwitchover: "any"},
			want:        with(func(d *topology.Desired) { d.Switchover = &topology.Switchover{} }),
		},
		"a value that was tried is not tried again": {
			annotations: map[string]string{v1beta1.AnnotationSwitchover: "any=1"}, last: done, want: plain,
		},
		"another token is another request": {
			annotations: map[string]string{v1beta1.AnnotationSwitchover: "any=2"}, last: done,
			want: with(func(d *topology.Desired) { d.Switchover = &topology.Switchover{} }),
		},
		"a request that runs goes on": {
			annotations: map[string]string{v1beta1.AnnotationSwitchover: "any=1"}, last: running,
			want: with(func(d *topology.Desired) { d.Switchover = &topology.Switchover{} }),
		},
		"names in lists are trimmed": {
			annotations: map[string]string{v1beta1.AnnotationFence: "db-mysql-0, db-mysql-2", v1beta1.AnnotationAcceptLoss: "db-mysql-1,"},
			want: with(func(d *topology.Desired) {
				d.Fenced, d.AcceptLoss = []string{"db-mysql-0", "db-mysql-2"}, []string{"db-mysql-1"}
			}),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster(3)
			cluster.Spec.Failover, cluster.Annotations, cluster.Status.LastRequest = c.failover, c.annotations, c.last
			if diff := cmp.Diff(c.want, desired(&world{cluster: cluster, memory: &memory{}})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAcceptedLossIsForOneFailover(t *testing.T) {
	used := &v1beta1.Transition{AcceptedLoss: []string{"db-mysql-2"}}
	var a acceptance
	steps := []struct {
		says  string
		value string
		last  *v1beta1.Transition
		want  []string
	}{
		{"a new process takes what a published transition accepted for used", "db-mysql-2", used, nil},
		{"it stays used", "db-mysql-2", used, nil},
		{"removed, it accepts nothing", "", used, nil},
		{"given again, it counts again", "db-mysql-2", used, []string{"db-mysql-2"}},
		{"as long as it was not used", "db-mysql-2", used, []string{"db-mysql-2"}},
	}
	for _, s := range steps {
		if diff := cmp.Diff(s.want, a.names(s.value, s.last)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.says, diff)
		}
	}
}

// openedRecord is a record of an epoch that was opened with three voters and the given primary.
func openedRecord(epoch int64, primary int32) *topology.Record {
	voters := make([]topology.Member, 0, 3)
	for n := range int32(3) {
		voters = append(voters, testMember(n))
	}
	leader := testMember(primary)
	return &topology.Record{
		Version: v1beta1.RecordVersion, Epoch: epoch, Phase: v1beta1.RecordOpened, Claim: "claim", ClusterUUID: testClusterUUID, Primary: &leader,
		LastOpened: &v1beta1.OpenedEpoch{
			Configuration: topology.Configuration{Voters: voters, AckCount: 1}, Epoch: epoch, Primary: leader,
			MarkerGTID: testMarker(epoch), ServerUUID: testServerUUID(primary),
		},
	}
}

func TestARequestEnds(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	asked := func(state v1beta1.RequestState, value string) *v1beta1.RequestStatus {
		return &v1beta1.RequestStatus{Annotation: v1beta1.AnnotationSwitchover, Value: value, State: state}
	}
	from := openedRecord(4, 0).LastOpened
	claimed := openedRecord(4, 0)
	claimed.Epoch, claimed.Phase, claimed.Primary = 5, v1beta1.RecordClaimed, nil
	cases := map[string]struct {
		value  string
		last   *v1beta1.RequestStatus
		began  *v1beta1.OpenedEpoch
		record *topology.Record
		want   v1beta1.RequestState // "" for no news
		says   string
	}{
		"nothing was asked":                          {record: openedRecord(4, 0)},
		"the primary is asked for that leads":        {value: "db-mysql-0", record: openedRecord(4, 0), want: v1beta1.RequestSucceeded, says: "db-mysql-0 is the primary"},
		"another is asked for":                       {value: "db-mysql-1", record: openedRecord(4, 0)},
		"it runs and nothing is claimed yet":         {value: "any", last: asked(v1beta1.RequestRunning, "any"), began: from, record: openedRecord(4, 0)},
		"it runs and an epoch is claimed":            {value: "any", last: asked(v1beta1.RequestRunning, "any"), began: from, record: claimed},
		"any other leads now":                        {value: "any", last: asked(v1beta1.RequestRunning, "any"), began: from, record: openedRecord(5, 2), want: v1beta1.RequestSucceeded, says: "db-mysql-0 handed over to db-mysql-2 in epoch 5"},
		"the named one leads now":                    {value: "db-mysql-2", last: asked(v1beta1.RequestRunning, "db-mysql-2"), began: from, record: openedRecord(5, 2), want: v1beta1.RequestSucceeded, says: "db-mysql-0 handed over to db-mysql-2 in epoch 5"},
		"not the named one leads now":                {value: "db-mysql-1", last: asked(v1beta1.RequestRunning, "db-mysql-1"), began: from, record: openedRecord(5, 2), want: v1beta1.RequestRefused, says: "it came to another end: db-mysql-2 is the primary of epoch 5"},
		"the old primary leads again":                {value: "any", last: asked(v1beta1.RequestRunning, "any"), began: from, record: openedRecord(5, 0), want: v1beta1.RequestRefused, says: "it came to another end: db-mysql-0 is the primary of epoch 5"},
		"the annotation went while nothing was done": {last: asked(v1beta1.RequestRunning, "any"), began: from, record: openedRecord(4, 0), want: v1beta1.RequestRefused, says: "the annotation was changed or removed before anything was done"},
		"a controller before this one began it, and the named one leads": {
			value: "db-mysql-1", last: asked(v1beta1.RequestRunning, "db-mysql-1"), record: openedRecord(5, 1), want: v1beta1.RequestSucceeded, says: "db-mysql-1 is the primary of epoch 5",
		},
		"a controller before this one began it, for any: it is not begun twice": {
			value: "any", last: asked(v1beta1.RequestRunning, "any"), record: openedRecord(5, 1), want: v1beta1.RequestRefused,
			says: "the controller was restarted meanwhile; db-mysql-1 is the primary: ask again with another token if it is not the one you want",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := inquiry{value: c.value, last: c.last, began: c.began, record: c.record, now: now}.ended()
			var want *v1beta1.RequestStatus
			if c.want != "" {
				value := c.value
				if c.last != nil {
					value = c.last.Value
				}
				want = &v1beta1.RequestStatus{Annotation: v1beta1.AnnotationSwitchover, Value: value, State: c.want, Message: c.says, At: metav1.NewTime(now)}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPlanMovesARequest(t *testing.T) {
	acts := topology.Plan{
		Decision: topology.Decision{Rule: topology.RuleSwitchover, Reason: "db-mysql-0 hands over to db-mysql-1"},
		Actions:  []topology.Action{{Kind: topology.Close, Instance: "db-mysql-0"}},
	}
	running := &v1beta1.RequestStatus{Annotation: v1beta1.AnnotationSwitchover, Value: "any", State: v1beta1.RequestRunning}
	refused := &v1beta1.RequestStatus{Annotation: v1beta1.AnnotationSwitchover, Value: "any", State: v1beta1.RequestRefused}
	cases := map[string]struct {
		value string
		last  *v1beta1.RequestStatus
		plan  topology.Plan
		want  v1beta1.RequestState
		says  string
	}{
		"the Pod is deleted, nobody asked":            {plan: acts},
		"the plan begins to act":                      {value: "any", plan: acts, want: v1beta1.RequestRunning, says: "db-mysql-0 hands over to db-mysql-1"},
		"the plan goes on":                            {value: "any", last: running, plan: acts},
		"a check failed":                              {value: "any", plan: topology.Plan{Refused: "db-mysql-1 is behind"}, want: v1beta1.RequestRefused, says: "db-mysql-1 is behind"},
		"the primary could not be closed":             {value: "any", last: running, plan: topology.Plan{Refused: "sessions stayed"}, want: v1beta1.RequestRefused, says: "sessions stayed"},
		"it was refused, and the check fails still":   {value: "any", last: refused, plan: topology.Plan{Refused: "db-mysql-1 is behind"}},
		"the plan waits without having done anything": {value: "any", plan: topology.Plan{Decision: topology.Decision{Rule: topology.RuleSwitchover}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := inquiry{value: c.value, last: c.last}.planned(c.plan)
			var want *v1beta1.RequestStatus
			if c.want != "" {
				want = &v1beta1.RequestStatus{Annotation: v1beta1.AnnotationSwitchover, Value: c.value, State: c.want, Message: c.says, At: metav1.NewTime(time.Time{})}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
