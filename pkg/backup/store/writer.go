// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// abortTimeout bounds how long a write that failed takes to remove what it sent.
	abortTimeout = 30 * time.Second
	// Parts double in length every growth parts behind the first equal ones, to this maximum.
	equalParts, growth, maxPartBytes = 5000, 1000, 128 * mib
	maxParts                         = 10000
)

// Write writes all that r has, and returns how many bytes that was. It replaces an object that is there. An error of r, or
// the end of ctx, ends it with that error and without an object; r must end when ctx does, for Write waits for it.
//
// When the very last answer of the store is lost and stays lost, Write reports ErrUnavailable although the object may be
// there, whole.
func (b *Bucket) Write(ctx context.Context, key string, r io.Reader) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	w := &write{bucket: b, key: b.prefix + key, source: r}
	err := w.run(ctx)
	return w.bytes, b.explain("writing", key, err)
}

// write is one call of Write.
type write struct {
	bucket *Bucket
	key    string
	source io.Reader
	bytes  int64
	// free holds buffers of parts that were sent.
	free chan []byte
}

func (w *write) run(ctx context.Context) error {
	first, err := w.next(ctx, nil, 0)
	if err != nil {
		return err
	}
	if first.last {
		return w.bucket.try(ctx, len(first.content), func(ctx context.Context) error {
			return w.bucket.backend.put(ctx, w.key, first.content, always)
		})
	}
	var up upload
	// An upload whose begin was answered to nobody has no parts; Sweep finds it.
	err = w.bucket.try(ctx, 0, func(ctx context.Context) (err error) {
		up, err = w.bucket.backend.begin(ctx, w.key)
		return err
	})
	if err != nil {
		return err
	}
	err = w.upload(ctx, up, first)
	if err == nil {
		return nil
	}
	// What ended the write may be the end of ctx.
	cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	if left := w.bucket.try(cleaning, 0, up.abort); left != nil {
		return fmt.Errorf("%w (and what was sent could not be removed: %v)", err, left) //nolint:errorlint // the first error is the cause
	}
	return err
}

// upload sends the first part and all that follow, a few at a time, and makes the object of them.
func (w *write) upload(ctx context.Context, up upload, p part) error {
	parallel := w.bucket.backend.parallel(w.bucket.options.Concurrency)
	w.free = make(chan []byte, parallel+1)
	senders, sending := errgroup.WithContext(ctx)
	senders.SetLimit(parallel)
	var failed error
	for {
		this := p
		senders.Go(func() error { return w.send(sending, up, this) })
		if p.last {
			break
		}
		var buffer []byte
		select {
		case buffer = <-w.free:
		default:
		}
		if p, failed = w.next(sending, buffer, this.number+1); failed != nil {
			break
		}
	}
	if err := senders.Wait(); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	return w.attempt(ctx, up, 0, func(ctx context.Context) error { return up.commit(ctx, p.number+1) })
}

// attempt does a request of an upload, again if this may help, unless the upload sees to that.
func (w *write) attempt(ctx context.Context, up upload, length int, request func(context.Context) error) error {
	if _, ok := up.(insistent); !ok {
		return w.bucket.try(ctx, length, request)
	}
	err := request(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (w *write) send(ctx context.Context, up upload, p part) error {
	err := w.attempt(ctx, up, len(p.content), func(ctx context.Context) error { return up.send(ctx, p) })
	if err == nil {
		w.free <- p.content[:0]
	}
	return err
}

// next reads a part into a buffer, which grows as far as is needed.
func (w *write) next(ctx context.Context, buffer []byte, number int) (part, error) {
	if number >= maxParts {
		return part{}, &failure{kind: ErrTooLarge, text: "the object has too many parts; longer ones would do"}
	}
	length := partLength(w.bucket.options.PartBytes, number)
	for len(buffer) < length {
		if ctx.Err() != nil {
			return part{}, context.Cause(ctx)
		}
		if len(buffer) == cap(buffer) {
			grown := make([]byte, len(buffer), min(max(2*cap(buffer), 64*kib), length))
			copy(grown, buffer)
			buffer = grown
		}
		n, err := w.source.Read(buffer[len(buffer):min(cap(buffer), length)])
		buffer = buffer[:len(buffer)+n]
		w.bytes += int64(n)
		if err == io.EOF {
			return part{number: number, content: buffer, last: true}, nil
		}
		if err != nil {
			return part{}, fmt.Errorf("reading what is to be written: %w", err)
		}
	}
	return part{number: number, content: buffer}, nil
}

// partLength is how long the parts of an object are, so that maxParts of them suffice for a large one.
func partLength(standard, number int) int {
	length := standard
	for n := equalParts; n <= number && length < maxPartBytes; n += growth {
		length = min(2*length, maxPartBytes)
	}
	return length
}
