// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/topology"
)

func TestWhatAnActionTellsAnAgent(t *testing.T) {
	record := openedRecord(4, 0)
	cases := map[string]struct {
		action  topology.Action
		name    api.CommandName
		request api.Request
		millis  int64
	}{
		"apply":    {topology.Action{Kind: topology.Apply, Record: record}, "apply", &api.ApplyRequest{Record: *record}, 5000},
		"close":    {topology.Action{Kind: topology.Close, Record: record, Duration: 10 * time.Second}, "close", &api.CloseRequest{Record: *record, DurationMillis: 10000}, 5000},
		"stop":     {topology.Action{Kind: topology.Stop, Record: record}, "stop", &api.StopRequest{}, 5000},
		"lock out": {topology.Action{Kind: topology.LockOut, Record: record, Members: []string{"x"}}, "lock-out", &api.LockOutRequest{Record: *record, Members: []string{"x"}}, 10000},
		"return":   {topology.Action{Kind: topology.Return, Record: record, Executed: "a:1"}, "return", &api.ReturnRequest{Record: *record, Executed: "a:1"}, 20000},
		"await":    {topology.Action{Kind: topology.Await, Record: record, Attempt: 7}, "await", &api.AwaitRequest{Record: *record, GTID: testClusterUUID + ":moco_e4:7"}, 5000},
		"discard":  {topology.Action{Kind: topology.Discard, Record: record, Executed: "a:1"}, "discard", &api.DiscardRequest{Record: *record, Executed: "a:1"}, 20000},
		"purge":    {topology.Action{Kind: topology.Purge, Record: record, Purgeable: "a:1"}, "purge", &api.PurgeRequest{GTIDs: "a:1"}, 20000},
		"promise":  {topology.Action{Kind: topology.Promise, Record: record}, "promise", &api.PromiseRequest{Record: *record}, 3000},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, request, err := (&Controller{}).command(&world{}, c.action)
			if err != nil || got != c.name {
				t.Fatalf("%s, %v", got, err)
			}
			if diff := cmp.Diff(c.request, request); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			want := api.Envelope{Epoch: 4, Claim: "claim", Incarnation: "i", DeadlineMillis: c.millis}
			if diff := cmp.Diff(want, envelope(c.action, "i")); diff != "" {
				t.Errorf("the envelope (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheSameCommandIsNotRepeatedAtOnce(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	apply := topology.Action{Kind: topology.Apply, Instance: "db-mysql-1", Record: openedRecord(4, 0)}
	later := apply
	later.Record = openedRecord(5, 0)
	var r remarks
	r.remark("db-mysql-1", apply, &api.Error{Reason: api.ErrorUnavailable, Message: "not now"}, now)
	if r.repeats(apply, now) || r.trouble("db-mysql-1") != "Apply failed: Unavailable: not now" {
		t.Errorf("one that failed is not tried again, or is not told: %q", r.trouble("db-mysql-1"))
	}
	r.remark("db-mysql-1", apply, nil, now)
	if !r.repeats(apply, now.Add(time.Second)) || r.trouble("db-mysql-1") != "" {
		t.Error("it is repeated while its news is on the way")
	}
	if r.repeats(later, now.Add(time.Second)) {
		t.Error("one of another epoch is held back")
	}
	if r.repeats(apply, now.Add(3*time.Second)) {
		t.Error("it is held back for ever")
	}
	if !r.begin("uid") || r.begin("uid") {
		t.Error("a busy Pod is told something else")
	}
	r.end("uid")
	if !r.begin("uid") {
		t.Error("a Pod that is free again is told nothing")
	}
}
