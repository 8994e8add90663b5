// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"context"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Position is how far a running mysqld is.
type Position struct {
	// File is the name of the binary log that is being written and Offset how much of it was. Every transaction that was given
	// its time of commit before the position was asked for is in front of it.
	File   string
	Offset int64
	// Executed is gtid_executed, no newer than Offset; Purged is gtid_purged.
	Executed, Purged gtid.Set
	ServerUUID       string
	// Doubtful: asked for last, it says that so few replicas are connected that mysqld could commit nothing. Then another primary
	// may have taken its place without its knowing, and may have committed more than was executed here.
	Doubtful bool
}

// Config is what an archiver needs.
type Config struct {
	Store      wire.Store
	Cluster    wire.ClusterKey
	Recipients string
	// Interval is the time from one segment to the next, MinInterval to MaxInterval.
	Interval time.Duration
	// Epoch in which the instance is the open primary.
	Epoch int64
	// Files lists the paths of the binary log, the oldest first.
	Files func() ([]string, error)
	// Position asks mysqld how far it is.
	Position func(context.Context) (Position, error)
	// Now is the clock; NewID makes the random id of a stream.
	Now   func() time.Time
	NewID func() string
	// SegmentBytes is the size beyond which a segment takes no more transactions, 0 for DefaultSegmentBytes. A larger transaction is a
	// segment of its own.
	SegmentBytes int64
	// Publish takes every change of the progress. It must not wait.
	Publish func(Progress)
}

const (
	// MinInterval and MaxInterval bound Config.Interval.
	MinInterval = 500 * time.Millisecond
	MaxInterval = 300 * time.Second
	// DefaultSegmentBytes bounds what a restore fetches at once, and what is sent again after an error.
	DefaultSegmentBytes = 64 << 20
	// heartbeat is the longest time between two pages while nothing is written: so far behind the present is what an idle
	// cluster can be restored to.
	heartbeat = 30 * time.Second
	// minPause and maxPause bound the wait after an error.
	minPause = time.Second
	maxPause = 30 * time.Second
)

// Progress is how far the archive is. It is not changed once it is published.
type Progress struct {
	// Revision grows with every change.
	Revision int64
	// Archived are the transactions that are in the store, or that were before the stream.
	Archived gtid.Set
	// RecoverableUpTo: a restore can reach every moment from a backup up to then. Zero before the first page.
	RecoverableUpTo time.Time
	// CaughtUp: everything that committed by then is archived, whether a page says so yet or not.
	CaughtUp time.Time
	// Gap are the transactions missing in the archive, and GapAt when that was found. A backup made later holds them.
	Gap   gtid.Set
	GapAt time.Time
	// Error says what is wrong with the store or the binary log, "" when nothing is.
	Error string
}

// Keep archives until the context ends.
func Keep(ctx context.Context, cfg Config) {
	cfg.Interval = max(MinInterval, min(cfg.Interval, MaxInterval))
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = DefaultSegmentBytes
	}
	k := &keeper{cfg: cfg}
	pause := minPause
	for {
		before := k.progress.Archived
		err := k.run(ctx)
		if ctx.Err() != nil {
			return
		}
		klog.FromContext(ctx).Info("Archiving failed, trying again", "err", err)
		k.publish(func(p *Progress) { p.Error = err.Error() })
		if !before.Equal(k.progress.Archived) {
			pause = minPause
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// keeper is an archiver with the progress of all its runs.
type keeper struct {
	cfg      Config
	progress Progress
}

func (k *keeper) publish(alter func(*Progress)) {
	alter(&k.progress)
	k.progress.Revision++
	k.cfg.Publish(k.progress)
}

// sleep waits, and says whether the context is still alive.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
