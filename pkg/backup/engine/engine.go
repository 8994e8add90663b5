// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// Config is the place where a Job works.
type Config struct {
	// WorkDir is the mount point of the work volume, an absolute path. What a Job left in it is removed.
	WorkDir string
	// RunDir is a directory for sockets, with a path of at most 80 bytes.
	RunDir string
	// Mysqld, Mysqldump and Mysql are programs, by path or by name on the PATH. Mysqldump is only needed for dumps and for
	// restores of tables, Mysql for those.
	Mysqld, Mysqldump, Mysql string
	// MemoryBytes that the container may use; 0 means unknown, which is taken for 1 GiB.
	MemoryBytes int64
	// Workers is how many packs, and how many tables, are worked on at the same time, 1 to 16; 0 means the number of cores,
	// from 2 to 4.
	Workers int
	// PackBytes and PartBytes are the size of a pack and the largest part of a file in it, before compression; 0 means
	// 256 MiB.
	PackBytes, PartBytes int64
	// Patience is how long the primary may take to confirm a copy, and how long a step may wait for the store; 0 means 60 s.
	Patience time.Duration
	// Stall ends a clone that has not moved for so long; 0 means 60 s.
	Stall time.Duration
	// Progress is shown while Run runs; nil means that nobody looks.
	Progress *Progress
	// Now is the clock; nil means the system's.
	Now func() time.Time
}

// Defaults of Config.
const (
	DefaultPackBytes   = 256 << 20
	DefaultPatience    = 60 * time.Second
	DefaultStall       = 60 * time.Second
	DefaultMemoryBytes = 1 << 30
	minWorkers         = 2
	maxWorkers         = 4
	// socketPath is the most that a socket's path may have, and socketName what this package adds to RunDir.
	socketPath = 107
	socketName = "private.sock"
)

// Validate fills in the defaults and names what is missing or wrong.
func (c *Config) Validate() error {
	otherwise(&c.Workers, max(minWorkers, min(maxWorkers, runtime.GOMAXPROCS(0))))
	otherwise(&c.MemoryBytes, DefaultMemoryBytes)
	otherwise(&c.PackBytes, DefaultPackBytes)
	otherwise(&c.PartBytes, DefaultPackBytes)
	otherwise(&c.Patience, DefaultPatience)
	otherwise(&c.Stall, DefaultStall)
	otherwise(&c.Mysqld, "mysqld")
	otherwise(&c.Mysqldump, "mysqldump")
	otherwise(&c.Mysql, "mysql")
	if c.Progress == nil {
		c.Progress = &Progress{}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case !filepath.IsAbs(c.WorkDir) || !filepath.IsAbs(c.RunDir):
		return fmt.Errorf("work directory %q and run directory %q must be absolute paths", c.WorkDir, c.RunDir)
	case len(c.socket()) > socketPath:
		return fmt.Errorf("run directory %q is too long for a socket", c.RunDir)
	case c.Workers < 1 || c.Workers > 16:
		return fmt.Errorf("%d workers: from 1 to 16 are possible", c.Workers)
	case c.MemoryBytes < 0 || c.PackBytes < 0 || c.PartBytes < 0 || c.Patience < 0 || c.Stall < 0:
		return errors.New("a size or a duration is negative")
	}
	return nil
}

func otherwise[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func (c *Config) socket() string { return filepath.Join(c.RunDir, socketName) }
func (c *Config) work(parts ...string) string {
	return filepath.Join(append([]string{c.WorkDir}, parts...)...)
}

// job is one operation.
type job struct {
	cfg    Config
	in     *wire.JobInput
	bucket *store.Bucket
	result wire.JobResult
}

// Run carries the operation out and says how it ended; it never panics on bad input. When ctx ends, it stops as soon as it
// can and the reason is ReasonInterrupted: what it did does not count then.
func Run(ctx context.Context, cfg Config, in *wire.JobInput) wire.JobResult {
	j := &job{cfg: cfg, in: in}
	began := time.Now()
	err := j.run(ctx)
	if err == nil {
		j.result.Succeeded = true
		klog.FromContext(ctx).Info("Job is done", "operation", in.Operation, "elapsed", time.Since(began))
		return j.result
	}
	klog.FromContext(ctx).Error(err, "Job failed", "operation", in.Operation, "elapsed", time.Since(began))
	return wire.JobResult{Reason: reasonOf(ctx, err), Message: err.Error(), Donor: j.result.Donor}
}

func (j *job) run(ctx context.Context) error {
	if err := j.cfg.Validate(); err != nil {
		return fail(wire.ReasonRefused, err)
	}
	var operate func(context.Context) error
	switch j.in.Operation {
	case wire.OperationBackup:
		operate = j.backup
	case wire.OperationDump:
		operate = j.dump
	case wire.OperationVerify:
		operate = j.verify
	case wire.OperationDelete:
		operate = j.delete
	case wire.OperationPrune:
		operate = j.prune
	case wire.OperationRestoreTables:
		return j.restoreTables(ctx)
	case wire.OperationDropRestore:
		return j.dropRestore(ctx)
	default:
		return fail(wire.ReasonRefused, fmt.Errorf("operation %q is not known", j.in.Operation))
	}
	where := j.in.Store
	if j.in.Operation == wire.OperationVerify {
		if j.in.Restore == nil {
			return fail(wire.ReasonRefused, errors.New("it is not said what is to be restored"))
		}
		where = j.in.Restore.Store
	}
	bucket, err := store.Open(ctx, where)
	if err != nil {
		return fail(wire.ReasonStore, fmt.Errorf("opening the store: %w", err))
	}
	defer func() { _ = bucket.Close() }()
	j.bucket = bucket
	return operate(ctx)
}

// stage shows what is being done, and logs it.
func (j *job) stage(ctx context.Context, words string) {
	klog.FromContext(ctx).V(2).Info("Job goes on", "stage", words)
	j.cfg.Progress.begin(words, j.cfg.Now())
}

// clear empties the work directory of what an earlier Job left. The directory itself is a mount point.
func (j *job) clear() error {
	entries, err := os.ReadDir(j.cfg.WorkDir)
	if err != nil {
		return fmt.Errorf("reading the work volume: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "lost+found" {
			continue
		}
		if err := os.RemoveAll(j.cfg.work(entry.Name())); err != nil {
			return fmt.Errorf("emptying the work volume: %w", err)
		}
	}
	return nil
}
