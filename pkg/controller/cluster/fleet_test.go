// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/agent/api"
)

func TestHowLongAnAgentMayBeSilent(t *testing.T) {
	for detection, want := range map[time.Duration]time.Duration{
		time.Second: 1500 * time.Millisecond, 2 * time.Second: 2 * time.Second, time.Minute: 3 * time.Second,
	} {
		if got := silenceFor(detection); got != want {
			t.Errorf("suspected after %s: got %s, want %s", detection, got, want)
		}
	}
}

func TestWhichNewsOfAnAgentMayWait(t *testing.T) {
	cases := map[string]struct {
		change func(*api.Status)
		eager  bool
		want   []time.Duration // what is notified
	}{
		"nothing but the uptime":         {change: func(s *api.Status) { s.Server.UptimeSeconds++ }},
		"a position":                     {change: func(s *api.Status) { s.Server.GTIDExecuted = "x" }, want: []time.Duration{positionDelay}},
		"a position that is waited for":  {change: func(s *api.Status) { s.Server.GTIDExecuted = "x" }, eager: true, want: []time.Duration{0}},
		"how far the archive is":         {change: func(s *api.Status) { s.Archive.GTIDs, s.Archive.LagMillis = "x", 1 }},
		"what could be purged":           {change: func(s *api.Status) { s.BinlogGTIDs = "x" }},
		"the archive fails":              {change: func(s *api.Status) { s.Archive.Error = "denied" }, want: []time.Duration{0}},
		"the source has become quiet":    {change: func(s *api.Status) { s.Server.Channel.QuietMillis = 1250 }, want: []time.Duration{0}},
		"the primary completes no write": {change: func(s *api.Status) { s.StalledMillis = 250 }, want: []time.Duration{0}},
		"mysqld ended":                   {change: func(s *api.Status) { s.Mysqld, s.Server = api.MysqldDown, nil }, want: []time.Duration{0}},
		"the agent is another Pod's":     {change: func(s *api.Status) { s.PodUID = "other" }, want: []time.Duration{0}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []time.Duration
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			f := newFleet(func() time.Time { return now }, func(_ cache.ObjectName, delay time.Duration) { got = append(got, delay) })
			l := &link{target: target{podUID: "uid", silence: 2 * time.Second}, eager: c.eager}
			f.links["uid"] = l
			status := func() *api.Status {
				return &api.Status{PodUID: "uid", Mysqld: api.MysqldRunning, Server: &api.Server{Channel: &api.Channel{}}, Archive: &api.Archive{}}
			}
			f.heard(l, status())
			got = nil
			changed := status()
			c.change(changed)
			f.heard(l, changed)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAgentIsUnknownWhenItIsSilentOrItsStreamBreaks(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first := now
	f := newFleet(func() time.Time { return now }, func(cache.ObjectName, time.Duration) {})
	l := &link{target: target{podUID: "uid", silence: 2 * time.Second}}
	f.links["uid"] = l
	known := func() bool { status, _ := f.report("uid"); return status != nil }
	f.heard(l, &api.Status{PodUID: "uid"})
	now = now.Add(2 * time.Second)
	if !known() {
		t.Error("unknown before it was silent for long")
	}
	now = now.Add(time.Millisecond)
	if known() {
		t.Error("known although it is silent")
	}
	f.heard(l, &api.Status{PodUID: "uid"})
	f.lost(l, errors.New("connection reset"))
	if status, cause := f.report("uid"); status != nil || cause != "its agent cannot be reached: connection reset" {
		t.Errorf("a stream broke: %v, %q", status, cause)
	}
	if at := f.heardAt("uid"); !at.After(first) {
		t.Errorf("heard at %s", at)
	}
	before := f.heardAt("uid")
	now = now.Add(time.Second)
	f.heard(l, &api.Status{PodUID: "another"})
	if at := f.heardAt("uid"); !at.Equal(before) {
		t.Error("the agent of another Pod counts as heard")
	}
}
