// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/backup/archiver"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// archivedEvery is from one segment to the next, for each second that the archive may be behind: the rest is for making and
// sending one.
const archivedEvery = 800 * time.Millisecond

// archiveKey says what is archived to where; the archiver begins anew when it changes. The zero value is for nothing.
type archiveKey struct {
	start  string // of mysqld
	epoch  int64
	target [sha256.Size]byte // of the settings
}

// archiving is the archiver at work. Its progress is guarded by agent.mu.
type archiving struct {
	key    archiveKey
	cancel context.CancelFunc
	ended  chan struct{}
	// since is when it began: until it has found out how far the archive is, the lag is counted from there.
	since    time.Time
	progress archiver.Progress
	// behind is the outcome of judged.
	judged judgement
	behind bool
}

// judgement is what was compared: gtid_executed, and a revision of the progress.
type judgement struct {
	executed string
	revision int64
}

// keepArchive archives for as long as the instance is the open primary and has an archive.
func (in *instance) keepArchive() {
	w := archiveWish{in: in}
	var running *archiving
	for {
		key, changed := w.key()
		if running != nil && running.key != key {
			running.cancel()
			<-running.ended
			running = nil
			in.change(func() { in.archiving = nil })
		}
		if running == nil && key != (archiveKey{}) {
			running = in.beginArchiving(key, w.config.Archive)
		}
		select {
		case <-in.ctx.Done():
			return
		case <-changed:
		}
	}
}

// archiveWish says what is to be archived now.
type archiveWish struct {
	in *instance
	// config are the settings of which target is the hash.
	config *settings
	target [sha256.Size]byte
}

// key is what is to be archived, and what announces a change. An instance whose lead was taken, that is being closed or that
// stops archives nothing more.
func (w *archiveWish) key() (archiveKey, <-chan struct{}) {
	in := w.in
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	if in.config != w.config {
		w.config, w.target = in.config, archiveTarget(in.config)
	}
	d, start := in.durable, in.serverStartLocked()
	open := start != "" && d.OpenStart == start && d.OpenPrimary && !deposed(d) && d.Record != nil
	if !open || w.config == nil || w.config.Archive == nil || in.closesLocked() || in.stopping {
		return archiveKey{}, in.agent.changed
	}
	return archiveKey{start: start, epoch: d.OpenEpoch, target: w.target}, in.agent.changed
}

// archiveTarget is a hash of how to archive.
func archiveTarget(s *settings) [sha256.Size]byte {
	if s == nil || s.Archive == nil {
		return [sha256.Size]byte{}
	}
	text, _ := json.Marshal(s.Archive) // of strings and numbers; never fails
	return sha256.Sum256(text)
}

func (in *instance) beginArchiving(key archiveKey, target *wire.Archive) *archiving {
	ctx, cancel := context.WithCancel(in.ctx)
	a := &archiving{key: key, cancel: cancel, ended: make(chan struct{}), since: time.Now()}
	in.change(func() { in.archiving = a })
	position := &logPosition{in: in, start: key.start}
	in.work.Go(func() {
		defer close(a.ended)
		defer cancel()
		defer func() { in.drop(position.session) }()
		archiver.Keep(ctx, archiver.Config{
			Store: target.Store, Cluster: target.Cluster, Recipients: target.Recipients,
			Interval: time.Duration(target.IntervalSeconds) * archivedEvery,
			Epoch:    key.epoch, Files: in.cfg.binlogs, Position: position.read, Now: time.Now, NewID: newID,
			Publish: func(p archiver.Progress) { in.showArchive(a, p) },
		})
	})
	klog.FromContext(in.ctx).Info("Archiving", "epoch", key.epoch)
	return a
}

// showArchive takes progress over. An archive that is up to date all the time is no news: nobody is woken for it.
func (in *instance) showArchive(a *archiving, next archiver.Progress) {
	in.agent.mu.Lock()
	last := a.progress
	news := last.Error != next.Error || !last.RecoverableUpTo.Equal(next.RecoverableUpTo) || !last.GapAt.Equal(next.GapAt) ||
		!last.Archived.Equal(next.Archived)
	if !news {
		a.progress = next
	}
	in.agent.mu.Unlock()
	if news {
		in.change(func() { a.progress = next })
	}
}

