// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// point is where a walk is to end: at a time, at a transaction, or at the end of all.
type point struct {
	kind CutKind
	time time.Time
	gtid gtid.Set
}

// pointOf checks a target.
func pointOf(target wire.Target) (point, *Refusal) {
	given := 0
	for _, is := range []bool{!target.Time.IsZero(), target.GTID != "", target.BeforeGTID != "", target.Latest} {
		if is {
			given++
		}
	}
	if given > 1 {
		return point{}, &Refusal{Reason: BadTarget, Message: "more than one point was given; at most one of a time, a GTID and a GTID to stop before can be"}
	}
	if !target.Time.IsZero() {
		return point{kind: CutTime, time: target.Time.UTC()}, nil
	}
	kind, text := CutGTID, target.GTID
	if target.BeforeGTID != "" {
		kind, text = CutBeforeGTID, target.BeforeGTID
	}
	if text == "" {
		return point{}, nil
	}
	set, err := gtid.Parse(text)
	if err != nil || set.Count() != 1 {
		return point{}, &Refusal{Reason: BadTarget, Message: fmt.Sprintf("%.128q is not the GTID of one transaction", text)}
	}
	return point{kind: kind, gtid: set}, nil
}

// held judges a segment that is executed as a whole.
func (p point) held(one *segment) verdict {
	behind := false
	switch p.kind {
	case CutTime:
		behind = one.LastCommit > p.time.UnixMicro()
	case CutGTID, CutBeforeGTID:
		behind = one.set.Contains(p.gtid)
	case CutNone:
	}
	if behind {
		return verdictUnfit
	}
	return verdictGoOn
}

// at judges a segment that would be used next, and says where to cut it; CutNone leaves all of it out when the point is
// reached. backup is what the backup holds.
func (p point) at(one *segment, backup gtid.Set) (verdict, Cut) {
	touched := !backup.Intersect(one.set).Empty()
	switch p.kind {
	case CutTime:
		at := p.time.UnixMicro()
		switch {
		case one.LastCommit <= at:
			return verdictGoOn, Cut{}
		case one.FirstCommit > at && touched:
			return verdictUnfit, Cut{}
		case one.FirstCommit > at:
			return verdictReach, Cut{}
		}
		return verdictReach, Cut{Kind: CutTime, Time: p.time}
	case CutGTID, CutBeforeGTID:
		switch {
		case !one.set.Contains(p.gtid):
			return verdictGoOn, Cut{}
		case p.kind == CutBeforeGTID && backup.Contains(p.gtid):
			return verdictUnfit, Cut{}
		case touched:
			return verdictUnsure, Cut{Kind: p.kind, GTID: p.gtid}
		}
		return verdictReach, Cut{Kind: p.kind, GTID: p.gtid}
	case CutNone:
	}
	return verdictGoOn, Cut{}
}
