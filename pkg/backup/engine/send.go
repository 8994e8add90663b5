// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/store"
)

const (
	// sendAttempts is how often an object is sent when the store fails; the store itself tries every request several times.
	sendAttempts = 5
	// sendPause is the first pause between two attempts; each is twice the one before.
	sendPause = 2 * time.Second
)

// producer writes the content of an object; what it writes must be the same each time. moved is told how much is done.
type producer func(ctx context.Context, w io.Writer, moved func(int64)) error

// sent is an object as it is in the store.
type sent struct{ raw, stored seal.Sum }

// send seals an object and streams it to the store, again when the store fails: what it is made of does not change.
func (j *job) send(ctx context.Context, key string, produce producer) (sent, error) {
	pause := sendPause
	for attempt := 1; ; attempt++ {
		done := int64(0)
		s, err := j.stream(ctx, key, func(ctx context.Context, w io.Writer, _ func(int64)) error {
			return produce(ctx, w, func(n int64) {
				done += n
				j.cfg.Progress.add(n)
			})
		})
		if err == nil || attempt == sendAttempts || ctx.Err() != nil || !errors.Is(err, store.ErrUnavailable) {
			return s, err
		}
		j.cfg.Progress.add(-done)
		klog.FromContext(ctx).Info("Object is sent again", "key", key, "attempt", attempt+1, "err", err)
		if err := rest(ctx, pause); err != nil {
			return s, err
		}
		pause *= 2
	}
}

// rest waits, or less if ctx ends.
func rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// stream sends an object once. The producer has ended when it returns.
func (j *job) stream(ctx context.Context, key string, produce producer) (s sent, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pipe, in := io.Pipe()
	produced := make(chan error, 1)
	go func() {
		var err error
		s, err = j.seal(ctx, in, produce)
		_ = in.CloseWithError(err) // nil is the end of the object; an error keeps the store from having it
		produced <- err
	}()
	n, writeErr := j.bucket.Write(ctx, key, pipe)
	cancel()
	_ = pipe.CloseWithError(errAbandoned)
	produceErr := <-produced
	// An error of the producer comes through the pipe and is part of the store's.
	if err := cmp.Or(writeErr, produceErr); err != nil {
		return s, fmt.Errorf("storing %s: %w", key, err)
	}
	if n != s.stored.Bytes {
		return s, fmt.Errorf("storing %s: the store took %d bytes of %d", key, n, s.stored.Bytes)
	}
	return s, nil
}

// seal seals what the producer writes. Encryption writes before there is anything to write, so whoever reads must do so
// already.
func (j *job) seal(ctx context.Context, w io.Writer, produce producer) (sent, error) {
	sealer, err := seal.NewWriter(w, j.in.Recipients)
	if err != nil {
		return sent{}, fmt.Errorf("sealing: %w", err)
	}
	err = produce(ctx, sealer, nil)
	if err := errors.Join(err, sealer.Close()); err != nil {
		return sent{}, err
	}
	return sent{raw: sealer.Raw(), stored: sealer.Stored()}, nil
}

// errAbandoned is what a producer gets when the store takes no more.
var errAbandoned = errors.New("the object is given up")
