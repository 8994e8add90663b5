// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/restore"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/test/bench"
)

const (
	// tables and chunks make files of about 450 MB, beside 130 MB of the server itself.
	tables, chunks = 32, 2
	// calm is how long latency is measured without a backup.
	calm = 10 * time.Second
	// steady is the rate of writes, in transactions per second, whose latency is measured.
	steady = 200
)

// TestBackup measures backups and restores of a pair against what is done by hand, and what a backup costs those who write.
func TestBackup(t *testing.T) {
	n := bench.Times(t, variable, rounds)
	s := newPair(t)
	s.fill(t, tables, chunks)
	s.caughtUp(t)
	t.Run("backup", func(t *testing.T) { s.measureBackups(t, n) })
	t.Run("restore", func(t *testing.T) { s.measureRestores(t, n) })
	t.Run("latency", func(t *testing.T) { s.measureLatency(t, n) })
}

// measureBackups makes backups of every kind in turns.
func (s *site) measureBackups(t *testing.T, n int) {
	rate := func(name string) *bench.Distribution { return &bench.Distribution{Name: name, Unit: "MB/s"} }
	ratio := func(name string) *bench.Distribution { return &bench.Distribution{Name: name, Unit: "1"} }
	whole, sending, copying := rate("MOCO to a directory, whole"), rate("MOCO: sending alone"), rate("MOCO: copying alone")
	hand, packing, cloning := rate("by hand, whole"), rate("by hand: `tar \\| zstd -T0` alone"), rate("by hand: `CLONE LOCAL` alone")
	dumping, s3 := rate("`mysqldump \\| zstd -T0`"), rate("MOCO to S3, whole")
	sendingS3 := rate("MOCO: sending to S3 alone")
	size := &bench.Distribution{Name: "files of the backup", Unit: "MB"}
	stored := &bench.Distribution{Name: "stored of them", Unit: "1"}
	toHand, toPacking, toDump := ratio("MOCO to by hand, whole"), ratio("MOCO's sending to `tar \\| zstd -T0`"), ratio("MOCO, whole, to `mysqldump`")
	s3ToHand, s3ToPacking := ratio("MOCO to S3 to by hand, whole"), ratio("MOCO's sending to S3 to `tar \\| zstd -T0`")
	bucket, objects := newS3(t)
	var stages stageTimes
	for range n {
		to := directory(t)
		made := s.backUp(t, to)
		typed := s.byHand(t)
		dumped := s.byDump(t)
		stages.add(made.stages)
		size.Add(made.bytes / mega)
		stored.Add(made.stored / made.bytes)
		whole.Add(made.rate(made.took))
		sending.Add(made.rate(made.stages[stageSending]))
		copying.Add(made.rate(stageOf(made.stages, stageCopying)))
		hand.Add(made.rate(typed.clone + typed.pack))
		packing.Add(made.rate(typed.pack))
		cloning.Add(made.rate(typed.clone))
		dumping.Add(made.rate(dumped))
		toHand.Add((typed.clone + typed.pack).Seconds() / made.took.Seconds())
		toPacking.Add(typed.pack.Seconds() / made.stages[stageSending].Seconds())
		toDump.Add(dumped.Seconds() / made.took.Seconds())
		empty(t, to.Directory)
		empty(t, filepath.Dir(typed.archive))
		if objects == "" {
			continue
		}
		remote := s.backUp(t, bucket)
		s3.Add(remote.rate(remote.took))
		sendingS3.Add(remote.rate(remote.stages[stageSending]))
		s3ToHand.Add((typed.clone + typed.pack).Seconds() / remote.took.Seconds())
		s3ToPacking.Add(typed.pack.Seconds() / remote.stages[stageSending].Seconds())
		empty(t, objects)
	}
	all := []*bench.Distribution{
		size, stored, whole, s3, hand, dumping, toHand, s3ToHand, toDump,
		sending, sendingS3, packing, toPacking, s3ToPacking, copying, cloning,
	}
	publish(t, "backup.md", append(all, stages.distributions()...)...)
}

// empty removes what is in a directory.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// stageOf is how long a Job was in the stages whose words begin so.
func stageOf(stages map[string]time.Duration, prefix string) time.Duration {
	var sum time.Duration
	for stage, took := range stages {
		if strings.HasPrefix(stage, prefix) {
			sum += took
		}
	}
	return sum
}

// stageTimes are the stages of several Jobs.
type stageTimes struct{ all []*bench.Distribution }

func (s *stageTimes) add(stages map[string]time.Duration) {
	for stage, took := range stages {
		s.of("stage: " + stage).Add(took.Seconds())
	}
}

