// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/pki"
	"github.com/moco-mysql/moco/pkg/topology"
)

// memory is what the controller remembers of one cluster between two syncs. Nothing in it is needed to be safe: after a
// restart it is empty, and everything is read again. The queue never hands one key to two workers, so it has no lock.
type memory struct {
	// uid of the object this is about; another uid empties the memory.
	uid types.UID
	// ownClaim is the claim this process made last.
	ownClaim string
	// record this process wrote last, because the cache may lag behind.
	record *topology.Record
	// credentials read from the cluster's Secrets, and when.
	credentials *credentials
	// trust is what this controller and the cluster's agents prove themselves with to each other.
	trust pki.Holder
	// verdicts of mysqld about option files, by hash; "" means accepted. At most maxVerdicts.
	verdicts map[string]string
	// dryRuns holds the API server's verdict about rendered Pods, by template hash. At most maxVerdicts.
	dryRuns map[string]string
	// leaves are the certificates made for the Pods, by Pod UID.
	leaves map[types.UID]leaf
	// troubles is the last failed command of each instance, by Pod name.
	troubles map[string]string
	// done is the last Follow and the last Open carried out by each instance, by Pod name and kind.
	done map[string]done
	// positionsAt is when positions were last written to the status.
	positionsAt time.Time
	// decidedSince is since when the present decision stands.
	decision v1beta1.Decision
}

// done is a command that was carried out.
type done struct {
	what string
	at   time.Time
}

// pauses say how long the same command is not repeated. A receiver that stops at once for a reason that stays would be
// started several times a second; and the news that an instance has opened comes after the news that it took the command.
var pauses = map[topology.ActionKind]time.Duration{topology.Follow: 5 * time.Second, topology.Open: 2 * time.Second}

// describe returns where an action is remembered, and its words: the same words mean the same command.
func describe(a topology.Action) (key, what string) {
	what = fmt.Sprint(a.Peer, a.Address, a.Record.Epoch, a.Record.Phase, a.Ack)
	return a.Instance + " " + string(a.Kind), what
}

// repeats reports whether an action was carried out a moment ago already.
func (m *memory) repeats(a topology.Action, now time.Time) bool {
	pause, limited := pauses[a.Kind]
	if !limited {
		return false
	}
	key, what := describe(a)
	last := m.done[key]
	return last.what == what && now.Sub(last.at) < pause
}

// maxVerdicts bounds what is remembered about options and templates; beyond it everything is asked anew.
const maxVerdicts = 64

// memories holds the memory of every cluster. It is safe for concurrent use.
type memories struct {
	mu  sync.Mutex
	all map[cache.ObjectName]*memory
}

// of returns the memory of a cluster, empty if it is of another object of that name.
func (m *memories) of(cluster *v1beta1.MySQLCluster) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := cache.MetaObjectToName(cluster)
	found := m.all[name]
	if found == nil || found.uid != cluster.UID {
		found = &memory{
			uid: cluster.UID, verdicts: map[string]string{}, dryRuns: map[string]string{}, leaves: map[types.UID]leaf{}, troubles: map[string]string{},
			done: map[string]done{},
		}
		m.all[name] = found
	}
	return found
}

// forget drops the memory of a cluster that is gone.
func (m *memories) forget(name cache.ObjectName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, name)
}

// decided keeps the time since which a decision stands.
func (m *memory) decided(d topology.Decision, now time.Time) v1beta1.Decision {
	next := v1beta1.Decision{Rule: string(d.Rule), Reason: d.Reason, WaitingFor: d.WaitingFor, Since: m.decision.Since}
	if next != m.decision {
		next.Since = metav1.NewTime(now)
	}
	m.decision = next
	return next
}
