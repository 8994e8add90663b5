// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/moco-mysql/moco/test/sim"
)

// enough is how many seeds must suffice to find a bug.
const enough = 10_000

// planted are the deliberate mistakes: a seed that found each, and with which words. A seed finds something only as long as
// everything happens as it did, so when the decisions change another is looked for. Most break a rule of safety. A rewind
// that is not verified does not: within() of pkg/topology keeps such an instance away from the primary, so it is found
// by never coming back (I9).
var planted = map[sim.Bug]struct {
	seed  uint64
	found string
}{
	sim.BugPromiseNotPersisted:  {337, "I4: "},
	sim.BugPromiseNotChecked:    {11, "I4: "},
	sim.BugPromiseUndone:        {6, "I4: "},
	sim.BugFenceWhileConnecting: {136, "I2: "},
	sim.BugReceivedBeforeFence:  {115, "I2: "},
	sim.BugQuorumTooSmall:       {98, "I1: "},
	sim.BugQuorumOfAttempt:      {1, "I6: "},
	sim.BugFloorIgnored:         {139, "I1: "},
	sim.BugNoMarker:             {62, "I1: "},
	sim.BugNotApplied:           {32, "I5: "},
	sim.BugRelayLogRecovery:     {2, "I5: "},
	sim.BugRepointStopped:       {17, "I5: "},
	sim.BugLearnerAcknowledges:  {121, "I7: "},
	sim.BugFiniteTimeout:        {1, "I6: "},
	sim.BugSemiSyncAfterOpen:    {4, "I6: "},
	sim.BugGracefulStop:         {7, "I1: "},
	sim.BugSourceOffWithWaiters: {115, "I1: "},
	sim.BugRewindUnverified:     {157, "to be compared with"},
	sim.BugRewindKeepsUUID:      {7, "I11: "},
	sim.BugCloneKeepsVote:       {30, "I5: "},
	sim.BugNoCompare:            {12, "I3: "},
	sim.BugTwoPods:              {91, "I1: "},
	sim.BugSelfResume:           {3, "I1: "},
	sim.BugStaleLabel:           {740, "I8: "},
	sim.BugLockOutLate:          {144, "I6: "},
	sim.BugReplacedAcknowledges: {16, "I7: "},
}

// finds returns what a seed finds with a bug that it does not find without, "" if that is not what the bug is to break.
func finds(seed uint64, bug sim.Bug) string {
	found := sim.Run(sim.Options{Seed: seed, Bug: bug}).Violation
	if !strings.Contains(found, planted[bug].found) || found == "" || sim.Run(sim.Options{Seed: seed}).Violation != "" {
		return ""
	}
	return found
}

// find looks for a seed that finds a bug; 0 if there is none.
func find(bug sim.Bug) (seed uint64, found string) {
	var mu sync.Mutex
	each(1, enough, func(n uint64) bool {
		violation := finds(n, bug)
		if violation == "" {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		seed, found = n, violation
		return true
	})
	return seed, found
}

func TestEveryPlantedBugIsFound(t *testing.T) {
	if *seed != 0 {
		t.Logf("seed %d alone is run", *seed)
		return
	}
	for _, bug := range sim.Bugs {
		t.Run(string(bug), func(t *testing.T) {
			kept, known := planted[bug]
			if !known {
				t.Fatal("nothing is known about this bug")
			}
			if kept.seed != 0 && finds(kept.seed, bug) != "" {
				return
			}
			seed, found := find(bug)
			if seed == 0 {
				t.Fatalf("%d seeds do not find it", uint64(enough))
			}
			t.Logf("%q: {%d, %q} finds it; the seed that is kept does not any more", bug, seed, found)
		})
	}
}
