// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/document"
	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/restore"
	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// damages are what stored bytes are that are not those that were written.
var damages = []error{document.ErrDamaged, manifest.ErrInvalid, archive.ErrInvalid, archive.ErrChain, seal.ErrDamaged}

// damaged says whether an error is about stored bytes.
func damaged(err error) bool {
	return slices.ContainsFunc(damages, func(known error) bool { return errors.Is(err, known) })
}

// verify restores a backup for trial, as the agent would: it compares what the backup holds with what was recorded when it
// was made, replays the archive and looks through every table.
func (j *job) verify(ctx context.Context) error {
	source := *j.in.Restore
	if source.Backup == "" {
		source.Backup = j.in.Backup
	}
	if !manifest.ValidID(source.Backup) || !manifest.ValidCluster(source.Cluster) {
		return fail(wire.ReasonRefused, errors.New("it is not said which backup is to be restored"))
	}
	if err := j.prepare(); err != nil {
		return err
	}
	version, err := j.version(ctx)
	if err != nil {
		return err
	}
	r, err := restore.Open(ctx, restore.Config{
		Source: source, Version: version, MyCnf: j.in.MyCnf, Dir: j.cfg.work("data"), Scratch: j.cfg.work("fetched"), Report: j.mirror,
	})
	if err != nil {
		return trialError(err)
	}
	defer func() { _ = r.Close() }()
	return trialError(j.try(ctx, r, &source))
}

// trialError gives the failures of a restore their reasons.
func trialError(err error) error {
	var refused *restore.Refusal
	switch {
	case damaged(err):
		return fail(wire.ReasonCheck, err)
	case errors.As(err, &refused), errors.Is(err, seal.ErrKeys), errors.Is(err, seal.ErrWrongKey):
		return fail(wire.ReasonRefused, err)
	}
	return err
}

// try restores. What the trial itself looks at does not count as time of the restore.
func (j *job) try(ctx context.Context, r *restore.Restore, source *wire.Source) error {
	began := time.Now()
	if err := r.Fetch(ctx); err != nil {
		return j.orFull(err)
	}
	elapsed := time.Since(began)
	if err := j.compare(ctx, source); err != nil {
		return err
	}
	began = time.Now()
	server := &trialServer{job: j}
	defer server.abandon()
	session, done, err := r.Replay(ctx, server)
	if err != nil {
		return j.orFull(err)
	}
	defer session.Close()
	j.result.RestoreSeconds = (elapsed + time.Since(began)).Seconds()
	j.result.ReplayedTransactions, j.result.RecoveredUpTo = done.Transactions, done.RecoveredUpTo
	if set, err := gtid.Parse(done.GTIDExecuted); err == nil {
		j.result.GTIDExecuted = set.Shorten(gtidLimit)
	}
	tables, err := tablesOf(ctx, session)
	if err != nil {
		return err
	}
	j.stage(ctx, "checking every table")
	if err := j.eachTable(ctx, server.running, tables, check); err != nil {
		return fmt.Errorf("checking what was restored: %w", err)
	}
	j.result.Tables = int64(len(tables))
	return whole(source, done)
}

// whole fails a trial of all there is that could not follow the archive to its end: nothing after it can be restored.
func whole(source *wire.Source, done restore.Result) error {
	if !source.Target.Latest || done.Missing == "" {
		return nil
	}
	return fail(wire.ReasonCheck, fmt.Errorf("the archive behind the backup cannot be followed to its end: %s", done.Missing))
}

