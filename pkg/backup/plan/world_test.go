// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// tx is one transaction of the true history.
type tx struct {
	text string
	set  gtid.Set
	at   int64 // original time of commit, in microseconds
}

// timeline is a history that was in force from a time on, until the next one was.
type timeline struct {
	from  int64
	truth []tx
}

// world is a cluster that runs, is archived, and is backed up. It knows the true sequence of transactions; the code under
// test knows only what an archiver and backups wrote.
type world struct {
	r *rand.Rand
	// timelines that were in force, the last one is.
	timelines []timeline
	now       int64
	epoch     int64
	primary   int
	// next is the next number of each server's transactions, generation makes its UUID new after a rewind.
	next, generation [3]int
	// logged is the index in the present history from which on each server has binary logs.
	logged [3]int
	// cut are transactions that were in a binary log, were never acknowledged, and were cut off.
	cut     []tx
	streams []*archive.Stream
	// open archives; stale did, and may write once more.
	open, stale *writer
	backups     []manifest.Summary
	// contents is what each backup holds, by its id.
	contents map[string][]tx
	// stored is what all segments hold in the end.
	stored gtid.Set
	// reached and refused count what the checks have seen.
	reached, refused int
}

// writer is one run of an archiver. It sees only the binary log and gtid_executed of its server.
type writer struct {
	stream *archive.Stream
	// position in the history up to which it has looked, end where its binary log ends, file and offset where it is.
	position, end, file int
	offset              int64
}

var testCluster = wire.ClusterKey{Namespace: "shop", Name: "db", UID: "5f2b8c1e-0000-4000-8000-000000000001"}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 7)), now: 1_700_000_000_000_000, timelines: []timeline{{}}, contents: map[string][]tx{}}
	w.next, w.epoch = [3]int{1, 1, 1}, 1
	return w
}

func (w *world) chance(percent int) bool { return w.r.IntN(100) < percent }

func (w *world) present() *timeline { return &w.timelines[len(w.timelines)-1] }

func (w *world) uuid(server int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-00000000000%d", w.generation[server]+1, server+1)
}

// transaction makes the next transaction of the primary, at the present time or a little before the one before, as within a
// group commit.
func (w *world) transaction() tx {
	name := fmt.Sprintf("%s:%d", w.uuid(w.primary), w.next[w.primary])
	if w.chance(10) {
		name = fmt.Sprintf("%s:tag%d:%d", w.uuid(w.primary), w.r.IntN(2), w.next[w.primary])
	}
	w.next[w.primary]++
	return tx{text: name, set: parsed(name), at: w.now}
}

func (w *world) commit() {
	w.tick()
	group := 1 + w.r.IntN(3)
	made := make([]tx, 0, group)
	for range group {
		made = append(made, w.transaction())
		w.now += int64(w.r.IntN(3))
	}
	if w.chance(20) { // times of a group need not be in its order
		made[0].at, made[group-1].at = made[group-1].at, made[0].at
	}
	line := w.present()
	line.truth = append(line.truth, made...)
}

// tick lets time pass, so that nothing commits any more at the time before.
func (w *world) tick() { w.now += 1 + int64(w.r.IntN(1000)) }

// failover makes another server primary; the old one may have a tail that nobody acknowledged, which it loses.
func (w *world) failover() {
	w.tick()
	w.stop()
	old := w.primary
	if w.chance(50) {
		w.cut = append(w.cut, w.transaction(), w.transaction())
		w.generation[old]++
		w.next[old] = 1
	}
	w.primary = (old + 1 + w.r.IntN(2)) % 3
	w.epoch++
	w.tick()
}

// clone gives a server a new volume, without binary logs of what was before.
func (w *world) clone() {
	server := w.r.IntN(3)
	if server != w.primary {
		w.logged[server] = len(w.present().truth)
		w.generation[server]++
		w.next[server] = 1
	}
}

// fork takes transactions out of history: an accepted loss, or a restore in place.
func (w *world) fork() {
	truth := w.present().truth
	if len(truth) < 2 {
		return
	}
	w.open, w.stale = nil, nil
	w.tick()
	kept := slices.Clone(truth[:len(truth)-1-w.r.IntN(min(len(truth)-1, 8))])
	w.timelines = append(w.timelines, timeline{from: w.now, truth: kept})
	for server := range w.logged {
		w.generation[server]++
		w.next[server] = 1
		w.logged[server] = min(w.logged[server], len(kept))
	}
	w.epoch++
	w.tick()
}

