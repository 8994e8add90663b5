// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/agent/supervise"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

func TestOnlyAnOpenPrimaryArchives(t *testing.T) {
	cases := map[string]struct {
		change func(*instance)
		want   bool
	}{
		"an open primary":           {func(*instance) {}, true},
		"a replica":                 {func(in *instance) { in.durable.OpenPrimary = false }, false},
		"one that was started anew": {func(in *instance) { in.process.StartID, in.durable.StartedID = "s2", "s2" }, false},
		"one that does not run":     {func(in *instance) { in.process.Running = false }, false},
		"one that is stopped":       {func(in *instance) { in.stopping = true }, false},
		"one that is closed":        {func(in *instance) { in.closing = &closing{start: "s1"} }, false},
		"one that could not be closed": {func(in *instance) {
			in.closing = &closing{start: "s1", result: api.Closed{Error: "a session does not end"}}
		}, true},
		"one whose lead was taken": {func(in *instance) {
			in.durable.PromisedEpoch = 6
			in.durable.Record = &v1beta1.ReplicationRecord{Epoch: 6, Phase: v1beta1.RecordClaimed}
		}, false},
		"one without a configuration": {func(in *instance) { in.config = nil }, false},
		"one without an archive":      {func(in *instance) { in.config = &settings{} }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := &instance{
				agent: &Agent{changed: make(chan struct{})}, process: supervise.State{Running: true, StartID: "s1"},
				config: &settings{ConfigureRequest: api.ConfigureRequest{Archive: &wire.Archive{IntervalSeconds: 1}}},
				durable: state.Durable{
					Incarnation: "i", StartedID: "s1", OpenStart: "s1", OpenPrimary: true, OpenEpoch: 5, PromisedEpoch: 5,
					Record: &v1beta1.ReplicationRecord{Epoch: 5, Phase: v1beta1.RecordOpened, Primary: &v1beta1.Member{Incarnation: "i"}},
				},
			}
			c.change(in)
			w := archiveWish{in: in}
			key, _ := w.key()
			if got := key != (archiveKey{}); got != c.want {
				t.Errorf("archives: %t, want %t", got, c.want)
			}
			if c.want && (key.epoch != 5 || key.start != "s1") {
				t.Errorf("key %+v", key)
			}
		})
	}
}

func TestOtherSettingsOfTheArchiveBeginAnew(t *testing.T) {
	first := &settings{ConfigureRequest: api.ConfigureRequest{Hash: "1", Archive: &wire.Archive{IntervalSeconds: 1}}}
	same := &settings{ConfigureRequest: api.ConfigureRequest{Hash: "2", Archive: &wire.Archive{IntervalSeconds: 1}}}
	other := &settings{ConfigureRequest: api.ConfigureRequest{Hash: "3", Archive: &wire.Archive{IntervalSeconds: 1, Recipients: "age1"}}}
	if archiveTarget(first) != archiveTarget(same) || archiveTarget(first) == archiveTarget(other) {
		t.Error("a stream goes on for as long as the settings of the archive are the same")
	}
}
