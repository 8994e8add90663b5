// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

// rivalPatience is how long another controller may take from one step of an epoch to the next. It is also what a controller
// that begins to lead waits before it goes on with the epoch of one that died in the middle.
const rivalPatience = time.Second

// rival is a record that another process wrote: the lease is no fence, so two may be at work for a moment.
type rival struct {
	epoch int64
	phase v1beta1.RecordPhase
	claim string
	since time.Time
}

// atWork says whether the record is another's that was seen to change less than rivalPatience ago.
func (r *rival) atWork(record *topology.Record, own string, now time.Time) bool {
	if record == nil || record.Claim == own || record.Phase == v1beta1.RecordOpened {
		*r = rival{}
		return false
	}
	if record.Epoch != r.epoch || record.Phase != r.phase || record.Claim != r.claim {
		*r = rival{epoch: record.Epoch, phase: record.Phase, claim: record.Claim, since: now}
	}
	return now.Sub(r.since) < rivalPatience
}
