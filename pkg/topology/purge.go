// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Purges returns a Purge for every instance that keeps binary logs of which nobody needs anything any more. It is no part
// of Decide, because nothing waits for it: the caller carries it out when it has nothing else to do, and not too often.
func Purges(want Desired, seen Observed) []Action {
	purgeable := Purgeable(want, seen)
	if purgeable.Empty() {
		return nil
	}
	var actions []Action
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if !i.running() || i.Stopping || !knows(i, seen.Record) {
			continue
		}
		kept, err := gtid.Parse(i.Agent.BinlogGTIDs)
		if err != nil || kept.Intersect(purgeable).Empty() {
			continue
		}
		actions = append(actions, Action{Kind: Purge, Instance: i.Name, Record: seen.Record, Purgeable: purgeable.String()})
	}
	return actions
}

// Purgeable returns the transactions that every instance may remove from its binary log: those that every voter of every
// configuration that counts, and every other instance, has executed; and, if the cluster is archived, that the archive
// holds. Executed means durable (sync_binlog=1), so none of them will need it from another's binary log: a voter whose end
// is cut off later loses nothing that all voters have. If anything needed for that is not known, the set is empty.
//
// Reports may be old: gtid_executed only grows, but for what is cut off, and the archive only grows.
func Purgeable(want Desired, seen Observed) gtid.Set {
	r := seen.Record
	if r == nil || r.LastOpened == nil || !votersKnown(seen) {
		return gtid.Set{}
	}
	p := seen.holder(r.LastOpened.Primary)
	if p == nil || !p.running() {
		return gtid.Set{}
	}
	purgeable, err := gtid.Parse(p.Agent.Server.GTIDExecuted)
	if err != nil {
		return gtid.Set{}
	}
	for n := range seen.Instances {
		i := &seen.Instances[n]
		if blank(i) {
			continue
		}
		purgeable = purgeable.Intersect(executed(i))
	}
	if want.Archived {
		purgeable = purgeable.Intersect(archived(p))
	}
	return purgeable
}

// votersKnown reports whether the data of every voter that counts for a quorum are held by an instance that runs.
func votersKnown(seen Observed) bool {
	r := seen.Record
	configurations := append([]Configuration{r.LastOpened.Configuration}, r.Earlier...)
	if r.Pending != nil {
		configurations = append(configurations, *r.Pending)
	}
	for n := range configurations {
		for _, v := range configurations[n].Voters {
			if i := seen.holder(v); i == nil || !i.running() {
				return false
			}
		}
	}
	return true
}

// blank reports whether an instance has nothing that could lack a transaction: no volume was ever bound for it.
func blank(i *Instance) bool { return i.Agent == nil && !i.HasVolume }

// executed is what an instance has executed; nothing when that is not known, as while it is cloned.
func executed(i *Instance) gtid.Set {
	if !i.running() || i.Agent.Volume != api.VolumeReady {
		return gtid.Set{}
	}
	return readable(i.Agent.Server.GTIDExecuted)
}

// archived is what is in the archive by the word of the primary; nothing when it says nothing.
func archived(p *Instance) gtid.Set {
	if p.Agent.Archive == nil {
		return gtid.Set{}
	}
	return readable(p.Agent.Archive.GTIDs)
}

// readable is a set, empty when the text cannot be read.
func readable(text string) gtid.Set {
	set, err := gtid.Parse(text)
	if err != nil {
		return gtid.Set{}
	}
	return set
}
