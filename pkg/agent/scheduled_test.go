// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
)

func TestTheNotesOfAPrimary(t *testing.T) {
	e := func(status string, foreign bool) []scheduled {
		return []scheduled{{eventName: eventName{"d", "e"}, status: status, foreign: foreign}}
	}
	it := []eventName{{"d", "e"}}
	for name, c := range map[string]struct {
		events      []scheduled
		notes       []eventName
		add, remove []eventName
	}{
		"an enabled event is not noted":                              {events: e("ENABLED", false)},
		"an enabled event of a clone is not noted":                   {events: e("ENABLED", true)},
		"a disabled event is noted":                                  {events: e("DISABLED", false), add: it},
		"a disabled event of a clone is noted":                       {events: e("DISABLED", true), add: it},
		"an event that its owner disabled for replicas is noted":     {events: e("REPLICA_SIDE_DISABLED", false), add: it},
		"a replicated event is not noted":                            {events: e("REPLICA_SIDE_DISABLED", true)},
		"the note of a replicated event stays":                       {events: e("REPLICA_SIDE_DISABLED", true), notes: it},
		"a note stays while the event is disabled":                   {events: e("DISABLED", false), notes: it},
		"a note goes when the event is enabled":                      {events: e("ENABLED", false), notes: it, remove: it},
		"a note goes with its event":                                 {notes: it, remove: it},
		"an event of the same name in another schema is another one": {events: e("DISABLED", false), notes: []eventName{{"x", "e"}}, add: it, remove: []eventName{{"x", "e"}}},
	} {
		t.Run(name, func(t *testing.T) {
			add, remove := notesToChange(c.events, c.notes)
			if diff := cmp.Diff([][]eventName{c.add, c.remove}, [][]eventName{add, remove}, cmp.AllowUnexported(eventName{})); diff != "" {
				t.Errorf("notes to add and to remove (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhichRefusalsOfAnEventMayPass(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"no answer in time":                     {context.DeadlineExceeded, true},
		"a lock":                                {&driver.MySQLError{Number: 1205}, true},
		"the primary is being closed":           {&driver.MySQLError{Number: 1290}, true},
		"a definer that is not there":           {&driver.MySQLError{Number: 1449}, false},
		"a time that has passed":                {&driver.MySQLError{Number: 1544}, false},
		"a name that cannot be written as such": {errNotInCharset, false},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, mayPass(fmt.Errorf("altering: %w", c.err))); diff != "" {
				t.Errorf("may pass (-want +got):\n%s", diff)
			}
		})
	}
}
