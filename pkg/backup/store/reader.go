// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Reader reads an object. The caller closes the reader, and uses it from one goroutine. A connection that breaks is made
// anew where it was; what is read is one version of the object whole, or an error, never less without an error.
func (b *Bucket) Reader(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	r := &reader{bucket: b, ctx: ctx, key: key}
	if err := r.open(); err != nil {
		return nil, b.explain("reading", key, err)
	}
	r.size = r.body.size
	return r, nil
}

// reader reads an object over as many connections as it takes.
type reader struct {
	bucket *Bucket
	ctx    context.Context
	key    string
	at     position
	size   int64
	// body is nil when the connection broke; cancel ends it.
	body   *body
	cancel context.CancelFunc
	// broken counts the connections that broke without a byte since the last one.
	broken int
	err    error
}

// open connects where the reader is.
func (r *reader) open() error {
	// The body lives as long as its context, so that of the attempt, which ends with it, does not do.
	return r.bucket.try(r.ctx, 0, func(context.Context) error {
		ctx, cancel := context.WithCancel(r.ctx)
		silence := time.AfterFunc(r.bucket.options.RequestTimeout, cancel)
		body, err := r.bucket.backend.get(ctx, r.bucket.prefix+r.key, r.at) //nolint:contextcheck // see above
		intime := silence.Stop()
		if err == nil && intime {
			r.body, r.cancel, r.at.version = body, cancel, body.version
			return nil
		}
		if err == nil {
			_ = body.Close()
		}
		cancel()
		if !intime {
			return unanswered(context.DeadlineExceeded)
		}
		return err
	})
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.at.offset == r.size {
		r.err = io.EOF
		return 0, io.EOF
	}
	if r.body == nil {
		if err := r.open(); err != nil {
			return 0, r.fail(err)
		}
		if r.body.size != r.size {
			return 0, r.fail(changed())
		}
	}
	n, err := r.readBody(p)
	r.at.offset += int64(n)
	if n > 0 {
		r.broken = 0
	}
	switch {
	case r.at.offset > r.size:
		return 0, r.fail(changed())
	case r.ctx.Err() != nil:
		return n, r.fail(context.Cause(r.ctx))
	case err == nil || r.at.offset == r.size:
		return n, nil
	}
	return n, r.reconnect(err)
}

// readBody reads from the present connection, which must not be silent for long; how long the caller takes between reads
// does not count.
func (r *reader) readBody(p []byte) (int, error) {
	silence := time.AfterFunc(r.bucket.options.RequestTimeout, r.cancel)
	defer silence.Stop()
	return r.body.Read(p)
}

// reconnect gives up a connection that broke; the next Read makes another.
func (r *reader) reconnect(cause error) error {
	r.hangUp()
	r.broken++
	if r.broken >= r.bucket.options.Attempts {
		if errors.Is(cause, io.EOF) {
			cause = io.ErrUnexpectedEOF
		}
		return r.fail(unanswered(fmt.Errorf("the connection broke after %d of %d bytes: %w", r.at.offset, r.size, cause)))
	}
	if err := r.bucket.pause(r.ctx, r.broken); err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *reader) fail(err error) error {
	if errors.Is(err, ErrExists) || errors.Is(err, ErrNotFound) {
		err = changed()
	}
	r.err = r.bucket.explain("reading", r.key, err)
	return r.err
}

func changed() error {
	return &failure{kind: ErrUnavailable, text: "the object was replaced or deleted while it was read"}
}

func (r *reader) hangUp() {
	if r.body != nil {
		r.cancel()
		_ = r.body.Close()
		r.body = nil
	}
}

// Close ends the connection.
func (r *reader) Close() error {
	r.hangUp()
	if r.err == nil {
		r.err = errors.New("the reader is closed")
	}
	return nil
}
