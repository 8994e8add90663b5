// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// Make finds the newest of the backups from which the target can be reached. All backups and streams are of one cluster; to
// restore a certain backup, give only that one. Logical backups are passed over. The error is a *Refusal.
func Make(backups []manifest.Summary, streams []*archive.Stream, target wire.Target) (*Plan, error) {
	to, refusal := pointOf(target)
	if refusal != nil {
		return nil, refusal
	}
	usable := newestFirst(backups)
	if len(usable) == 0 {
		return nil, &Refusal{Reason: NoBackup, Message: "there is no physical backup"}
	}
	if target == (wire.Target{}) {
		return &Plan{Backup: usable[0], Whole: usable[0].GTIDs}, nil
	}
	s := search{to: to, backups: usable, streams: read(streams)}
	switch to.kind {
	case CutTime:
		return s.time()
	case CutGTID, CutBeforeGTID:
		return s.gtid()
	case CutNone:
	}
	latest := begin(usable[0], to)
	latest.through(s.streams)
	return &latest.plan, nil
}

// newestFirst are the backups that an archive can follow.
func newestFirst(backups []manifest.Summary) []manifest.Summary {
	usable := slices.DeleteFunc(slices.Clone(backups), func(b manifest.Summary) bool { return b.Method != manifest.Physical })
	slices.SortFunc(usable, func(a, b manifest.Summary) int {
		return -cmp.Or(a.ConsistentAt.Compare(b.ConsistentAt), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return usable
}

// search looks for the backup to begin with.
type search struct {
	to      point
	backups []manifest.Summary
	streams []history
}

func (s *search) time() (*Plan, error) {
	var best *walk
	for _, b := range s.backups {
		if b.ConsistentAt.After(s.to.time) {
			continue
		}
		w := begin(b, s.to)
		v := w.through(s.streams)
		if v == verdictReach || v == verdictGoOn && !s.to.time.After(w.plan.CoveredUpTo) {
			return &w.plan, nil
		}
		if v == verdictGoOn && (best == nil || w.plan.CoveredUpTo.After(best.plan.CoveredUpTo)) {
			best = w
		}
	}
	from, upTo := s.reach()
	at := stamp(s.to.time)
	switch {
	case best == nil:
		oldest := s.backups[len(s.backups)-1]
		return nil, &Refusal{Reason: BeforeBackup, CoveredFrom: from, CoveredUpTo: upTo, Message: fmt.Sprintf(
			"no backup lies before %s: the oldest one, %s, holds transactions up to %s", at, oldest.ID, stamp(oldest.ConsistentAt))}
	case best.plan.CoveredUpTo.IsZero():
		return nil, &Refusal{Reason: NotCovered, CoveredFrom: from, CoveredUpTo: upTo, Message: fmt.Sprintf(
			"%s is not covered: no archive follows backup %s%s", at, best.plan.Backup.ID, s.hint(best))}
	}
	return nil, &Refusal{Reason: NotCovered, CoveredFrom: from, CoveredUpTo: upTo, Message: fmt.Sprintf(
		"%s is not covered: from backup %s on, the archive reaches up to %s%s", at, best.plan.Backup.ID, stamp(best.plan.CoveredUpTo), s.hint(best))}
}

// hint is why a walk ended, and where the next points are.
func (s *search) hint(w *walk) string {
	text := ""
	if w.plan.Missing != "" {
		text = "; " + w.plan.Missing
	}
	for _, v := range slices.Backward(s.backups) {
		if b := v; b.ConsistentAt.After(s.to.time) {
			return text + fmt.Sprintf("; the next backup, %s, holds transactions up to %s", b.ID, stamp(b.ConsistentAt))
		}
	}
	return text
}

func (s *search) gtid() (*Plan, error) {
	var unsure *walk
	young, missing := false, ""
	for _, b := range s.backups {
		w := begin(b, s.to)
		switch v := w.through(s.streams); {
		case v == verdictReach:
			return &w.plan, nil
		case v == verdictUnsure && unsure == nil:
			unsure = w
		case v == verdictUnfit || b.GTIDs.Contains(s.to.gtid):
			young = true
		case v == verdictGoOn && missing == "":
			missing = w.plan.Missing
		}
	}
	if unsure != nil {
		unsure.plan.Unsure = true
		return &unsure.plan, nil
	}
	return nil, s.refuseGTID(young, missing)
}

// refuseGTID says why a transaction cannot be reached: all backups hold it, or what is behind it; or those that do not are
// not followed by it.
func (s *search) refuseGTID(young bool, missing string) *Refusal {
	r := &Refusal{Reason: UnknownGTID}
	r.CoveredFrom, r.CoveredUpTo = s.reach()
	id := s.to.gtid
	listed := slices.ContainsFunc(s.streams, func(h history) bool {
		return slices.ContainsFunc(h.segments, func(one segment) bool { return one.set.Contains(id) })
	})
	switch {
	case listed && young && missing == "":
		r.Reason, r.Message = BeforeBackup, fmt.Sprintf("no backup lies before transaction %s: the oldest one, %s, holds it or what is behind it", id, s.backups[len(s.backups)-1].ID)
	case listed:
		r.Reason, r.Message = NotCovered, fmt.Sprintf("transaction %s is not covered: %s", id, missing)
	case young:
		r.Message = fmt.Sprintf("transaction %s is in a backup, but in no archived binary log, so what came before it is not known", id)
	default:
		r.Message = fmt.Sprintf("transaction %s is in no archived binary log", id)
	}
	return r
}

// reach is the earliest and the latest time that can be reached.
func (s *search) reach() (from, upTo time.Time) {
	newest := begin(s.backups[0], point{})
	newest.through(s.streams)
	from, upTo = s.backups[len(s.backups)-1].ConsistentAt, newest.plan.CoveredUpTo
	if upTo.Before(from) {
		upTo = s.backups[0].ConsistentAt
	}
	return from, upTo
}

// stamp is a time for people, with the precision of commits.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }
