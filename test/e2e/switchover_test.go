// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// requestWithin is how long a request may wait for its end.
const requestWithin = 60 * time.Second

// ask requests a switchover with the annotation.
func (f *fixture) ask(t *testing.T, value string) {
	t.Helper()
	must(f.Kubectl(t.Context(), "annotate", "mysqlcluster", "-n", f.namespace, f.name, "--overwrite", v1beta1.AnnotationSwitchover+"="+value))(t)
}

// answered waits until the request for a switchover ended and returns how.
func (f *fixture) answered(t *testing.T, value string) *v1beta1.RequestStatus {
	t.Helper()
	return f.answeredTo(t, v1beta1.AnnotationSwitchover, value)
}

// answeredTo waits until the request made with an annotation ended and returns how.
func (f *fixture) answeredTo(t *testing.T, annotation, value string) *v1beta1.RequestStatus {
	t.Helper()
	var found *v1beta1.RequestStatus
	f.Eventually(t, f.namespace, "an answer to the request "+value, requestWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		found = cluster.Status.LastRequest
		if found == nil || found.Value != value || found.State == v1beta1.RequestRunning {
			return fmt.Errorf("the last request is %+v; decision %+v", found, cluster.Status.Decision)
		}
		return nil
	})
	if found.Annotation != annotation {
		t.Errorf("the annotation is %s", found.Annotation)
	}
	return found
}

func (f *fixture) switchovers(t *testing.T) {
	before := f.healthy(t)
	_, replicas := f.pods(t)
	l := f.load(t, "switchovers", f.elsewhere(t))

	f.ask(t, replicas[1])
	after := f.transition(t, before, v1beta1.TransitionSwitchover)
	if after.Status.Primary != replicas[1] {
		t.Errorf("%s leads, %s was asked for", after.Status.Primary, replicas[1])
	}
	if answer := f.answered(t, replicas[1]); answer.State != v1beta1.RequestSucceeded {
		t.Errorf("the request ended with %+v", answer)
	}

	before = f.healthy(t)
	f.ask(t, "any=second")
	f.transition(t, before, v1beta1.TransitionSwitchover)
	if answer := f.answered(t, "any=second"); answer.State != v1beta1.RequestSucceeded {
		t.Errorf("the request ended with %+v", answer)
	}

	before = f.healthy(t)
	f.ask(t, f.name+"-mysql-7")
	if answer := f.answered(t, f.name+"-mysql-7"); answer.State != v1beta1.RequestRefused || !strings.Contains(answer.Message, f.name+"-mysql-7") {
		t.Errorf("the request ended with %+v", answer)
	}
	if after := f.healthy(t); after.Status.Replication.Epoch != before.Status.Replication.Epoch || after.Status.Primary != before.Status.Primary {
		t.Errorf("a refused request led to epoch %d of %s", after.Status.Replication.Epoch, after.Status.Primary)
	}
	h := l.settle(t)
	if len(h.Unknown) > 10 || h.LongestGap > longestSwitch {
		t.Errorf("the client of the Service met %s; last %v", h, h.LastError)
	}
	f.sameData(t, before)
}

// manual: a primary that is silent is not replaced; the status says what would be done; a person asks for it.
func (f *fixture) manual(t *testing.T) {
	f.healthy(t)
	if err := f.Change(t.Context(), f.namespace, f.name, map[string]any{"failover": map[string]any{"mode": v1beta1.FailoverManual}}); err != nil {
		t.Fatal(err)
	}
	before := f.healthy(t)
	primary := before.Status.Primary
	l := f.load(t, "manual", f.elsewhere(t, primary))
	thaw := stopped(t, must(f.Agent(t.Context(), f.namespace, primary))(t), must(f.Mysqld(t.Context(), f.namespace, primary))(t))
	f.Eventually(t, f.namespace, "a decision that says what would be done", holdWithin, func(ctx context.Context) error {
		cluster, err := f.Get(ctx, f.namespace, f.name)
		if err != nil {
			return err
		}
		decision := cluster.Status.Decision
		if decision == nil || !strings.Contains(decision.Reason+decision.WaitingFor, v1beta1.AnnotationSwitchover) {
			return fmt.Errorf("the decision is %+v", decision)
		}
		if cluster.Status.Replication.Epoch != before.Status.Replication.Epoch {
			f.Fatal(t, f.namespace, "epoch %d was claimed although the mode is Manual", cluster.Status.Replication.Epoch)
		}
		t.Logf("%s: %s; %s", decision.Rule, decision.Reason, decision.WaitingFor)
		return nil
	})
	f.ask(t, "any=by-hand")
	f.transition(t, before, v1beta1.TransitionFailover)
	f.acknowledged(t, l.service, 20)
	thaw()
	l.settle(t)
	f.sameData(t, before)
	if err := f.Change(t.Context(), f.namespace, f.name, map[string]any{"failover": map[string]any{"mode": v1beta1.FailoverAutomatic}}); err != nil {
		t.Fatal(err)
	}
	f.healthy(t)
}
