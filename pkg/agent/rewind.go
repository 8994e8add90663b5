// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// fileIntent holds the intent of a rewind that has begun. mysqld is not started as long as it is there.
const fileIntent = "rewind.json"

// intent is all that a rewind needs to know, so that another agent process can end it.
type intent struct {
	quarantined
	// Size is the length of the file before the cut, Entry the place in the quarantine.
	Size  int64  `json:"size"`
	Entry string `json:"entry"`
}

// Reasons why an instance has no vote.
const (
	unvouchedRewound = "it was rewound to the history of the open primary"
	unvouchedJudged  = "it led and its binary log could not be rewound"
	unvouchedBoot    = "its host was restarted and may have lost a part of the relay log"
	unvouchedRelay   = "its relay log was dropped: it held transactions that the open primary does not have"
	unvouchedShrunk  = "its relay log lost transactions when the source was changed"
)

// rewind cuts off what the tail holds beyond the history. mysqld is down and rolls back what it finds prepared and not in
// its log, when it starts.
func (in *instance) rewind(ctx context.Context, found tail, epoch int64) error {
	entry, err := in.cfg.nextEntry("rewind")
	if err != nil {
		return err
	}
	begun := intent{
		quarantined: quarantined{
			Reason: "cut off the binary log: never acknowledged", GTIDs: found.extra.String(), Epoch: epoch,
			File: filepath.Base(found.file), Offset: found.cut,
		},
		Size: found.size, Entry: entry,
	}
	text, err := json.Marshal(begun)
	if err != nil {
		return fmt.Errorf("encoding the intent of a rewind: %w", err)
	}
	if err := replaceFile(in.cfg.own(fileIntent), text); err != nil {
		return fmt.Errorf("writing the intent of a rewind: %w", err)
	}
	return in.resumeRewind(ctx)
}

// resumeRewind ends a rewind that has begun, if there is one. Every step may have been done before.
func (in *instance) resumeRewind(ctx context.Context) error {
	text, err := os.ReadFile(in.cfg.own(fileIntent))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var begun intent
	if err == nil {
		err = json.Unmarshal(text, &begun)
	}
	if err != nil {
		return fmt.Errorf("reading the intent of a rewind: %w", err)
	}
	switch err := in.cfg.cut(begun); {
	case errors.Is(err, unix.ENOSPC):
		return in.abandonRewind(ctx, begun)
	case err != nil:
		return err
	}
	err = os.Remove(filepath.Join(in.cfg.dataDir(), fileAuto))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the server UUID: %w", err)
	}
	if err := syncPath(in.cfg.dataDir()); err != nil {
		return fmt.Errorf("flushing the data directory: %w", err)
	}
	err = in.save(func(d *state.Durable) {
		loseVote(d, unvouchedRewound)
		judged(d)
		d.Rewound, d.ServerSeed = shorten(begun.GTIDs), newID()
	})
	if err != nil {
		return err
	}
	if err := os.Remove(in.cfg.own(fileIntent)); err != nil {
		return fmt.Errorf("ending a rewind: %w", err)
	}
	klog.FromContext(ctx).Info("Rewound", "gtid", shorten(begun.GTIDs), "epoch", begun.Epoch, "file", begun.File, "bytes", begun.Size-begun.Offset)
	return syncPath(in.cfg.ownDir())
}

// abandonRewind gives up a rewind whose tail there is no room to keep: nothing is cut off yet, mysqld recovers all of it,
// and the instance is judged when it runs.
func (in *instance) abandonRewind(ctx context.Context, begun intent) error {
	klog.FromContext(ctx).Info("There is no room to keep what a rewind cuts off", "file", begun.File, "bytes", begun.Size-begun.Offset)
	if err := errors.Join(os.RemoveAll(begun.Entry), os.Remove(in.cfg.own(fileIntent)), syncPath(in.cfg.ownDir())); err != nil {
		return fmt.Errorf("giving up a rewind: %w", err)
	}
	return in.save(func(d *state.Durable) {
		loseVote(d, unvouchedJudged)
		judged(d)
	})
}

// cut copies the tail into quarantine and truncates the file. There is no error for want of room once it is cut.
func (c *Config) cut(begun intent) error {
	path := filepath.Join(c.dataDir(), begun.File)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("looking at the binary log to rewind: %w", err)
	}
	switch info.Size() {
	case begun.Offset:
		return nil // the tail was flushed before it was cut off
	case begun.Size:
	default:
		return fmt.Errorf("the binary log to rewind has %d bytes, neither %d nor %d", info.Size(), begun.Size, begun.Offset)
	}
	if err := c.beginEntry(begun.Entry, begun.quarantined); err != nil {
		return err
	}
	if err := keepTail(path, begun.Offset, filepath.Join(begun.Entry, begun.File+".tail")); err != nil {
		return fmt.Errorf("copying the tail into quarantine: %w", err)
	}
	if err := c.endEntry(begun.Entry); err != nil {
		return err
	}
	if err := os.Truncate(path, begun.Offset); err != nil {
		return fmt.Errorf("cutting the tail off: %w", err)
	}
	if err := syncPath(path); err != nil {
		return fmt.Errorf("flushing the cut: %w", err)
	}
	return nil
}

// maxNoted bounds a GTID set that is kept in the durable state, in bytes.
const maxNoted = 2000

// shorten bounds a set for the durable state. What is left can be parsed, and is empty only if the set is.
func shorten(text string) string {
	set, err := gtid.Parse(text)
	if err != nil || len(text) <= maxNoted {
		return text
	}
	short := ""
	for _, source := range set.Sources() {
		name := source.UUID
		if source.Tag != "" {
			name += ":" + source.Tag
		}
		for _, interval := range set.Intervals(source) {
			next := strings.TrimPrefix(short+","+name+":"+interval.String(), ",")
			if len(next) > maxNoted {
				return short
			}
			short = next
		}
	}
	return short
}