// start begins a run of the archiver on the primary. The run before it may write once more after that.
func (w *world) start() {
	w.stop()
	w.tick()
	var archived, base, gap gtid.Set
	for _, s := range w.streams {
		for _, one := range s.Pages[0].Segments {
			archived = archived.Union(parsed(one.GTIDs))
		}
	}
	for n, c := range w.present().truth {
		switch stored := archived.Contains(c.set); {
		case stored:
			base = base.Union(c.set)
		case n < w.logged[w.primary]:
			base, gap = base.Union(c.set), gap.Union(c.set)
		}
	}
	page := archive.NewPage(archive.Header{
		Cluster: testCluster, Epoch: w.epoch, StreamID: fmt.Sprintf("stream%04d", len(w.streams)), ServerUUID: w.uuid(w.primary),
		StartedAt: time.UnixMicro(w.now), Base: base, Gap: gap,
	})
	stream := &archive.Stream{Cluster: testCluster, Name: page.Name(), StartedAt: page.StartedAt, Base: base, Gap: gap, Pages: []*archive.Page{page}}
	w.streams = append(w.streams, stream)
	if w.stale != nil && w.chance(40) {
		w.segment(w.stale)
	}
	w.open, w.stale = &writer{stream: stream, offset: 1000, end: math.MaxInt}, nil
}

// stop ends the run of the archiver.
func (w *world) stop() {
	if w.open != nil {
		w.stale, w.open = w.open, nil
		w.stale.end = len(w.present().truth)
	}
}

// turn archives up to so many segments, and notes when nothing is left.
func (w *world) turn(segments int) {
	for range segments {
		if !w.segment(w.open) {
			w.tick() // what is committed from now on is later
			at := time.UnixMicro(w.now - 1).UTC()
			w.open.stream.CaughtUpAt, w.open.stream.Pages[0].CaughtUpAt = at, at
			return
		}
	}
}

// segment archives one segment; false when there is nothing.
func (w *world) segment(o *writer) bool {
	list := w.take(o)
	if len(list) == 0 {
		return false
	}
	page := o.stream.Pages[0]
	entry := entryOf(list)
	entry.Number, entry.File, entry.Start, entry.End = page.NextNumber(), fmt.Sprintf("binlog.%06d", o.file+1), o.offset, o.offset+100
	entry.StoredBytes, entry.RawBytes = 50, 300
	o.offset += 100
	if w.chance(15) {
		o.file++
	}
	page.Segments = append(page.Segments, entry)
	return true
}

// take reads transactions that lie one behind the other.
func (w *world) take(o *writer) []tx {
	truth, limit := w.present().truth, 1+w.r.IntN(6)
	var list []tx
	for ; o.position < min(len(truth), o.end) && len(list) < limit; o.position++ {
		one := truth[o.position]
		if !o.stream.Base.Contains(one.set) {
			list = append(list, one)
		} else if len(list) > 0 {
			break
		}
	}
	return list
}

// entryOf is the part of an entry that comes from the transactions.
func entryOf(list []tx) archive.Segment {
	entry := archive.Segment{Transactions: int64(len(list)), FirstCommit: list[0].at}
	var set gtid.Set
	for _, one := range list {
		set = set.Union(one.set)
		entry.FirstCommit, entry.LastCommit = min(entry.FirstCommit, one.at), max(entry.LastCommit, one.at)
	}
	entry.GTIDs = set.String()
	return entry
}

// backup copies a server that may be behind.
func (w *world) backup() {
	truth := w.present().truth
	w.tick()
	held := slices.Clone(truth[:max(0, len(truth)-w.r.IntN(4))])
	id := fmt.Sprintf("20261121T16%04dZ-0000000%d", len(w.backups), len(w.backups)%10)
	at := time.UnixMicro(w.now).UTC()
	if w.chance(30) { // it was consistent as soon as its last transaction was there
		at = time.UnixMicro(latestOf(held)).UTC()
	}
	w.backups = append(w.backups, manifest.Summary{
		ID: id, Method: manifest.Physical, Cluster: testCluster, CreatedAt: time.UnixMicro(w.now).UTC(), ConsistentAt: at, GTIDs: setOf(held),
	})
	w.contents[id] = held
	w.tick()
}

func latestOf(list []tx) int64 {
	var at int64
	for _, one := range list {
		at = max(at, one.at)
	}
	return at
}

func setOf(list []tx) gtid.Set {
	var set gtid.Set
	for _, one := range list {
		set = set.Union(one.set)
	}
	return set
}

// run lets the world go on for some steps. Forks are made only when asked for.
func (w *world) run(steps, forks int) {
	for range steps {
		switch n := w.r.IntN(100); {
		case n < 40:
			w.commit()
		case n < 60:
			if w.open != nil {
				w.turn(1 + w.r.IntN(4))
			}
		case n < 72:
			w.start()
		case n < 80:
			w.backup()
		case n < 86:
			w.failover()
		case n < 88:
			w.clone()
		case n < 88+forks:
			w.fork()
		default:
			w.tick()
		}
	}
}
