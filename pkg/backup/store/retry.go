// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 8 * time.Second
	// slowest is the rate at which a request may be sent before it counts as stuck.
	slowestBytesPerSecond = 64 * kib
)

// try does a request of the given length until it succeeds, fails for good, or was tried often enough.
func (b *Bucket) try(ctx context.Context, length int, request func(context.Context) error) error {
	timeout := b.options.RequestTimeout + time.Duration(length/slowestBytesPerSecond)*time.Second
	for attempt := 1; ; attempt++ {
		err := once(ctx, timeout, request)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !mayHelp(err) || attempt >= b.options.Attempts {
			return err
		}
		if err := b.pause(ctx, attempt); err != nil {
			return err
		}
	}
}

func once(ctx context.Context, timeout time.Duration, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return request(ctx)
}

// mayHelp reports whether a request that failed may succeed when done again.
func mayHelp(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.again
}

// pause waits after a failed attempt, the first is 1: twice as long as after the one before, and a random part less, lest
// all who were refused come again at once.
func (b *Bucket) pause(ctx context.Context, attempt int) error {
	longest := min(firstPause<<min(attempt, 16), maxPause)
	timer := time.NewTimer(longest/2 + rand.N(longest/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
