// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

var (
	firstSeed = flag.Uint64("first-seed", 1, "the first seed of the property tests")
	seeds     = flag.Int("seeds", 10_000, "how many seeds each of the property tests tries")
)

// restore does what the engine does with a plan, by the true contents of backup and segments, and gives what is executed.
// It asks for another plan while the backup turns out to be too young.
func (w *world) restore(backups []manifest.Summary, target wire.Target) (gtid.Set, *Plan, error) {
	for {
		plan, err := Make(backups, w.streams, target)
		if err != nil {
			return gtid.Set{}, nil, err
		}
		done, err := w.carryOut(plan)
		if !errors.Is(err, ErrTooYoung) {
			return done, plan, err
		}
		if !plan.Unsure {
			return gtid.Set{}, plan, fmt.Errorf("a plan that was sure: %w", err)
		}
		backups = slices.DeleteFunc(slices.Clone(backups), func(b manifest.Summary) bool { return b.ID == plan.Backup.ID })
	}
}

func (w *world) carryOut(plan *Plan) (gtid.Set, error) {
	executed := setOf(w.contents[plan.Backup.ID])
	for n, file := range plan.Files {
		var content []tx
		for _, one := range file.Segments {
			content = append(content, w.contentOf(parsed(one.GTIDs))...)
		}
		if n == len(plan.Files)-1 && plan.Cut.Kind != CutNone {
			kept, err := cutTrue(plan.Cut, content, executed, setOf(w.contents[plan.Backup.ID]))
			return kept, err
		}
		executed = executed.Union(setOf(content))
	}
	if !executed.Equal(plan.Whole) {
		return gtid.Set{}, fmt.Errorf("executed %s, the plan expects %s", executed, plan.Whole)
	}
	return executed, nil
}

// contentOf puts transactions in their true order.
func (w *world) contentOf(set gtid.Set) []tx {
	for _, line := range w.timelines {
		content := slices.DeleteFunc(slices.Clone(line.truth), func(one tx) bool { return !set.Contains(one.set) })
		if int64(len(content)) == set.Count() {
			return content
		}
	}
	panic("a segment that holds what never was")
}

// cutTrue cuts the content of a file and applies what is left of it.
func cutTrue(cut Cut, content []tx, executed, held gtid.Set) (gtid.Set, error) {
	end := slices.IndexFunc(content, func(one tx) bool {
		return cut.Kind == CutTime && one.at > cut.Time.UnixMicro() || cut.Kind != CutTime && one.set.Equal(cut.GTID)
	})
	if end < 0 {
		return gtid.Set{}, ErrNoCut
	}
	if cut.Kind == CutGTID {
		end++
	}
	if !held.Intersect(setOf(content[end:])).Empty() {
		return gtid.Set{}, ErrTooYoung
	}
	return executed.Union(setOf(content[:end])), nil
}

// archived reports whether segments of any streams list all of the transactions.
func (w *world) archived(list []tx) bool {
	return !slices.ContainsFunc(list, func(one tx) bool { return !w.stored.Contains(one.set) })
}

// truthsAt are the beginnings of histories that had committed at a time, up to the first transaction that had not: of the
// history that was in force, and of those that came after it and have less, because they lost what the archive never had.
func (w *world) truthsAt(at int64) [][]tx {
	var truths [][]tx
	for n, line := range w.timelines {
		if n+1 < len(w.timelines) && w.timelines[n+1].from <= at {
			continue
		}
		count := slices.IndexFunc(line.truth, func(one tx) bool { return one.at > at })
		if count < 0 {
			count = len(line.truth)
		}
		truths = append(truths, line.truth[:count:count])
	}
	return truths
}

// simple reports whether history never forked and no run of an archiver found transactions before archived ones, which
// an earlier run had missed: what such a run archives can be of no use.
func (w *world) simple() bool {
	truth := w.present().truth
	return len(w.timelines) == 1 && !slices.ContainsFunc(w.streams, func(s *archive.Stream) bool {
		return !setOf(truth[:s.Base.Count()]).Equal(s.Base)
	})
}

// canReachTime reports whether what is stored is enough to know the state at a time, in a simple world.
func (w *world) canReachTime(at int64) bool {
	truth, count := w.present().truth, len(w.truthsAt(at)[0])
	known := count < len(truth) && w.archived(truth[count:count+1])
	for _, s := range w.streams {
		known = known || !s.CaughtUpAt.IsZero() && s.CaughtUpAt.UnixMicro() >= at && s.Covered().Equal(setOf(truth[:count]))
	}
	return known && slices.ContainsFunc(w.backups, func(b manifest.Summary) bool {
		held := len(w.contents[b.ID])
		return b.ConsistentAt.UnixMicro() <= at && held <= count && w.archived(truth[held:count])
	})
}

