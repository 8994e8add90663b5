// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
	"github.com/moco-mysql/moco/pkg/topology"
)

// shortGTID is how many characters of a GTID set the status shows.
const shortGTID = 256

// instanceStatuses describes every instance.
func (c *Controller) instanceStatuses(w *world) []v1beta1.InstanceStatus {
	before := map[string]v1beta1.InstanceStatus{}
	for _, i := range w.cluster.Status.Instances {
		before[i.Name] = i
	}
	fresh := c.now().Sub(w.memory.positionsAt) >= positionInterval
	if fresh {
		w.memory.positionsAt = c.now()
	}
	statuses := make([]v1beta1.InstanceStatus, 0, len(w.seen.Instances))
	for n := range w.seen.Instances {
		old := before[w.seen.Instances[n].Name]
		next := c.instanceStatus(w, &w.seen.Instances[n])
		if !fresh && old.State == next.State {
			next.GTIDExecuted, next.LagSeconds = old.GTIDExecuted, old.LagSeconds
		}
		next.Since = metav1.NewTime(c.now())
		if old.State == next.State {
			next.Since = old.Since
		}
		statuses = append(statuses, next)
	}
	return statuses
}

// instanceStatus describes one instance; Since is the caller's.
func (c *Controller) instanceStatus(w *world, i *topology.Instance) v1beta1.InstanceStatus {
	s := v1beta1.InstanceStatus{Name: i.Name, Ordinal: i.Ordinal, Role: roleOf(w, i), State: stateOf(w, i), Reason: i.Cause}
	if pod := w.pods[i.Ordinal]; pod != nil {
		s.Node, s.PodUID = pod.Spec.NodeName, string(pod.UID)
	}
	if claim := w.claims[i.Ordinal]; claim != nil {
		s.Volume = claim.Name
	}
	if trouble := w.memory.remarks.trouble(i.Name); trouble != "" && s.State != v1beta1.StateServing {
		s.Reason = trouble
	}
	a := i.Agent
	if a == nil {
		return s
	}
	s.Incarnation, s.AgentVersion = a.Incarnation, a.AgentVersion
	if version, err := mycnf.ParseVersion(a.ImageVersion); err == nil {
		s.Version = version.String()
	}
	s.Voter = topology.IsVoter(w.seen.Record, a.Incarnation)
	s.Progress = progressOf(a.Task)
	if a.Task != nil && a.Task.State == api.TaskFailed && a.Volume != api.VolumeReady {
		s.Reason = fmt.Sprintf("the last %s failed: %s", a.Task.Kind, a.Task.Error)
	}
	describeServer(&s, a)
	switch {
	case a.Diverged != nil:
		s.Reason = "it executed what the primary does not have: " + short(a.Diverged.GTIDs)
	case a.Unvouched != "" && s.Reason == "":
		s.Reason = "it has no vote: " + a.Unvouched
	}
	s.Reason = bounded(s.Reason)
	return s
}

// describeServer adds what mysqld said.
func describeServer(s *v1beta1.InstanceStatus, a *api.Status) {
	if a.Server == nil {
		if s.Reason == "" && a.Volume == api.VolumeReady {
			s.Reason = a.ExitMessage + a.ServerError
		}
		return
	}
	s.GTIDExecuted = short(a.Server.GTIDExecuted)
	if channel := a.Server.Channel; channel != nil && channel.LagSeconds >= 0 {
		s.LagSeconds = &channel.LagSeconds
	}
	if channel := a.Server.Channel; channel != nil && s.Reason == "" && s.State != v1beta1.StateServing {
		s.Reason = channel.ReceiverError + channel.ApplierError
	}
}

// progressOf shows a running task.
func progressOf(t *api.Task) *v1beta1.Progress {
	if t == nil || t.State != api.TaskRunning {
		return nil
	}
	p := &v1beta1.Progress{Stage: t.Stage, Donor: t.Donor, BytesDone: t.BytesDone, BytesTotal: t.BytesTotal}
	if t.BytesTotal > 0 {
		percent := int32(min(100, 100*t.BytesDone/t.BytesTotal))
		p.Percent = &percent
	}
	return p
}

// roleOf is the role the record gives.
func roleOf(w *world, i *topology.Instance) v1beta1.InstanceRole {
	r := w.seen.Record
	incarnation := ""
	if i.Agent != nil {
		incarnation = i.Agent.Incarnation
	}
	switch {
	case r != nil && r.Primary != nil && (r.Primary.Incarnation == incarnation || (incarnation == "" && r.Primary.Name == i.Name)):
		return v1beta1.RolePrimary
	case topology.IsVoter(r, incarnation):
		return v1beta1.RoleReplica
	case i.Agent != nil && i.Agent.Volume != api.VolumeEmpty:
		return v1beta1.RoleLearner
	default:
		return v1beta1.RoleNone
	}
}

// stateOf is the state of an instance in one word.
func stateOf(w *world, i *topology.Instance) v1beta1.InstanceState {
	pod := w.pods[i.Ordinal]
	switch {
	case pod == nil:
		return v1beta1.StatePending
	case i.Stopping:
		return v1beta1.StateTerminating
	case i.Agent == nil && w.trouble(i.Ordinal) != "":
		return v1beta1.StatePending
	case i.Agent == nil && w.cluster.Status.Replication != nil && topology.Holds(w.cluster.Status.Replication, i.Name):
		return v1beta1.StateUnknown
	case i.Agent == nil:
		return v1beta1.StateStarting
	}
	switch i.Agent.Volume {
	case api.VolumeWaiting:
		return v1beta1.StateWaitingForVolume
	case api.VolumeUnreadable:
		return v1beta1.StateUnreadable
	case api.VolumeEmpty:
		if t := i.Agent.Task; t != nil && t.Busy {
			return v1beta1.StateWaitingForDonor
		}
		return v1beta1.StateStarting
	case api.VolumeFilling:
		t := i.Agent.Task
		if t != nil && t.State == api.TaskFailed && t.Busy {
			return v1beta1.StateWaitingForDonor
		}
		if t != nil && t.Kind == api.TaskClone {
			return v1beta1.StateCloning
		}
		if t != nil && t.Kind == api.TaskRestore {
			return v1beta1.StateRestoring
		}
		return v1beta1.StateInitializing
	case api.VolumeReady:
	}
	return serverState(w, i)
}

// serverState is the state of an instance whose data is complete.
func serverState(w *world, i *topology.Instance) v1beta1.InstanceState {
	role, s := roleOf(w, i), i.Agent.Server
	open := s != nil && !s.OfflineMode
	switch {
	case i.Agent.Mysqld == api.MysqldDown:
		return v1beta1.StateDown
	case s == nil:
		return v1beta1.StateRecovering
	case role == v1beta1.RolePrimary && open && !s.SuperReadOnly:
		return v1beta1.StateServing
	case role == v1beta1.RolePrimary:
		return v1beta1.StateRecovering
	case role == v1beta1.RoleReplica && open && s.Channel != nil && s.Channel.Receiver == "Yes" && s.Channel.ApplierRunning:
		return v1beta1.StateServing
	case role == v1beta1.RoleReplica && w.seen.Record.Phase != v1beta1.RecordOpened:
		return v1beta1.StateJoining
	default:
		return v1beta1.StateCatchingUp
	}
}
