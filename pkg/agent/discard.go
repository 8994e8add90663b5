// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

const (
	// discardedPrefix begins the names of data directories that are being removed.
	discardedPrefix = "discarded-"
	// maxKeptLogs bounds the binary logs that are put into quarantine, the newest.
	maxKeptLogs = 20
)

// discard empties the volume of an instance that no record counts on. The promise stays: it is the volume's.
func (in *instance) discard(ctx context.Context, req *api.DiscardRequest) (api.Reply, error) {
	if err := in.admitBelow(&req.Envelope, &req.Record); err != nil {
		return api.Reply{}, err
	}
	executed, err := gtid.Parse(req.Executed)
	if err != nil || executed.Empty() {
		return api.Reply{}, refuse(api.ErrorInvalid, "the history of the primary is %q: %v", req.Executed, err)
	}
	d := in.snapshot()
	if admission.Votes(&req.Record, d.Incarnation) {
		return api.Reply{}, refuse(api.ErrorPrecondition, "the record names this incarnation")
	}
	in.agent.mu.Lock()
	volume, private := in.volume, in.process.Running && in.serverStartLocked() == ""
	in.agent.mu.Unlock()
	switch {
	case volume != api.VolumeReady:
		return api.Reply{}, refuse(api.ErrorPrecondition, "the volume is %s", volume)
	case private:
		return api.Reply{}, refuse(api.ErrorPrecondition, "a private mysqld is running")
	}
	if start := in.serverStart(); start != "" {
		if err := in.sup.Kill(ctx, start); err != nil {
			return api.Reply{}, refuse(api.ErrorUnavailable, "mysqld could not be killed: %v", err)
		}
		latest, _ := in.sup.State()
		if err := in.observe(latest); err != nil {
			return api.Reply{}, err
		}
	}
	entry, err := in.keepBeyond(executed, d)
	if err != nil {
		return api.Reply{}, err
	}
	if err := in.empty(ctx, entry); err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// keepBeyond puts the binary logs that may hold more than the history into quarantine and returns the entry, "" for none.
func (in *instance) keepBeyond(executed gtid.Set, d state.Durable) (string, error) {
	files, err := in.cfg.logFiles(mycnf.LogBin)
	if err != nil {
		return "", err
	}
	first := len(files)
	for first > 0 && first > len(files)-maxKeptLogs {
		// Only the last file's own content is unknown here; that of the others is told by the one behind.
		if first < len(files) && executed.Contains(previousOf(files[first])) {
			break
		}
		first--
	}
	if first == len(files) {
		return "", nil
	}
	about := quarantined{Reason: "binary logs of data that were discarded", GTIDs: d.Diverged, Epoch: d.PromisedEpoch}
	return in.cfg.keep("discard", about, files[first:])
}

// previousOf is what the files before a binary log hold, as far as it can be read: what cannot is not known to be in any
// history, and is found in none.
func previousOf(path string) gtid.Set {
	unknown, _ := gtid.Parse("00000000-0000-0000-0000-000000000000:1") // never fails
	file, err := os.Open(path)
	if err != nil {
		return unknown
	}
	defer func() { _ = file.Close() }() // only read
	log, err := binlog.NewReader(file)
	if err != nil {
		return unknown
	}
	return log.Previous()
}

// empty takes the data directory away: first by its name, so that what is left of it after a crash is never taken for
// data, then in the background.
func (in *instance) empty(ctx context.Context, entry string) error {
	aside := filepath.Join(in.cfg.DataRoot, discardedPrefix+newID())
	if err := os.Rename(in.cfg.dataDir(), aside); err != nil {
		return fmt.Errorf("putting the data aside: %w", err)
	}
	if err := syncPath(in.cfg.DataRoot); err != nil {
		return fmt.Errorf("putting the data aside: %w", err)
	}
	if err := os.Remove(in.cfg.own(fileIntent)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting a rewind: %w", err)
	}
	in.change(func() { in.volume, in.task, in.marker = api.VolumeEmpty, nil, nil })
	klog.FromContext(ctx).Info("Discarded the data", "kept", entry)
	in.work.Go(in.removeDiscarded)
	return in.save(func(d *state.Durable) {
		before := *d
		*d = state.Durable{
			Incarnation: newID(), PromisedEpoch: before.PromisedEpoch, PromisedClaim: before.PromisedClaim,
			Record: before.Record, Counter: before.Counter, Diverged: before.Diverged, DivergedKept: entry,
		}
	})
}

// removeDiscarded removes data directories that were put aside.
func (in *instance) removeDiscarded() {
	dirs, err := filepath.Glob(filepath.Join(in.cfg.DataRoot, discardedPrefix+"*"))
	for _, dir := range dirs {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		klog.FromContext(in.ctx).Error(err, "Removing discarded data failed")
	}
}