// compare boots what was fetched and compares it with the manifest, before anything is replayed.
func (j *job) compare(ctx context.Context, source *wire.Source) error {
	one := *j.in
	one.Cluster, one.Backup = source.Cluster, source.Backup
	m, err := (&job{cfg: j.cfg, in: &one, bucket: j.bucket}).findManifest(ctx)
	if err != nil {
		return err
	}
	if m == nil {
		return fail(wire.ReasonRefused, fmt.Errorf("backup %s was deleted", source.Backup))
	}
	j.stage(ctx, "starting mysqld on the backup")
	server, err := j.boot(ctx, j.cfg.work("data"))
	if err != nil {
		return err
	}
	defer server.kill()
	session, err := server.endpoint.Connect(ctx)
	if err != nil {
		return err
	}
	c, err := j.facts(ctx, session)
	session.Close()
	if err != nil {
		return err
	}
	if err := sameGTIDs(m.GTIDExecuted, c.gtids); err != nil {
		return err
	}
	j.stage(ctx, "comparing rows and checksums")
	if err := j.eachTable(ctx, server, c.tables, count); err != nil {
		return fmt.Errorf("comparing what was restored: %w", err)
	}
	if err := differences(m.Tables, c.tables); err != nil {
		return fail(wire.ReasonCheck, err)
	}
	return server.shutdown(ctx)
}

func sameGTIDs(recorded, found string) error {
	set, err := gtid.Parse(found)
	if err != nil {
		return fmt.Errorf("reading what was executed: %w", err)
	}
	if set.String() != recorded {
		return fail(wire.ReasonCheck, fmt.Errorf("the backup has executed %s, recorded was %.300s", set.Shorten(missingLimit), recorded))
	}
	return nil
}

// differences names the first table that is not as it was recorded.
func differences(recorded []manifest.Table, found []*table) error {
	now := map[[2]string]*table{}
	for _, t := range found {
		if t.counted() {
			now[[2]string{t.schema, t.name}] = t
		}
	}
	for _, r := range recorded {
		t := now[[2]string{r.Schema, r.Name}]
		switch {
		case t == nil:
			return fmt.Errorf("table %s.%s is missing", mysql.Identifier(r.Schema), mysql.Identifier(r.Name))
		case t.rows != r.Rows:
			return fmt.Errorf("table %s has %d rows, recorded were %d", t.quoted(), t.rows, r.Rows)
		case r.Checksum != nil && uint64(t.checksum) != *r.Checksum: //nolint:gosec // a sum of 32-bit sums
			return fmt.Errorf("table %s has the checksum %d, recorded was %d", t.quoted(), t.checksum, *r.Checksum)
		}
	}
	if len(now) != len(recorded) {
		return fmt.Errorf("there are %d tables, recorded were %d", len(now), len(recorded))
	}
	return nil
}

// version asks which mysqld this is.
func (j *job) version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, initialiseTimeout)
	defer cancel()
	p, err := launch(j.cfg.Mysqld, []string{"--version"}, nil)
	if err == nil {
		err = p.wait(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("asking mysqld for its version: %w", err)
	}
	return p.output.complaints(), nil
}

// mirror shows the progress of a restore as that of the job.
func (j *job) mirror(p restore.Progress) {
	if j.cfg.Progress.Read(time.Time{}).Stage != p.Stage {
		j.cfg.Progress.begin(p.Stage, j.cfg.Now())
	}
	j.cfg.Progress.set(p.BytesDone, p.BytesTotal)
}

// trialServer runs mysqld for a restore.
type trialServer struct {
	job     *job
	running *private
}

// Start implements restore.Server.
func (s *trialServer) Start(ctx context.Context, dir string, as restore.Login, arguments []string) (*mysql.Session, error) {
	server, err := s.job.startPrivate(ctx, s.job.cfg.arguments(dir, arguments...), as.User, as.Password)
	if err != nil {
		return nil, err
	}
	s.running = server
	return server.endpoint.Connect(ctx)
}

// Stop implements restore.Server.
func (s *trialServer) Stop(ctx context.Context) error {
	if s.running == nil {
		return nil
	}
	return s.running.shutdown(ctx)
}

// abandon ends what is left, whatever happened.
func (s *trialServer) abandon() {
	if s.running != nil {
		s.running.kill()
	}
}