// outcome is what a check has seen: a plan that was right, a refusal that was right, or an error.
func (w *world) outcome(target wire.Target, possible bool, wanted ...gtid.Set) error {
	got, _, err := w.restore(w.backups, target)
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Message == "":
		return errors.New("a refusal without a sentence")
	case errors.As(err, &refusal) && possible && w.simple():
		return fmt.Errorf("%+v refused, though it can be reached: %w", target, err)
	case errors.As(err, &refusal):
		w.refused++
		return nil
	case err != nil:
		return fmt.Errorf("%+v: %w", target, err)
	case !slices.ContainsFunc(wanted, got.Equal):
		return fmt.Errorf("%+v: restored %s, want one of %s", target, got, wanted)
	}
	w.reached++
	return nil
}

func (w *world) checkTime(at int64) error {
	var wanted []gtid.Set
	for _, truth := range w.truthsAt(at) {
		wanted = append(wanted, setOf(truth))
	}
	return w.outcome(wire.Target{Time: time.UnixMicro(at)}, w.simple() && w.canReachTime(at), wanted...)
}

func (w *world) checkGTID(one tx) error {
	for _, line := range w.timelines {
		at := slices.IndexFunc(line.truth, func(t tx) bool { return t.text == one.text })
		if at < 0 {
			continue
		}
		possible := slices.ContainsFunc(w.backups, func(b manifest.Summary) bool {
			held := len(w.contents[b.ID])
			return held <= at && w.archived(line.truth[held:at+1])
		})
		return errors.Join(
			w.outcome(wire.Target{GTID: one.text}, possible, setOf(line.truth[:at+1])),
			w.outcome(wire.Target{BeforeGTID: one.text}, possible, setOf(line.truth[:at])),
		)
	}
	return w.outcome(wire.Target{GTID: one.text}, false)
}

// checkLatest demands a state that the cluster was in, and in a simple world the last one that can be reached from the
// newest backup.
func (w *world) checkLatest() error {
	got, plan, err := w.restore(w.backups, wire.Target{Latest: true})
	var refusal *Refusal
	if errors.As(err, &refusal) && len(w.backups) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	known := slices.ContainsFunc(w.timelines, func(line timeline) bool {
		return len(line.truth) >= int(got.Count()) && setOf(line.truth[:got.Count()]).Equal(got)
	})
	if !known {
		return fmt.Errorf("latest: restored %s, which never was", got)
	}
	truth := w.present().truth
	end := len(w.contents[plan.Backup.ID])
	for w.simple() && end < len(truth) && w.archived(truth[end:end+1]) {
		end++
	}
	if w.simple() && !got.Equal(setOf(truth[:end])) {
		return fmt.Errorf("latest: restored %s, but %s can be reached", got, setOf(truth[:end]))
	}
	return nil
}

// check asks for points of every kind.
func (w *world) check() error {
	for _, s := range w.streams {
		for _, entry := range s.Pages[0].Segments {
			w.stored = w.stored.Union(parsed(entry.GTIDs))
		}
	}
	errs := []error{w.checkLatest()}
	for range 4 {
		errs = append(errs, w.checkTime(w.moment()))
	}
	for range 2 {
		if line := w.timelines[w.r.IntN(len(w.timelines))].truth; len(line) > 0 {
			errs = append(errs, w.checkGTID(line[w.r.IntN(len(line))]))
		}
	}
	for _, one := range w.cut {
		errs = append(errs, w.checkGTID(one))
	}
	return errors.Join(errs...)
}

// moment is any time of the world, often that of a commit or next to it.
func (w *world) moment() int64 {
	begin := int64(1_700_000_000_000_000)
	truth := w.timelines[w.r.IntN(len(w.timelines))].truth
	if len(truth) == 0 || w.chance(30) {
		return begin - 10 + w.r.Int64N(w.now-begin+20)
	}
	return truth[w.r.IntN(len(truth))].at + int64(w.r.IntN(3)) - 1
}

func TestAPlanReachesExactlyThePointOrRefuses(t *testing.T) {
	for name, forks := range map[string]int{"one history": 0, "histories that fork": 4} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reached, refused, simple := 0, 0, 0
			for seed := *firstSeed; seed < *firstSeed+uint64(*seeds); seed++ {
				w := newWorld(seed)
				w.run(12+w.r.IntN(36), forks)
				if err := w.check(); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				reached, refused = reached+w.reached, refused+w.refused
				if w.simple() {
					simple++
				}
			}
			t.Logf("%d plans, %d refusals; %d of %d worlds were simple", reached, refused, simple, *seeds)
			if reached < *seeds || refused < *seeds || simple < *seeds/10 {
				t.Error("the worlds are too poor to show anything")
			}
		})
	}
}
