// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

const (
	// keptBinlogs is how many of the newest files are never purged, the one that is being written included.
	keptBinlogs = 3
	// keptBinlogAge is how long a file is kept after its last transaction: an instance that was away for less need not be
	// cloned, whatever the coordinator thinks that nobody needs.
	keptBinlogAge = 10 * time.Minute
	// maxPurged bounds how many files one command deletes: each is deleted while mysqld cannot begin a new one.
	maxPurged = 64
	// purgeLockSeconds bounds the wait of a purge for a backup lock that somebody holds.
	purgeLockSeconds = 1
	// binlogInterval is the time between two looks at the files.
	binlogInterval = 10 * time.Second
	// rotateAge is the age at which a file with transactions is ended. A file is purged whole: without it a cluster that
	// writes little would keep for months what is archived.
	rotateAge = time.Hour
)

// binlogFile is a file of the binary log.
type binlogFile struct {
	path string
	// previous are the transactions in earlier files; changed is when it was last written.
	previous gtid.Set
	changed  time.Time
}

// binlogHead is what is remembered of a file, as long as it is the same one.
type binlogHead struct {
	inode    uint64
	previous gtid.Set
}

// binlogs are the files of the binary log, the oldest first.
func (c *Config) binlogs() ([]string, error) { return c.logFiles(mycnf.LogBin) }

// listBinlogs reads where the files of the binary log begin. Known holds what was read before, by path, and is brought up
// to date.
func (c *Config) listBinlogs(known map[string]binlogHead) ([]binlogFile, error) {
	paths, err := c.binlogs()
	if err != nil {
		return nil, err
	}
	files := make([]binlogFile, 0, len(paths))
	for _, path := range paths {
		var info unix.Stat_t
		if err := unix.Stat(path, &info); err != nil {
			return nil, fmt.Errorf("looking at %s: %w", filepath.Base(path), err)
		}
		head, found := known[path]
		if !found || head.inode != info.Ino {
			previous, err := readPrevious(path)
			if err != nil {
				return nil, err
			}
			head = binlogHead{inode: info.Ino, previous: previous}
			known[path] = head
		}
		files = append(files, binlogFile{path: path, previous: head.previous, changed: time.Unix(info.Mtim.Unix())})
	}
	for path := range known {
		if !slices.Contains(paths, path) {
			delete(known, path)
		}
	}
	return files, nil
}

func readPrevious(path string) (gtid.Set, error) {
	file, err := os.Open(path)
	if err != nil {
		return gtid.Set{}, err
	}
	defer func() { _ = file.Close() }() // only read
	reader, err := binlog.NewReader(file)
	if err != nil {
		return gtid.Set{}, fmt.Errorf("reading %s: %w", filepath.Base(path), err)
	}
	return reader.Previous(), nil
}

// oldBinlogs returns how many of the oldest files may be purged, as far as their age is concerned.
func oldBinlogs(files []binlogFile, now time.Time) int {
	for n := range max(0, len(files)-keptBinlogs) {
		if now.Sub(files[n].changed) < keptBinlogAge {
			return n
		}
	}
	return max(0, len(files)-keptBinlogs)
}

// dispensable returns how many of the n oldest files hold nothing but transactions of a set.
func dispensable(files []binlogFile, n int, set gtid.Set) int {
	for i := range n {
		if !set.Contains(files[i+1].previous.Subtract(files[i].previous)) {
			return i
		}
	}
	return n
}

// held are the transactions in the n oldest files.
func held(files []binlogFile, n int) gtid.Set {
	if n == 0 {
		return gtid.Set{}
	}
	return files[n].previous.Subtract(files[0].previous)
}

// purge carries out the command of that name. It takes nothing that the archive of an open primary does not have.
func (in *instance) purge(ctx context.Context, req *api.PurgeRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, nil); err != nil {
		return api.Reply{}, err
	}
	set, err := gtid.Parse(req.GTIDs)
	if err != nil {
		return api.Reply{}, refuse(api.ErrorInvalid, "the transactions to purge: %v", err)
	}
	session, err := in.connect(ctx)
	if err != nil {
		return api.Reply{}, err
	}
	defer in.release(session)
	files, err := in.cfg.listBinlogs(map[string]binlogHead{})
	if err != nil {
		return api.Reply{}, unavailable("looking for what to purge", err)
	}
	set = set.Intersect(in.archived(set))
	n := min(maxPurged, dispensable(files, oldBinlogs(files, time.Now()), set))
	if err := purgeFiles(ctx, session, files[:n+min(1, n)]); err != nil {
		return api.Reply{}, unavailable("purging the binary log", err)
	}
	if n > 0 {
		klog.FromContext(ctx).Info("Purged the binary log", "files", n, "gtid", held(files, n).Shorten(maxNoted))
	}
	return in.unchanged(), nil
}

