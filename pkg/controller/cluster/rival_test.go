// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

func TestARivalIsGivenTimeForItsNextStep(t *testing.T) {
	t.Parallel()
	begun := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	claimed := &topology.Record{Epoch: 7, Phase: v1beta1.RecordClaimed, Claim: "theirs"}
	chosen := &topology.Record{Epoch: 7, Phase: v1beta1.RecordChosen, Claim: "theirs"}
	var r rival
	for _, look := range []struct {
		what   string
		record *topology.Record
		after  time.Duration
		want   bool
	}{
		{"there is no record", nil, 0, false},
		{"a claim that is seen for the first time", claimed, 0, true},
		{"the same a little later", claimed, rivalPatience - time.Millisecond, true},
		{"the same after its time", claimed, rivalPatience, false},
		{"its next step", chosen, rivalPatience, true},
		{"that, too, after its time", chosen, 2 * rivalPatience, false},
		{"an epoch that is opened", &topology.Record{Epoch: 7, Phase: v1beta1.RecordOpened, Claim: "theirs"}, 0, false},
		{"an epoch of our own", &topology.Record{Epoch: 8, Phase: v1beta1.RecordClaimed, Claim: "ours"}, 0, false},
	} {
		if got := r.atWork(look.record, "ours", begun.Add(look.after)); got != look.want {
			t.Errorf("%s: %t, want %t", look.what, got, look.want)
		}
	}
}
