// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"flag"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/test/sim"
)

var (
	seeds = flag.Uint64("seeds", 10_000, "how many seeds are run")
	first = flag.Uint64("first", 1, "the first of them")
	seed  = flag.Uint64("seed", 0, "run this seed alone")
	bug   = flag.String("bug", "", "plant this bug")
	most  = flag.Int("failures", 10, "how many failures end the search")
	trace = flag.Bool("trace", false, "print what happens in the seed")
)

// each runs seeds on all processors until stop says so.
func each(from, count uint64, run func(seed uint64) (stop bool)) {
	var next atomic.Uint64
	var stopped atomic.Bool
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stopped.Load() {
				n := next.Add(1) - 1
				if n >= count {
					return
				}
				if run(from + n) {
					stopped.Store(true)
				}
			}
		})
	}
	wg.Wait()
}

func TestNoSeedBreaksAnInvariant(t *testing.T) {
	if *seed != 0 {
		result := sim.Run(sim.Options{Seed: *seed, Bug: sim.Bug(*bug), Trace: *trace})
		t.Log(strings.Join(result.Trace, "\n"))
		if result.Violation != "" {
			t.Fatalf("seed %d: %s", *seed, result.Violation)
		}
		t.Logf("seed %d: %d events, %d writes acknowledged, epoch %d; held: %q", *seed, result.Events, result.Acknowledged, result.Epochs, result.Held)
		return
	}
	var mu sync.Mutex
	failures, held, events, acknowledged, replaced, epochs := 0, 0, 0, 0, 0, int64(0)
	rules := map[string]int{}
	each(*first, *seeds, func(seed uint64) bool {
		result := sim.Run(sim.Options{Seed: seed, Bug: sim.Bug(*bug)})
		mu.Lock()
		defer mu.Unlock()
		events, acknowledged, epochs = events+result.Events, acknowledged+result.Acknowledged, epochs+result.Epochs
		replaced += result.Replaced
		if result.Held != "" {
			held++
		}
		for rule, n := range result.Rules {
			rules[rule] += n
		}
		if result.Violation != "" {
			failures++
			t.Errorf("seed %d: %s", seed, result.Violation)
		}
		return failures >= *most
	})
	t.Logf("%d seeds: %d events, %d writes acknowledged, %d epochs, %d instances replaced; %d did not come back by themselves after the loss of a volume; rules %v", *seeds, events, acknowledged, epochs, replaced, held, rules)
}

func TestASeedDecidesEverything(t *testing.T) {
	for n := range uint64(20) {
		first, second := sim.Run(sim.Options{Seed: n + 1, Trace: true}), sim.Run(sim.Options{Seed: n + 1, Trace: true})
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("seed %d (-first, +second):\n%s", n+1, diff)
		}
		if len(first.Trace) == 0 || first.Events == 0 {
			t.Errorf("seed %d: nothing happened", n+1)
		}
	}
}
