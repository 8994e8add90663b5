// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Window is what Make looks at of a stream on the way from one backup to a target: not what the backup holds, and not what is
// behind the target. Given this backup alone and streams joined with it, Make gives the plan that it would give with all; only
// a Refusal may say less. It implements archive.Window.
type Window struct {
	held gtid.Set
	to   point
}

// Nearest is the backup from which a target is most likely to be reached, the newest that is not too young, and its Window.
// When Make with it alone gives a plan that is not Unsure, it is the plan that it would give with all backups. ok is false when
// there is no such backup.
func Nearest(backups []manifest.Summary, target wire.Target) (backup manifest.Summary, window Window, ok bool) {
	to, refusal := pointOf(target)
	if refusal != nil {
		return manifest.Summary{}, Window{}, false
	}
	for _, b := range newestFirst(backups) {
		tooYoung := to.kind == CutTime && b.ConsistentAt.After(to.time) ||
			(to.kind == CutGTID || to.kind == CutBeforeGTID) && b.GTIDs.Contains(to.gtid)
		if !tooYoung {
			return b, Window{held: b.GTIDs, to: to}, true
		}
	}
	return manifest.Summary{}, Window{}, false
}

// Before implements archive.Window: the backup holds all of the page, and none of it is behind the target.
func (w Window) Before(page *archive.Page) bool {
	for n := range page.Segments {
		one := segment{Segment: &page.Segments[n], set: parsed(page.Segments[n].GTIDs)}
		if !w.held.Contains(one.set) || w.to.held(&one) != verdictGoOn {
			return false
		}
	}
	return true
}

// Ends implements archive.Window: at a segment that reaches the target a walk ends, or leaves the stream.
func (w Window) Ends(page *archive.Page) bool {
	for n := range page.Segments {
		one := segment{Segment: &page.Segments[n], set: parsed(page.Segments[n].GTIDs)}
		if w.to.held(&one) != verdictGoOn {
			return true
		}
	}
	return false
}
