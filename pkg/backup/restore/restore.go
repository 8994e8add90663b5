// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/plan"
	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Server runs the private mysqld of a restore, one at a time.
type Server interface {
	// Start starts mysqld on a data directory, so that nobody else can reach it and with the given arguments behind its own,
	// and waits until the account can log in. Of its own it brings the option file (a section [mysqld]), --datadir, --tmpdir,
	// --skip-networking, a socket, --skip-replica-start, --event-scheduler=OFF, and nothing that makes it read-only.
	Start(ctx context.Context, dir string, as Login, arguments []string) (*mysql.Session, error)
	// Stop ends it cleanly and waits until it is gone.
	Stop(ctx context.Context) error
}

// Login is the account that a restore makes for itself and removes at its end.
type Login struct{ User, Password string }

// Progress is how far a restore is.
type Progress struct {
	// Stage in words a user understands.
	Stage string
	// BytesDone of BytesTotal of this stage, 0 when they are not known.
	BytesDone, BytesTotal int64
}

// Config is what a restore needs.
type Config struct {
	Source wire.Source
	// Version is the mysqld that will run, as `mysqld --version` or @@version say it; "" is not checked.
	Version string
	// MyCnf is the option file mysqld will run with: what is chosen at initialisation must be as in the backup. "" is not
	// checked.
	MyCnf string
	// Dir is the data directory to make. It must not exist. Its parent must be on the same file system.
	Dir string
	// Scratch is a directory on the same file system for what is fetched ahead. It is made, emptied and removed.
	Scratch string
	// Report is called whenever something moved, from one goroutine at a time; nil is not called.
	Report func(Progress)
}

func (c *Config) validate() error {
	if !filepath.IsAbs(c.Dir) || !filepath.IsAbs(c.Scratch) {
		return fmt.Errorf("data directory %q and scratch directory %q must be absolute paths", c.Dir, c.Scratch)
	}
	return nil
}

// Refusal says why a restore can never succeed as it was asked for.
type Refusal struct {
	Message string
	// cause is what was found, nil when Message is all.
	cause error
}

// Unwrap gives what was found, for example seal.ErrDamaged.
func (r *Refusal) Unwrap() error { return r.cause }

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

func refuse(format string, args ...any) error {
	return &Refusal{Message: fmt.Sprintf(format, args...)}
}

// Result is what was restored.
type Result struct {
	// Backup is the id of the backup.
	Backup string
	// GTIDExecuted of the data, whole.
	GTIDExecuted string
	// Transactions that were replayed.
	Transactions int64
	// RecoveredUpTo: everything that had committed by then is there, as far as the archive holds it. It is the moment of the
	// backup when nothing was replayed.
	RecoveredUpTo time.Time
	// Missing says in a sentence why a later part of the archive could not be reached from the backup; "" when none was left.
	Missing string
}

// Restore is one restore, planned. It is for one goroutine.
type Restore struct {
	cfg               Config
	backups, archives *store.Bucket
	manifest          *manifest.Manifest
	plan              *plan.Plan
	// spoiled are the keys of index pages that were left out, or do not follow what is before them.
	spoiled []string
	// kept is what the cut leaves of the plan's last file.
	kept plan.Kept
	// login is the account of the running mysqld.
	login Login
}

// Open reads the stores and plans. The error is a *Refusal (errors.As) for what can never succeed; others may pass. Nothing
// is written but Scratch, which holds the file in which the target lies.
func Open(ctx context.Context, cfg Config) (*Restore, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r := &Restore{cfg: cfg}
	err := r.open(ctx)
	if err == nil {
		return r, nil
	}
	return nil, errors.Join(r.final(err), r.Close())
}

func (r *Restore) open(ctx context.Context) error {
	r.report("looking for the backup")
	if err := r.begin(ctx); err != nil {
		return err
	}
	if err := r.choose(ctx); err != nil {
		return err
	}
	if err := r.fits(); err != nil {
		return err
	}
	return r.present(ctx)
}

// begin opens the stores and makes the scratch directory.
func (r *Restore) begin(ctx context.Context) error {
	source := &r.cfg.Source
	if !manifest.ValidCluster(source.Cluster) {
		return refuse("the cluster to restore from is not named: %q", source.Cluster.Root())
	}
	if source.Backup != "" && !manifest.ValidID(source.Backup) {
		return refuse("%q is not the id of a backup", source.Backup)
	}
	var err error
	if r.backups, err = store.Open(ctx, source.Store); err != nil {
		return fmt.Errorf("opening the store of the backup: %w", err)
	}
	archive := source.Store
	if source.Archive != nil {
		archive = *source.Archive
	}
	if r.archives, err = store.Open(ctx, archive); err != nil {
		return fmt.Errorf("opening the store of the archive: %w", err)
	}
	if err := errors.Join(os.RemoveAll(r.cfg.Scratch), os.Mkdir(r.cfg.Scratch, 0o750)); err != nil {
		return fmt.Errorf("making the scratch directory: %w", err)
	}
	return nil
}

// Close closes the stores and removes the scratch directory.
func (r *Restore) Close() error {
	err := os.RemoveAll(r.cfg.Scratch)
	for _, bucket := range []*store.Bucket{r.backups, r.archives} {
		if bucket != nil {
			err = errors.Join(err, bucket.Close())
		}
	}
	return err
}

// Manifest of the backup that is restored. It must not be changed.
func (r *Restore) Manifest() *manifest.Manifest { return r.manifest }

// Expected is what the data will have executed.
func (r *Restore) Expected() gtid.Set {
	whole := r.plan.Backup.GTIDs
	for n, file := range r.plan.Files {
		whole = whole.Union(r.contents(n, file))
	}
	return whole
}

// contents are the transactions of a file of the plan, without what is cut off.
func (r *Restore) contents(n int, file plan.File) gtid.Set {
	if r.plan.Cut.Kind != plan.CutNone && n == len(r.plan.Files)-1 {
		return r.kept.GTIDs
	}
	var whole gtid.Set
	for _, segment := range file.Segments {
		set, err := gtid.Parse(segment.GTIDs)
		if err != nil {
			panic(fmt.Sprintf("a plan with a set that was not checked: %v", err))
		}
		whole = whole.Union(set)
	}
	return whole
}

func (r *Restore) report(stage string) {
	if r.cfg.Report != nil {
		r.cfg.Report(Progress{Stage: stage})
	}
}

// result describes what was restored.
func (r *Restore) result() Result {
	result := Result{
		Backup: r.manifest.ID, GTIDExecuted: r.Expected().String(), RecoveredUpTo: r.manifest.ConsistentAt, Missing: r.plan.Missing,
	}
	result.Transactions = r.Expected().Subtract(r.plan.Backup.GTIDs).Count()
	switch {
	case !r.cfg.Source.Target.Time.IsZero():
		result.RecoveredUpTo = r.cfg.Source.Target.Time
	case r.plan.Cut.Kind != plan.CutNone && r.kept.Last.After(result.RecoveredUpTo):
		result.RecoveredUpTo = r.kept.Last
	case r.plan.Cut.Kind == plan.CutNone && r.plan.CoveredUpTo.After(result.RecoveredUpTo):
		result.RecoveredUpTo = r.plan.CoveredUpTo
	}
	return result
}
