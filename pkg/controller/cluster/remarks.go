// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/topology"
)

// pauses say how long the same command is not repeated. A receiver that stops at once for a reason that stays would be
// started several times a second; and the news that an instance did something comes after the news that it took the
// command.
var pauses = map[topology.ActionKind]time.Duration{
	topology.Follow: 5 * time.Second, topology.Open: 2 * time.Second, topology.Apply: 2 * time.Second, topology.Close: 2 * time.Second,
	topology.Stop: 2 * time.Second, topology.LockOut: 2 * time.Second, topology.Return: 2 * time.Second, topology.Await: 2 * time.Second,
	topology.Discard: 2 * time.Second, topology.Restore: 15 * time.Second,
}

// done is a command that was carried out.
type done struct {
	what string
	at   time.Time
}

// remarks is what the commands to the instances of a cluster leave behind. Commands may outlast the sync that sent them:
// it is safe for concurrent use.
type remarks struct {
	mu sync.Mutex
	// troubles is the last failed command of each instance, by Pod name.
	troubles map[string]string
	// done is the last command of each kind in pauses that an instance carried out, by Pod name and kind.
	done map[string]done
	// busy are the Pods that are being told something, by UID.
	busy map[types.UID]bool
}

// describe returns where an action is remembered, and its words: the same words mean the same command.
func describe(a topology.Action) (key, what string) {
	if a.Record != nil {
		what = fmt.Sprint(a.Record.Epoch, a.Record.Phase)
	}
	return a.Instance + " " + string(a.Kind), what + fmt.Sprint(a.Peer, a.Address, a.Ack, a.Attempt, a.Members)
}

// repeats reports whether an action was carried out a moment ago already.
func (r *remarks) repeats(a topology.Action, now time.Time) bool {
	pause, limited := pauses[a.Kind]
	at, carriedOut := r.carriedOut(a)
	return limited && carriedOut && now.Sub(at) < pause
}

// carriedOut returns when an action of a kind in pauses was carried out, if it was the last of its kind there.
func (r *remarks) carriedOut(a topology.Action) (at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, what := describe(a)
	if last, known := r.done[key]; known && last.what == what {
		return last.at, true
	}
	return time.Time{}, false
}

// remark remembers how a command ended: what an instance refuses is shown to people.
func (r *remarks) remark(instance string, action topology.Action, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		put(&r.troubles, instance, fmt.Sprintf("%s failed: %v", action.Kind, err))
		return
	}
	delete(r.troubles, instance)
	if _, limited := pauses[action.Kind]; limited {
		key, what := describe(action)
		put(&r.done, key, done{what, now})
	}
}

// trouble returns how the last command of an instance failed, "" when it did not.
func (r *remarks) trouble(instance string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.troubles[instance]
}

// begin marks a Pod as busy; it reports false when it is already.
func (r *remarks) begin(pod types.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[pod] {
		return false
	}
	put(&r.busy, pod, true)
	return true
}

// end marks a Pod as free.
func (r *remarks) end(pod types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, pod)
}

// put sets an entry of a map that may not exist yet.
func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}
