// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const (
	// confirmRetry is the pause between two questions to the primary.
	confirmRetry = time.Second
	// mysqlTime is how MySQL prints a DATETIME(6).
	mysqlTime = "2006-01-02 15:04:05.999999"
	// missingLimit is how much of a GTID set goes into a message.
	missingLimit = 300
)

// opinion is what the primary says of a copy.
type opinion struct {
	// clock of the primary.
	clock time.Time
	// open: it takes writes. missing are the transactions of the copy that it does not have.
	open    bool
	missing string
}

// askPrimary asks whoever the Service of the primary leads to.
func (j *job) askPrimary(ctx context.Context, gtids string) (opinion, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	session, err := j.connect(ctx, j.in.Primary)
	if err != nil {
		return opinion{}, err
	}
	defer session.Close()
	var o opinion
	var closed bool
	var clock string
	// The clock first: what is in gtid_executed later may have committed after it, what is in the copy has before.
	err = session.Row(ctx, []any{&clock, &closed, &o.missing},
		"SELECT UTC_TIMESTAMP(6), @@GLOBAL.super_read_only, GTID_SUBTRACT(?, @@GLOBAL.gtid_executed)", gtids)
	if err != nil {
		return opinion{}, fmt.Errorf("asking the primary: %w", err)
	}
	o.open, o.missing = !closed, strings.ReplaceAll(o.missing, "\n", "")
	if o.clock, err = time.Parse(mysqlTime, clock); err != nil {
		return opinion{}, fmt.Errorf("reading the primary's clock: %w", err)
	}
	return o, nil
}

// moment is a time before which everything in a fresh copy had committed: now, by the clocks of this Pod and of the primary.
// Without an answer of the primary it is zero, and the moment of the confirmation counts.
func (j *job) moment(ctx context.Context) time.Time {
	now := j.cfg.Now()
	o, err := j.askPrimary(ctx, "")
	if err != nil || !o.open {
		klog.FromContext(ctx).Info("The primary does not tell the time yet", "err", err)
		return time.Time{}
	}
	return later(now, o.clock)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a.UTC()
	}
	return b.UTC()
}

// confirm waits until the open primary has all that the copy holds, and returns the primary's clock. A replica may have
// transactions that a failover cuts off: they were never acknowledged, and such a copy must never become a backup.
func (j *job) confirm(ctx context.Context, gtids string) (time.Time, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, j.cfg.Patience, errUnconfirmed)
	defer cancel()
	retry := time.NewTicker(confirmRetry)
	defer retry.Stop()
	var last opinion // an answer says more than the failure to get another one
	failed := errUnconfirmed
	for {
		o, err := j.askPrimary(ctx, gtids)
		switch {
		case err == nil && o.open && o.missing == "":
			return later(j.cfg.Now(), o.clock), nil
		case err == nil:
			last, failed = o, nil
		case failed != nil:
			failed = err
		}
		select {
		case <-retry.C:
			continue
		case <-ctx.Done():
		}
		if !errors.Is(context.Cause(ctx), errUnconfirmed) {
			return time.Time{}, ctx.Err()
		}
		return time.Time{}, fail(wire.ReasonAhead, unconfirmed(last, failed))
	}
}

var errUnconfirmed = errors.New("the primary took too long")

// unconfirmed says in a sentence what the primary did not confirm.
func unconfirmed(o opinion, err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("the primary could not be asked whether it has all that was copied: %w", err)
	case !o.open:
		return errors.New("there is no primary that takes writes, so nobody can say whether all that was copied is part of the cluster's history")
	}
	missing := o.missing
	if len(missing) > missingLimit {
		missing = missing[:missingLimit] + "…"
	}
	return fmt.Errorf("the primary does not have transactions that were copied: %s", missing)
}
