// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
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
// restart it is empty, and everything is read again. The queue never hands one key to two workers, so only the remarks,
// which commands write that outlast their sync, have a lock.
type memory struct {
	// uid of the object this is about; another uid empties the memory.
	uid types.UID
	// ownClaim is the claim this process made last.
	ownClaim string
	// record this process wrote last, because the cache may lag behind.
	record *topology.Record
	// rival is the last record that another process wrote.
	rival rival
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
	// remarks is what commands left behind.
	remarks remarks
	// heard is when an agent's status was last of use, or when it began to be missed, by Pod name.
	heard map[string]time.Time
	// mute is since when mysqld of an instance runs without answering, by Pod name.
	mute map[string]time.Time
	// absences is since when voters are not connected to the primary.
	absences absences
	// floor is what the open primary was last seen to have committed.
	floor floor
	// ownLog is what the last opened primary said of its own log.
	ownLog ownLog
	// history is the timeline of a change of the primary, and the last one that was completed.
	history history
	// request is the last request this process judged, and began the epoch from which it hands over.
	request *v1beta1.RequestStatus
	began   *v1beta1.OpenedEpoch
	// replaceRequest is the last request to replace an instance that this process judged.
	replaceRequest *v1beta1.RequestStatus
	// archive is what the spec and its Secrets say of the archive; nil before it was read.
	archive *archiveSettings
	// archivedAt is when positions of the archive were last written to the status, archiveHeard when a primary last reported
	// them.
	archivedAt, archiveHeard time.Time
	// purgedAt is when an instance was last told to delete binary logs, by Pod name.
	purgedAt map[string]time.Time
	// restore is what the first data directory is to come from; nil without a restore and after it.
	restore *restoreSource
	// acceptance is which acceptance of a loss was used up.
	acceptance acceptance
	// objects is how the last look at the Kubernetes objects ended, and when it was.
	objects objectsLook
	// publishedAt is when the status was last written.
	publishedAt time.Time
	// positionsAt is when positions were last written to the status.
	positionsAt time.Time
	// decidedSince is since when the present decision stands.
	decision v1beta1.Decision
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
			uid: cluster.UID, verdicts: map[string]string{}, dryRuns: map[string]string{}, leaves: map[types.UID]leaf{},
			heard: map[string]time.Time{}, mute: map[string]time.Time{},
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