func (s *stageTimes) of(name string) *bench.Distribution {
	for _, d := range s.all {
		if d.Name == name {
			return d
		}
	}
	d := &bench.Distribution{Name: name, Unit: "s"}
	s.all = append(s.all, d)
	return d
}

// distributions are those that took at least a tenth of a second.
func (s *stageTimes) distributions() []*bench.Distribution {
	var long []*bench.Distribution
	for _, d := range s.all {
		if d.Median() >= 0.1 {
			long = append(long, d)
		}
	}
	return long
}

// toDiskScript waits until the files below $1 are on the disk. Neither MOCO nor cp does: what is copied is in memory at first.
const toDiskScript = `find "$1" -type f -exec sync {} +`

// measureRestores fetches one backup again and again, and copies and unpacks the same files by hand.
func (s *site) measureRestores(t *testing.T, n int) {
	fetching := &bench.Distribution{Name: "MOCO fetches from a directory", Unit: "MB/s"}
	copying := &bench.Distribution{Name: "`cp -a` of the same files, uncompressed", Unit: "MB/s"}
	unpacking := &bench.Distribution{Name: "`zstd -d \\| tar -x` of the same files", Unit: "MB/s"}
	toCopying := &bench.Distribution{Name: "MOCO to `cp -a`", Unit: "1"}
	toDisk := &bench.Distribution{Name: "MOCO to `cp -a`, both until all is on the disk", Unit: "1"}
	toUnpacking := &bench.Distribution{Name: "MOCO to `zstd -d \\| tar -x`", Unit: "1"}
	from := directory(t)
	made := s.backUp(t, from)
	dir := scratch(t)
	for range n {
		fetched := fetch(t, from, made.id, dir)
		fetchedDisk := fetched + s.shell(t, toDiskScript, dir+"/data")
		copied := s.shell(t, `cp -a "$1/data" "$1/copy"`, dir)
		copiedDisk := copied + s.shell(t, toDiskScript, dir+"/copy")
		s.shell(t, `tar -C "$1/data" -cf - . | zstd -q -T0 -o "$1/all"; rm -r "$1/copy"; mkdir "$1/copy"`, dir)
		unpacked := s.shell(t, `zstd -q -dc "$1/all" | tar -C "$1/copy" -xf -`, dir)
		fetching.Add(made.rate(fetched))
		copying.Add(made.rate(copied))
		unpacking.Add(made.rate(unpacked))
		toCopying.Add(copied.Seconds() / fetched.Seconds())
		toDisk.Add(copiedDisk.Seconds() / fetchedDisk.Seconds())
		toUnpacking.Add(unpacked.Seconds() / fetched.Seconds())
		empty(t, dir)
	}
	publish(t, "restore.md", fetching, copying, unpacking, toCopying, toDisk, toUnpacking)
}

// fetch lays a backup out in dir/data and returns how long that took, checking what is stored included.
func fetch(t *testing.T, from wire.Store, id, dir string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	r, err := restore.Open(ctx, restore.Config{
		Source: wire.Source{Store: from, Cluster: key, Backup: id}, Dir: filepath.Join(dir, "data"), Scratch: filepath.Join(dir, "scratch"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := r.Fetch(ctx); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// measureLatency compares how long writes on the primary take while the replica is backed up and while it is not.
func (s *site) measureLatency(t *testing.T, n int) {
	without := [3]*bench.Distribution{{Name: "p50 without a backup", Unit: "ms"}, {Name: "p99 without a backup", Unit: "ms"}, {Name: "longest without a backup", Unit: "ms"}}
	with := [3]*bench.Distribution{{Name: "p50 during a backup", Unit: "ms"}, {Name: "p99 during a backup", Unit: "ms"}, {Name: "longest during a backup", Unit: "ms"}}
	ratio := &bench.Distribution{Name: "p99 during a backup to p99 without", Unit: "1"}
	rates := &bench.Distribution{Name: "writes during a backup", Unit: "1/s"}
	w := writers{endpoint: s.endpoint(), rate: steady}
	for range n {
		quiet := w.runFor(t, calm)
		to := directory(t)
		stop := w.begin(t.Context(), t)
		s.backUp(t, to)
		busy := stop()
		empty(t, to.Directory)
		for i, q := range []float64{0.5, 0.99, 1} {
			without[i].Add(quiet.quantile(q))
			with[i].Add(busy.quantile(q))
		}
		ratio.Add(busy.quantile(0.99) / quiet.quantile(0.99))
		rates.Add(busy.perSecond())
	}
	publish(t, "latency.md", append(append(without[:], with[:]...), ratio, rates)...)
}