// logPosition reads how far the binary log is, in a session of its own.
type logPosition struct {
	in *instance
	// start of the mysqld that is archived.
	start   string
	session *mysql.Session
}

// read implements archiver.Config.Position. mysqld takes the lock under which it writes transactions to the log, so whatever
// was given a time of commit before is in front of the position. There is no deadline: mysqld does not answer while it waits
// for acknowledgements to begin a new file, could not be called off, and would let every further session hang as well.
func (p *logPosition) read(ctx context.Context) (archiver.Position, error) {
	var err error
	if p.session == nil {
		if p.session, err = p.in.connect(ctx); err != nil {
			return archiver.Position{}, err
		}
	}
	found, err := readPosition(ctx, p.session)
	if err == nil {
		found.Doubtful, err = lacksAckers(ctx, p.session, p.in.snapshot().AckCount)
	}
	if err == nil && p.in.serverStart() != p.start {
		err = errors.New("reading the position in the binary log: mysqld was started anew") // and may have what nobody acknowledged
	}
	if err != nil {
		p.in.drop(p.session)
		p.session = nil
	}
	return found, err
}

// lacksAckers says whether fewer than k replicas are connected: they leave a primary when they are fenced for another epoch.
func lacksAckers(ctx context.Context, session *mysql.Session, k int32) (bool, error) {
	if k == 0 {
		return false, nil
	}
	row, err := session.Pairs(ctx, "SHOW GLOBAL STATUS LIKE 'Rpl\\_semi\\_sync\\_source\\_clients'")
	if err != nil {
		return false, fmt.Errorf("asking for the replicas that acknowledge: %w", err)
	}
	connected, err := strconv.ParseInt(row["Rpl_semi_sync_source_clients"], 10, 32)
	if err != nil {
		return false, fmt.Errorf("reading the number of replicas that acknowledge: %w", err)
	}
	return connected < int64(k), nil
}

func readPosition(ctx context.Context, session *mysql.Session) (archiver.Position, error) {
	row, err := session.Record(ctx, "SHOW BINARY LOG STATUS")
	if err != nil {
		return archiver.Position{}, fmt.Errorf("asking for the position in the binary log: %w", err)
	}
	found := archiver.Position{File: row["File"]}
	if found.Offset, err = strconv.ParseInt(row["Position"], 10, 64); err != nil {
		return archiver.Position{}, fmt.Errorf("reading the position in the binary log: %w", err)
	}
	if found.Executed, err = gtid.Parse(row["Executed_Gtid_Set"]); err != nil {
		return archiver.Position{}, fmt.Errorf("reading gtid_executed: %w", err)
	}
	purged := ""
	if err := session.Row(ctx, []any{&purged, &found.ServerUUID}, "SELECT @@GLOBAL.gtid_purged, @@GLOBAL.server_uuid"); err != nil {
		return archiver.Position{}, fmt.Errorf("reading gtid_purged: %w", err)
	}
	if found.Purged, err = gtid.Parse(purged); err != nil {
		return archiver.Position{}, fmt.Errorf("reading gtid_purged: %w", err)
	}
	return found, nil
}

// describe is how far the archive is; agent.mu is held.
func (a *archiving) describe(now time.Time, server *api.Server) *api.Archive {
	if a == nil {
		return nil
	}
	p := &a.progress
	shown := &api.Archive{
		GTIDs: p.Archived.String(), RecoverableUpTo: p.RecoverableUpTo, Gap: p.Gap.String(), GapAt: p.GapAt, Error: p.Error,
	}
	if a.isBehind(server) {
		since := p.CaughtUp
		if since.IsZero() {
			since = a.since
		}
		shown.LagMillis = max(0, now.Sub(since).Milliseconds())
	}
	return shown
}

// isBehind says whether something that was executed is not archived. While mysqld does not say what was, it is what it was.
func (a *archiving) isBehind(server *api.Server) bool {
	if server == nil {
		return a.behind
	}
	if now := (judgement{server.GTIDExecuted, a.progress.Revision}); a.judged != now {
		set, err := gtid.Parse(server.GTIDExecuted)
		a.judged, a.behind = now, err == nil && !a.progress.Archived.Contains(set)
	}
	return a.behind
}
