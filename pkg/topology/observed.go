// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Record is the register that says who leads; the same struct in every store.
type Record = v1beta1.ReplicationRecord

// Member is an instance by identity.
type Member = v1beta1.Member

// Configuration is a set of voters with its k.
type Configuration = v1beta1.Configuration

// Desired is what the user asked for.
type Desired struct {
	// Replicas is the number of instances, 1 to 9.
	Replicas int32
	// Detection is how long a primary must be silent or stalled before it is suspected.
	Detection time.Duration
	// RemoveAbsent is how long a voter may be away before it loses its vote.
	RemoveAbsent time.Duration
	// Manual: a lost primary is not replaced by itself.
	Manual bool
	// Switchover is the request that is not done yet, or nil.
	Switchover *Switchover
	// Fenced names the instances whose mysqld is to be down.
	Fenced []string
	// AcceptLoss names the instances without which a takeover may go on.
	AcceptLoss []string
	// Replace are the instances that are to go on with other data. None of them is the primary.
	Replace []Replacement
	// FromBackup: the first data directory comes from a backup.
	FromBackup bool
	// Archived: a binary log is needed until its transactions are in the archive.
	Archived bool
}

// Switchover is a request for another primary.
type Switchover struct {
	// Target is the name of the wanted primary; "" for any.
	Target string
}

// Observed is one observation of a cluster. Decide does not change it.
type Observed struct {
	// Record as read from its store, or nil when there is none.
	Record *Record
	// Initialized: some epoch of this cluster was opened before, by the word of its conditions.
	Initialized bool
	// OwnClaim is the claim this coordinator process made last for this cluster; "" when it made none.
	OwnClaim string
	// RivalAtWork: somebody else wrote the record a moment ago, and may be about to go on. Two that take epochs from each
	// other at once come to no end.
	RivalAtWork bool
	// FreshClaim and FreshUUID are random ids for the next claim and for the marker GTIDs of a new cluster.
	FreshClaim string
	FreshUUID  string
	// Instances by ordinal; one for each ordinal below the larger of the wanted number and what exists.
	Instances []Instance
	// Floor is the highest gtid_executed that the last opened primary reported while it was open; "" when none is known.
	Floor string
	// OwnLog: the last opened primary said that acknowledged writes may exist on its volume alone.
	OwnLog bool
}

// Instance is what is known of one instance.
type Instance struct {
	// Name of the Pod, and its ordinal.
	Name    string
	Ordinal int32
	// IP of the Pod; "" while it has none.
	IP string
	// HasVolume: a volume is bound, so it may hold data.
	HasVolume bool
	// Stopping: the Pod is being deleted; it gets no new work.
	Stopping bool
	// Configured: the agent holds the option file, certificates and accounts it should; without that nothing is started.
	Configured bool
	// Agent is the agent's newest status, or nil when it is not known; Cause then says why, for people.
	Agent *api.Status
	Cause string
	// Silent is how long the agent has not been heard; 0 while Agent is known.
	Silent time.Duration
	// Gone: the Pod does not exist.
	Gone bool
	// Away is how long a voter has not been connected to the primary; 0 while it is, or when that is not known.
	Away time.Duration
	// Unanswered is how long mysqld has been running without answering its agent; 0 when it answers or does not run.
	Unanswered time.Duration
}

// running reports whether mysqld answered in the last status.
func (i *Instance) running() bool { return i.Agent != nil && i.Agent.Server != nil }

// incarnation of the data, "" when unknown.
func (i *Instance) incarnation() string {
	if i.Agent == nil {
		return ""
	}
	return i.Agent.Incarnation
}

// is reports whether the instance holds the data of m.
func (i *Instance) is(m Member) bool {
	return i.Agent != nil && i.Agent.Incarnation != "" && i.Agent.Incarnation == m.Incarnation
}

// closed reports whether no client can write to a running instance.
func (i *Instance) closed() bool {
	return i.running() && (i.Agent.Server.SuperReadOnly || i.Agent.Server.OfflineMode)
}

// find returns the instance with the name, or nil.
func (o *Observed) find(name string) *Instance {
	for n := range o.Instances {
		if o.Instances[n].Name == name {
			return &o.Instances[n]
		}
	}
	return nil
}

// holder returns the instance that holds the data of m, or nil. The name in m is only where it is expected.
func (o *Observed) holder(m Member) *Instance {
	for n := range o.Instances {
		if o.Instances[n].is(m) {
			return &o.Instances[n]
		}
	}
	return nil
}

// member describes an instance as a member of a configuration.
func member(i *Instance) Member {
	return Member{Name: i.Name, Ordinal: i.Ordinal, Incarnation: i.incarnation()}
}

// AckCount is k for n voters: half of n, rounded down, so that any two sets of k+1 voters meet in one.
func AckCount(voters int) int32 { return int32(voters / 2) }

// contains reports whether m, by incarnation, is a voter of c.
func contains(c *Configuration, incarnation string) bool {
	if c == nil || incarnation == "" {
		return false
	}
	for _, v := range c.Voters {
		if v.Incarnation == incarnation {
			return true
		}
	}
	return false
}

// opened returns the last opened configuration, or nil before the first.
func opened(r *Record) *Configuration {
	if r == nil || r.LastOpened == nil {
		return nil
	}
	return &r.LastOpened.Configuration
}

// target returns the configuration the record's epoch opens with: the pending one, else the last opened one, else the
// primary alone.
func target(r *Record) Configuration {
	switch {
	case r.Pending != nil:
		return *r.Pending
	case r.LastOpened != nil:
		return r.LastOpened.Configuration
	case r.Primary != nil:
		return Configuration{Voters: []Member{*r.Primary}}
	default:
		return Configuration{}
	}
}

// IsVoter reports whether the incarnation votes in the last opened or in the pending configuration.
func IsVoter(r *Record, incarnation string) bool {
	return r != nil && (contains(opened(r), incarnation) || contains(r.Pending, incarnation))
}

// Holds reports whether the last opened configuration counts an instance of that name as a voter.
func Holds(r *Record, name string) bool {
	if r == nil || r.LastOpened == nil {
		return false
	}
	for _, v := range r.LastOpened.Voters {
		if v.Name == name {
			return true
		}
	}
	return false
}
