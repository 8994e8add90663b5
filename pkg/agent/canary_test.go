// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
)

func TestCanaryStall(t *testing.T) {
	type shown struct{ Stalled, Wait time.Duration }
	now := time.Now()
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		since time.Time
		want  shown
	}{
		"none is outstanding":                 {time.Time{}, shown{0, time.Second}},
		"one has just begun":                  {now, shown{0, time.Second}},
		"one takes long":                      {now.Add(-999 * ms), shown{0, ms}},
		"one takes too long":                  {now.Add(-1000 * ms), shown{time.Second, 250 * ms}},
		"the next step is shown when it ends": {now.Add(-2100 * ms), shown{2 * time.Second, 150 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &canary{since: tc.since}
			if diff := cmp.Diff(tc.want, shown{c.stalled(now), c.untilStep(now)}); diff != "" {
				t.Errorf("shown (-want +got):\n%s", diff)
			}
		})
	}
	if got := (*canary)(nil).stalled(now); got != 0 {
		t.Errorf("without a canary: %v, want 0", got)
	}
}

func TestAnswered(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"it was done":                        {nil, true},
		"too many connections":               {&driver.MySQLError{Number: 1040}, true},
		"the password is wrong":              {fmt.Errorf("connecting: %w", &driver.MySQLError{Number: 1045}), true},
		"a lock was not granted in time":     {&driver.MySQLError{Number: 1205}, true},
		"the server is read-only":            {&driver.MySQLError{Number: 1290}, true},
		"the table is full":                  {&driver.MySQLError{Number: 1114}, false},
		"the disk is full":                   {fmt.Errorf("making: %w", &driver.MySQLError{Number: 1021}), false},
		"the engine failed while committing": {&driver.MySQLError{Number: 1180}, false},
		"the connection was lost":            {driver.ErrInvalidConn, false},
		"nobody listens":                     {errors.New("connection refused"), false},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, answered(tc.err)); diff != "" {
				t.Errorf("answered (-want +got):\n%s", diff)
			}
		})
	}
}
