// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"sync"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// Progress is how far a Job is. It may be read at any time, from any goroutine. The zero value is ready.
type Progress struct {
	mu    sync.Mutex
	now   wire.JobProgress
	since time.Time
}

// Read returns the progress as of the given time.
func (p *Progress) Read(now time.Time) wire.JobProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	read := p.now
	if !p.since.IsZero() {
		read.StageSeconds = max(0, now.Sub(p.since).Seconds())
	}
	return read
}

// begin begins a stage, with nothing done of an unknown total.
func (p *Progress) begin(stage string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Stage, p.now.BytesDone, p.now.BytesTotal, p.since = stage, 0, 0, now
}

// set says how much of the stage is done.
func (p *Progress) set(done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.BytesDone, p.now.BytesTotal = done, total
}

// add says that more is done, or less when n is negative: a pack that is sent again counts once.
func (p *Progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.BytesDone += n
}

// from names the donor.
func (p *Progress) from(donor string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Donor = donor
}
