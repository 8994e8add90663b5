// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/topology"
)

const testClusterUUID = "cccccccc-0000-0000-0000-000000000000"

func testMember(ordinal int32) topology.Member {
	return topology.Member{Name: fmt.Sprintf("db-mysql-%d", ordinal), Ordinal: ordinal, Incarnation: fmt.Sprintf("incarnation-%d", ordinal)}
}

func testServerUUID(ordinal int32) string {
	return fmt.Sprintf("aaaaaaaa-0000-0000-0000-00000000000%d", ordinal)
}

func testMarker(epoch int64) string { return fmt.Sprintf("%s:moco_e%d:1", testClusterUUID, epoch) }

func testIP(ordinal int32) string { return fmt.Sprintf("10.0.0.%d", ordinal+1) }

// testInstance is an instance that runs and is closed.
func testInstance(ordinal int32) topology.Instance {
	m := testMember(ordinal)
	return topology.Instance{
		Name: m.Name, Ordinal: ordinal, IP: testIP(ordinal), Configured: true,
		Agent: &api.Status{
			Pod: m.Name, Incarnation: m.Incarnation, Volume: api.VolumeReady, Mysqld: api.MysqldRunning,
			Server: &api.Server{ServerUUID: testServerUUID(ordinal), SuperReadOnly: true, OfflineMode: true},
		},
	}
}

// threeInstances are an open primary and two replicas connected to it.
func threeInstances() []topology.Instance {
	instances := []topology.Instance{testInstance(0), testInstance(1), testInstance(2)}
	p := instances[0].Agent.Server
	p.SuperReadOnly, p.OfflineMode, p.GTIDExecuted = false, false, testServerUUID(0)+":1-10"
	for n := range instances[1:] {
		instances[n+1].Agent.Server.Channel = &api.Channel{Host: testIP(0), Receiver: receiverConnected, ApplierRunning: true}
	}
	return instances
}

func TestSilenceIsCountedFromWhenAnAgentWasLastHeard(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := &memory{heard: map[string]time.Time{}}
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	steps := []struct {
		says       string
		heard, now time.Time
		want       time.Duration
	}{
		{"never heard: since it was first looked for", time.Time{}, at(0), 0},
		{"still never heard", time.Time{}, at(3), 3 * time.Second},
		{"heard a moment ago", at(4), at(5), time.Second},
		{"its Pod is another that was not heard yet", time.Time{}, at(9), 5 * time.Second},
		{"heard again", at(10), at(10), 0},
	}
	for _, s := range steps {
		if got := m.silentFor("db-mysql-0", s.heard, s.now); got != s.want {
			t.Errorf("%s: got %s, want %s", s.says, got, s.want)
		}
	}
}

func TestAbsencesAreCountedWhileThePrimaryIsOpen(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	lost := func(o *topology.Observed) { o.Instances[2].Agent = nil }
	steps := []struct {
		says    string
		seconds int
		change  func(*topology.Observed)
		want    time.Duration // Away of the third instance
	}{
		{"connected", 0, func(*topology.Observed) {}, 0},
		{"its agent is not heard: from now on", 1, lost, 0},
		{"still not", 11, lost, 10 * time.Second},
		{"it runs, but is not connected", 21, func(o *topology.Observed) { o.Instances[2].Agent.Server.Channel.Receiver = "Connecting" }, 20 * time.Second},
		{"the primary is closed, so nobody could be connected", 22, func(o *topology.Observed) { lost(o); o.Instances[0].Agent.Server.OfflineMode = true }, 0},
		{"the primary is open again: from now on", 23, lost, 0},
		{"still not", 25, lost, 2 * time.Second},
		{"connected again", 26, func(*topology.Observed) {}, 0},
		{"connected to another primary", 27, func(o *topology.Observed) { o.Instances[2].Agent.Server.Channel.Host = testIP(1) }, 0},
		{"and still", 30, func(o *topology.Observed) { o.Instances[2].Agent.Server.Channel.Host = testIP(1) }, 3 * time.Second},
	}
	var a absences
	for _, s := range steps {
		seen := topology.Observed{Record: openedRecord(1, 0), Instances: threeInstances()}
		s.change(&seen)
		a.note(&seen, start.Add(time.Duration(s.seconds)*time.Second))
		got := []time.Duration{seen.Instances[0].Away, seen.Instances[1].Away, seen.Instances[2].Away}
		if diff := cmp.Diff([]time.Duration{0, 0, s.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.says, diff)
		}
	}
}

func TestTheFloorIsWhatAnOpenPrimaryCommitted(t *testing.T) {
	set := func(last int) string { return fmt.Sprintf("%s:1-%d", testServerUUID(0), last) }
	executed := func(text string) func(*topology.Observed) {
		return func(o *topology.Observed) { o.Instances[0].Agent.Server.GTIDExecuted = text }
	}
	steps := []struct {
		says   string
		epoch  int64
		change func(*topology.Observed)
		want   string
	}{
		{"open", 1, executed(set(10)), set(10)},
		{"it grows", 1, executed(set(12)), set(12)},
		{"less of the same epoch is not believed", 1, executed(set(11)), set(12)},
		{"what it recovered with before it is open does not count", 1, func(o *topology.Observed) {
			executed(set(20))(o)
			o.Instances[0].Agent.Server.SuperReadOnly = true
		}, set(12)},
		{"nor in offline mode", 1, func(o *topology.Observed) { executed(set(20))(o); o.Instances[0].Agent.Server.OfflineMode = true }, set(12)},
		{"it is lost", 1, func(o *topology.Observed) { o.Instances[0].Agent = nil }, set(12)},
		{"another epoch, nothing seen in it", 2, func(o *topology.Observed) { o.Instances[0].Agent = nil }, ""},
		{"seen", 2, executed(set(30)), set(30)},
	}
	var f floor
	for _, s := range steps {
		seen := topology.Observed{Record: openedRecord(s.epoch, 0), Instances: threeInstances()}
		s.change(&seen)
		f.note(&seen)
		if f.text != s.want {
			t.Errorf("%s: got %q, want %q", s.says, f.text, s.want)
		}
	}
}

func TestThatThePrimarysOwnLogIsRequiredIsRemembered(t *testing.T) {
	var o ownLog
	look := func(primary int32, change func(*topology.Observed)) bool {
		seen := topology.Observed{Record: openedRecord(1, primary), Instances: threeInstances()}
		change(&seen)
		o.note(&seen)
		return o.required
	}
	if look(0, func(*topology.Observed) {}) {
		t.Error("required although nobody said so")
	}
	if !look(0, func(s *topology.Observed) { s.Instances[0].Agent.RequiresOwnLog = true }) {
		t.Error("not required although the primary said so")
	}
	if !look(0, func(s *topology.Observed) { s.Instances[0].Agent = nil }) {
		t.Error("forgotten when the primary fell silent")
	}
	if look(1, func(*topology.Observed) {}) {
		t.Error("carried over to another primary")
	}
}
