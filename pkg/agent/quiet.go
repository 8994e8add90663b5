// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// quietStep and quietFloor: for how long a source was not heard is shown in such steps, and not at all below the floor.
	// Sources send a heartbeat each second, so the floor is more than one of them.
	quietStep  = 250 * time.Millisecond
	quietFloor = 1250 * time.Millisecond
	// quietAttention is how long a quiet channel is looked at more often. Whoever decides something on it has done so then.
	quietAttention = 10 * time.Second
)

// quiet remembers when a replica last heard its source. The zero value is that of a receiver that does not run.
type quiet struct {
	// source, receiver and contact as last seen.
	source, receiver, contact string
	// since is when the source was last seen to be heard, or the receiver to have been started; zero when it does not run.
	since time.Time
}

// seen takes a channel in as it was at the time now; nil for none. Only a connected receiver hears anything; one that is
// connecting counts on. To get connected is to be answered.
func (q quiet) seen(now time.Time, c *mysql.Channel) quiet {
	if c == nil || c.Receiver == "No" {
		return quiet{}
	}
	next := quiet{source: c.Source(), receiver: c.Receiver, contact: c.Contact, since: q.since}
	connected := c.Receiver == "Yes"
	started := q.since.IsZero() || q.source != next.source
	if started || connected && (q.receiver != "Yes" || q.contact != c.Contact) {
		next.since = now
	}
	return next
}

// millis is how long the source was not heard, as it is shown.
func (q quiet) millis(now time.Time) int64 {
	if q.since.IsZero() {
		return 0
	}
	if silent := now.Sub(q.since); silent >= quietFloor {
		return silent.Truncate(quietStep).Milliseconds()
	}
	return 0
}

// wait shortens the wait for the next look so that silence is seen soon after it begins to count.
func (q quiet) wait(now time.Time, otherwise time.Duration) time.Duration {
	silent := now.Sub(q.since)
	if q.since.IsZero() || silent > quietAttention {
		return otherwise
	}
	return min(otherwise, max(quietStep, quietFloor-silent))
}
