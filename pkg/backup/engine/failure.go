// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"syscall"

	"github.com/moco-mysql/moco/pkg/backup/store"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// failure is an error with the reason for programs.
type failure struct {
	reason wire.JobReason
	error
}

// Unwrap lets errors.Is and errors.As see the cause.
func (f *failure) Unwrap() error { return f.error }

// fail gives err a reason; nil stays nil. The innermost reason counts.
func fail(reason wire.JobReason, err error) error {
	if err == nil {
		return nil
	}
	return &failure{reason, err}
}

// storeErrors are what pkg/backup/store returns.
var storeErrors = []error{
	store.ErrNotFound, store.ErrExists, store.ErrDenied, store.ErrUnavailable, store.ErrFull, store.ErrInvalid, store.ErrTooLarge,
}

// reasonOf finds the reason of an error. A job that was told to stop was interrupted, whatever it then ran into. A full
// volume is that, whoever noticed it.
func reasonOf(ctx context.Context, err error) wire.JobReason {
	if ctx.Err() != nil {
		return wire.ReasonInterrupted
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return wire.ReasonSpace
	}
	reason := wire.ReasonInternal
	for rest := err; ; {
		var f *failure
		if !errors.As(rest, &f) {
			break
		}
		reason, rest = f.reason, f.error
	}
	if reason != wire.ReasonInternal {
		return reason
	}
	for _, known := range storeErrors {
		if errors.Is(err, known) {
			return wire.ReasonStore
		}
	}
	return reason
}
