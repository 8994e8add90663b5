// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"time"

	"github.com/google/uuid"
	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/topology"
)

// observe puts the world into the words of pkg/topology.
func (c *Controller) observe(w *world) {
	w.seen = topology.Observed{
		Record:      newerRecord(w.cluster.Status.Replication, w.memory.record),
		Initialized: apimeta.IsStatusConditionTrue(w.cluster.Status.Conditions, v1beta1.ConditionInitialized),
		OwnClaim:    w.memory.ownClaim,
		FreshClaim:  uuid.NewString(),
		FreshUUID:   uuid.NewString(),
	}
	for ordinal := range w.ordinals() {
		w.seen.Instances = append(w.seen.Instances, c.instance(w, ordinal))
	}
	now := c.now()
	w.seen.RivalAtWork = w.memory.rival.atWork(w.seen.Record, w.memory.ownClaim, now)
	w.memory.absences.note(&w.seen, now)
	w.memory.floor.note(&w.seen)
	w.seen.Floor = w.memory.floor.text
	w.memory.ownLog.note(&w.seen)
	w.seen.OwnLog = w.memory.ownLog.required
	w.memory.history.look(&w.seen, now)
}

// instance observes one ordinal.
func (c *Controller) instance(w *world, ordinal int32) topology.Instance {
	i := topology.Instance{Name: render.PodName(w.cluster, ordinal), Ordinal: ordinal, Cause: "its Pod does not exist"}
	if claim := w.claims[ordinal]; claim != nil {
		i.HasVolume = claim.Spec.VolumeName != ""
	}
	pod := w.pods[ordinal]
	if pod == nil {
		i.Gone = true
		i.Silent = w.memory.silentFor(i.Name, time.Time{}, c.now())
		return i
	}
	i.IP = pod.Status.PodIP
	i.Stopping = pod.DeletionTimestamp != nil
	i.Agent, i.Cause = c.fleet.report(pod.UID)
	heard := c.fleet.heardAt(pod.UID)
	trouble := w.trouble(ordinal)
	if trouble != "" && aloneInPod(i.Agent) {
		i.Agent, heard = nil, time.Time{} // what it says is of no use
	}
	silent := w.memory.silentFor(i.Name, heard, c.now())
	if i.Agent == nil {
		i.Cause, i.Silent = cmp.Or(trouble, i.Cause), silent
		return i
	}
	i.Configured = w.settings.usable(i.Agent) && w.mayBegin(ordinal)
	i.Unanswered = w.memory.unansweredFor(i.Name, i.Agent, c.now())
	return i
}

// unansweredFor returns how long mysqld of an instance has been running without answering its agent.
func (m *memory) unansweredFor(instance string, agent *api.Status, now time.Time) time.Duration {
	if agent.Mysqld != api.MysqldRunning || agent.Server != nil {
		delete(m.mute, instance)
		return 0
	}
	if _, known := m.mute[instance]; !known {
		m.mute[instance] = now
	}
	return now.Sub(m.mute[instance])
}

// silentFor returns how long an instance has not been heard: since heard, else since it was last of use, else since this
// process first looked for it. heard is zero when its present Pod was never heard.
func (m *memory) silentFor(instance string, heard, now time.Time) time.Duration {
	since, known := m.heard[instance]
	if !known && heard.IsZero() {
		since = now
	}
	if heard.After(since) {
		since = heard
	}
	m.heard[instance] = since
	return max(0, now.Sub(since))
}

// holder returns the instance with the data of an incarnation, or nil.
func holder(seen *topology.Observed, incarnation string) *topology.Instance {
	for n := range seen.Instances {
		if a := seen.Instances[n].Agent; a != nil && a.Incarnation != "" && a.Incarnation == incarnation {
			return &seen.Instances[n]
		}
	}
	return nil
}

// isOpen reports whether clients can write to an instance.
func isOpen(i *topology.Instance) bool {
	return i != nil && i.Agent != nil && i.Agent.Server != nil && !i.Agent.Server.SuperReadOnly && !i.Agent.Server.OfflineMode
}

// absences remembers since when voters have not been connected to the primary. That is told only while the primary is
// open: without it nobody is connected, and that is nobody's fault.
type absences struct {
	primary string // incarnation
	since   map[string]time.Time
}

// note looks at the voters and sets Away of those that are not connected.
func (a *absences) note(seen *topology.Observed, now time.Time) {
	if seen.Record == nil || seen.Record.LastOpened == nil {
		return
	}
	opened := seen.Record.LastOpened
	p := holder(seen, opened.Primary.Incarnation)
	if !isOpen(p) || a.primary != opened.Primary.Incarnation {
		a.primary, a.since = opened.Primary.Incarnation, map[string]time.Time{}
	}
	if !isOpen(p) {
		return
	}
	for _, v := range opened.Voters {
		i := holder(seen, v.Incarnation)
		if i == p || connected(i, p) {
			delete(a.since, v.Incarnation)
			continue
		}
		if _, known := a.since[v.Incarnation]; !known {
			a.since[v.Incarnation] = now
		}
		if i == nil {
			i = named(seen, v.Name)
		}
		if i != nil {
			i.Away = now.Sub(a.since[v.Incarnation])
		}
	}
}

// receiverConnected is Replica_IO_Running of a receiver that is connected (manual, SHOW REPLICA STATUS).
const receiverConnected = "Yes"

// connected reports whether an instance receives from p.
func connected(i, p *topology.Instance) bool {
	if i == nil || i.Agent == nil || i.Agent.Server == nil {
		return false
	}
	channel := i.Agent.Server.Channel
	return channel != nil && channel.Host == p.IP && channel.Receiver == receiverConnected
}

// named returns the instance with the name, or nil.
func named(seen *topology.Observed, name string) *topology.Instance {
	for n := range seen.Instances {
		if seen.Instances[n].Name == name {
			return &seen.Instances[n]
		}
	}
	return nil
}

// floor is gtid_executed of the open primary of an epoch as it was last reported while it was open. What is reported
// after it was closed, or by a mysqld that recovered, is left out: it may hold what was never acknowledged.
type floor struct {
	epoch int64
	text  string
}

// note takes the present report, unless it has less than an earlier one of the same epoch.
func (f *floor) note(seen *topology.Observed) {
	r := seen.Record
	if r == nil || r.LastOpened == nil {
		return
	}
	p := holder(seen, r.LastOpened.Primary.Incarnation)
	if r.LastOpened.Epoch != f.epoch {
		*f = floor{epoch: r.LastOpened.Epoch}
	}
	if !isOpen(p) || p.Agent.Server.GTIDExecuted == f.text {
		return
	}
	now, errNow := gtid.Parse(p.Agent.Server.GTIDExecuted)
	before, errBefore := gtid.Parse(f.text)
	if errNow == nil && errBefore == nil && now.Contains(before) {
		f.text = p.Agent.Server.GTIDExecuted
	}
}

// ownLog is what the last opened primary said last about whether its own log is required.
type ownLog struct {
	incarnation string
	required    bool
}

func (o *ownLog) note(seen *topology.Observed) {
	r := seen.Record
	if r == nil || r.LastOpened == nil {
		return
	}
	if o.incarnation != r.LastOpened.Primary.Incarnation {
		*o = ownLog{incarnation: r.LastOpened.Primary.Incarnation}
	}
	if p := holder(seen, o.incarnation); p != nil {
		o.required = p.Agent.RequiresOwnLog
	}
}