// archived is the part of a set that need not be kept for the archive: what it holds if this instance has one to keep, all
// otherwise.
func (in *instance) archived(set gtid.Set) gtid.Set {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	d, start := in.durable, in.serverStartLocked()
	if in.config == nil || in.config.Archive == nil || d.OpenStart != start || !d.OpenPrimary {
		return set
	}
	if in.archiving == nil {
		return gtid.Set{}
	}
	return in.archiving.progress.Archived
}

// purgeFiles deletes all files but the last, one after the other: mysqld holds a lock meanwhile that it needs to begin a new
// one. mysqld keeps a file by itself that it is sending to a replica, and those behind it. The session is of no more use.
func purgeFiles(ctx context.Context, session *mysql.Session, files []binlogFile) error {
	if len(files) < 2 {
		return nil
	}
	if err := session.Exec(ctx, "SET SESSION lock_wait_timeout=?", purgeLockSeconds); err != nil {
		return err
	}
	for _, next := range files[1:] {
		if err := session.Exec(ctx, "PURGE BINARY LOGS TO ?", filepath.Base(next.path)); err != nil {
			return err
		}
	}
	return nil
}

// keepBinlogs publishes what could be purged and ends files that are old.
func (in *instance) keepBinlogs() {
	known := map[string]binlogHead{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-in.ctx.Done():
			return
		case <-timer.C:
		}
		if err := in.lookAtBinlogs(known); err != nil && in.ctx.Err() == nil {
			klog.FromContext(in.ctx).Info("Looking at the binary log failed, trying again", "err", err)
		}
		timer.Reset(binlogInterval)
	}
}

func (in *instance) lookAtBinlogs(known map[string]binlogHead) error {
	in.agent.mu.Lock()
	start, server := in.serverStartLocked(), in.server
	ready := start != "" && server != nil && !in.stopping && !in.agent.terminating
	open := ready && in.durable.OpenStart == start && !in.closesLocked()
	enough := ready && (!in.durable.OpenPrimary || server.Ackers >= in.durable.AckCount)
	in.agent.mu.Unlock()
	if !ready {
		return nil
	}
	files, err := in.cfg.listBinlogs(known)
	if err != nil || len(files) == 0 {
		return err
	}
	now := time.Now()
	in.showBinlogs(held(files, oldBinlogs(files, now)).String())
	if !open || !enough {
		return nil // a new file is begun when all that waits for an acknowledgement has it: it would hold everybody up
	}
	return in.endOldBinlog(files[len(files)-1], server, now)
}

// showBinlogs publishes what could be purged.
func (in *instance) showBinlogs(set string) {
	in.agent.mu.Lock()
	same := in.binlogGTIDs == set
	in.agent.mu.Unlock()
	if !same {
		in.change(func() { in.binlogGTIDs = set })
	}
}

// endOldBinlog makes mysqld begin a new file if the present one is old and not empty. Nothing of it is logged, so it may be
// done on every instance.
func (in *instance) endOldBinlog(last binlogFile, server *api.Server, now time.Time) error {
	begun, err := begunAt(last.path)
	if err != nil || now.Sub(begun) < rotateAge {
		return err
	}
	executed, err := gtid.Parse(server.GTIDExecuted)
	if err != nil {
		return fmt.Errorf("reading gtid_executed: %w", err)
	}
	purged, err := gtid.Parse(server.GTIDPurged)
	if err != nil {
		return fmt.Errorf("reading gtid_purged: %w", err)
	}
	if executed.Subtract(purged).Subtract(last.previous).Empty() {
		return nil
	}
	session, err := in.connect(in.ctx)
	if err != nil {
		return err
	}
	defer in.release(session)
	// It has no deadline: mysqld could not be called off, and would let every further session hang as well.
	if err := session.Exec(in.ctx, "FLUSH NO_WRITE_TO_BINLOG BINARY LOGS"); err != nil {
		return fmt.Errorf("beginning a new binary log: %w", err)
	}
	klog.FromContext(in.ctx).V(2).Info("Began a new binary log", "after", filepath.Base(last.path))
	return nil
}

// begunAt is when a file was begun: the time of its first event, behind the four bytes with which every file begins.
func begunAt(path string) (time.Time, error) {
	file, err := os.Open(path)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = file.Close() }() // only read
	var seconds [4]byte
	if _, err := file.ReadAt(seconds[:], 4); err != nil {
		return time.Time{}, fmt.Errorf("reading %s: %w", filepath.Base(path), err)
	}
	return time.Unix(int64(binary.LittleEndian.Uint32(seconds[:])), 0), nil
}
