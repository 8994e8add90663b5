// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

func TestSentencesBeginWithALargeLetterButNamesStay(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"the first epoch was opened":    "The first epoch was opened",
		"db-mysql-0 takes writes":       "db-mysql-0 takes writes",
		"3/3 instances serve":           "3/3 instances serve",
		"spec.config: option refused":   "spec.config: option refused",
		"mysqld of db-mysql-0 ended":    "Mysqld of db-mysql-0 ended",
		"epoch 7 waits for the promise": "Epoch 7 waits for the promise",
	} {
		if got := sentence(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestANewClusterThatStartsNormallyWarnsOfNothing(t *testing.T) {
	condition := func(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: "x"}
	}
	notOpen := condition(v1beta1.ConditionAvailable, metav1.ConditionFalse, reasonPrimaryNotOpen)
	cases := map[string]struct {
		before, after []metav1.Condition
		want          string // the event, "" for none
	}{
		"the first epoch is opened, the primary is not yet": {
			before: []metav1.Condition{condition(v1beta1.ConditionAvailable, metav1.ConditionFalse, "NotOpenedYet")}, after: []metav1.Condition{notOpen},
		},
		"the Pod of a new cluster cannot start": {
			before: []metav1.Condition{condition(v1beta1.ConditionAvailable, metav1.ConditionFalse, "NotOpenedYet")},
			after:  []metav1.Condition{condition(v1beta1.ConditionAvailable, metav1.ConditionFalse, "PodNotStarted")},
			want:   "Warning AvailablePodNotStarted X",
		},
		"the primary of a cluster that served is lost": {
			before: []metav1.Condition{condition(v1beta1.ConditionAvailable, metav1.ConditionTrue, "PrimaryServes"), condition(v1beta1.ConditionInitialized, metav1.ConditionTrue, "Opened")},
			after:  []metav1.Condition{notOpen}, want: "Warning AvailablePrimaryNotOpen X",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			events := record.NewFakeRecorder(10)
			cluster := newCluster(3)
			cluster.Status.Conditions = c.before
			(&Controller{events: events}).announce(&world{cluster: cluster}, &v1beta1.MySQLClusterStatus{Conditions: c.after})
			close(events.Events)
			if got := <-events.Events; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhenToLookAgain(t *testing.T) {
	cases := map[string]struct {
		requeue time.Duration
		acted   bool
		silent  time.Duration // of an instance that is not heard; negative for none
		want    time.Duration
	}{
		"when the plan says so":                       {requeue: 10 * time.Second, silent: -1, want: 10 * time.Second},
		"never, if nobody says so":                    {silent: -1},
		"soon after something was done":               {requeue: 10 * time.Second, acted: true, silent: -1, want: soon},
		"when a silence becomes a suspicion":          {requeue: 10 * time.Second, silent: 1900 * time.Millisecond, want: 101 * time.Millisecond},
		"then, too, if the plan does not say when":    {silent: 500 * time.Millisecond, want: 1501 * time.Millisecond},
		"not for a silence that is one already":       {requeue: 10 * time.Second, silent: 3 * time.Second, want: 10 * time.Second},
		"what is done soon is not put off by silence": {acted: true, silent: 0, want: soon},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := &world{cluster: newCluster(3)}
			if c.silent >= 0 {
				w.seen.Instances = []topology.Instance{{Name: "db-mysql-0", Silent: c.silent}}
			}
			if got := w.lookAgain(topology.Plan{Requeue: c.requeue}, c.acted); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
