// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
)

// sighting is a channel as it was seen some time after the first sighting.
type sighting struct {
	after   time.Duration
	channel *mysql.Channel
}

func channelSeen(receiver, contact string) *mysql.Channel {
	return &mysql.Channel{Host: "10.0.0.1", Port: 3306, Receiver: receiver, Contact: contact}
}

func TestQuiet(t *testing.T) {
	const ms = time.Millisecond
	moved := channelSeen("Yes", "1")
	moved.Host = "10.0.0.2"
	for name, tc := range map[string]struct {
		sightings []sighting
		want      int64
	}{
		"no channel is not quiet":       {[]sighting{{0, nil}, {9000 * ms, nil}}, 0},
		"a stopped receiver is not":     {[]sighting{{0, channelSeen("Yes", "1")}, {9000 * ms, channelSeen("No", "1")}}, 0},
		"heartbeats that come are seen": {[]sighting{{0, channelSeen("Yes", "1")}, {1000 * ms, channelSeen("Yes", "2")}, {2100 * ms, channelSeen("Yes", "3")}}, 0},
		"one late heartbeat is not shown": {
			[]sighting{{0, channelSeen("Yes", "1")}, {1249 * ms, channelSeen("Yes", "1")}}, 0,
		},
		"silence is shown from the floor on": {
			[]sighting{{0, channelSeen("Yes", "1")}, {1250 * ms, channelSeen("Yes", "1")}}, 1250,
		},
		"silence is shown in steps": {
			[]sighting{{0, channelSeen("Yes", "1")}, {1000 * ms, channelSeen("Yes", "1")}, {2499 * ms, channelSeen("Yes", "1")}}, 2250,
		},
		"what comes after silence ends it": {
			[]sighting{{0, channelSeen("Yes", "1")}, {5000 * ms, channelSeen("Yes", "1")}, {5250 * ms, channelSeen("Yes", "2")}}, 0,
		},
		"silence goes on while the receiver connects": {
			[]sighting{{0, channelSeen("Yes", "1")}, {4000 * ms, channelSeen("Connecting", "1")}, {5000 * ms, channelSeen("Connecting", "1")}}, 5000,
		},
		"a counter that changes while the receiver connects is no contact": {
			[]sighting{{0, channelSeen("Yes", "1")}, {4000 * ms, channelSeen("Connecting", "0")}}, 4000,
		},
		"a receiver that got connected was answered": {
			[]sighting{{0, channelSeen("Yes", "1")}, {4000 * ms, channelSeen("Connecting", "1")}, {5000 * ms, channelSeen("Yes", "1")}}, 0,
		},
		"a receiver that lost its connection was not": {
			[]sighting{{0, channelSeen("Yes", "1")}, {2000 * ms, channelSeen("Connecting", "2")}}, 2000,
		},
		"a receiver that was started again begins anew": {
			[]sighting{{0, channelSeen("Yes", "1")}, {4000 * ms, channelSeen("No", "1")}, {5000 * ms, channelSeen("Connecting", "1")}}, 0,
		},
		"another source begins anew": {[]sighting{{0, channelSeen("Yes", "1")}, {4000 * ms, moved}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			var q quiet
			var got int64
			for _, s := range tc.sightings {
				q = q.seen(begin.Add(s.after), s.channel)
				got = q.millis(begin.Add(s.after))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("milliseconds (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuietWait(t *testing.T) {
	now := time.Now()
	for name, tc := range map[string]struct {
		silent, otherwise, want time.Duration
	}{
		"a source just heard is looked at as usual":              {0, time.Second, time.Second},
		"silence is looked at when it begins to count":           {900 * time.Millisecond, time.Second, 350 * time.Millisecond},
		"silence that counts is looked at four times a second":   {3 * time.Second, time.Second, 250 * time.Millisecond},
		"a shorter interval stays":                               {3 * time.Second, 200 * time.Millisecond, 200 * time.Millisecond},
		"a source that is long gone is looked at as usual again": {11 * time.Second, time.Second, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			q := quiet{since: now.Add(-tc.silent)}
			if diff := cmp.Diff(tc.want, q.wait(now, tc.otherwise)); diff != "" {
				t.Errorf("wait (-want +got):\n%s", diff)
			}
		})
	}
	if got := (quiet{}).wait(now, time.Second); got != time.Second {
		t.Errorf("without a receiver: wait %v, want a second", got)
	}
}

func TestSameServer(t *testing.T) {
	server := func(alter func(*api.Server)) *api.Server {
		s := &api.Server{UptimeSeconds: 1, Channel: &api.Channel{Receiver: "Yes"}}
		alter(s)
		return s
	}
	for name, tc := range map[string]struct {
		alter func(*api.Server)
		want  bool
	}{
		"nothing changed":         {func(*api.Server) {}, true},
		"only time passed":        {func(s *api.Server) { s.UptimeSeconds = 2 }, true},
		"the source became quiet": {func(s *api.Server) { s.Channel.QuietMillis = 1250 }, false},
		"the channel is gone":     {func(s *api.Server) { s.Channel = nil }, false},
		"something was executed":  {func(s *api.Server) { s.GTIDExecuted = "u:1" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, sameServer(server(func(*api.Server) {}), server(tc.alter))); diff != "" {
				t.Errorf("same (-want +got):\n%s", diff)
			}
		})
	}
}
