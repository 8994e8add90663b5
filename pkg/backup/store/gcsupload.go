// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"gocloud.dev/blob"
)

// statusCancelled is the answer to the deletion of an upload.
const statusCancelled = 499

// gcsUpload is a resumable upload, whose parts the library sends and sends again.
type gcsUpload struct {
	store  *gcsStore
	writer *blob.Writer
	call   *gcsCall
	cancel context.CancelFunc
	closed bool
	// failures counts the attempts that failed since the last that did not.
	failures atomic.Int32
}

func (u *gcsUpload) insists() {}

func (g *gcsStore) begin(ctx context.Context, key string) (upload, error) {
	u := &gcsUpload{store: g, call: &gcsCall{}}
	// It outlives the call that begins it.
	writing, cancel := context.WithCancel(withCall(context.WithoutCancel(ctx), u.call))
	u.cancel = cancel
	w, err := g.bucket.NewWriter(writing, key, &blob.WriterOptions{
		BufferSize: g.options.PartBytes, MaxConcurrency: 1, ContentType: contentType, BeforeWrite: u.prepare,
	})
	if err != nil {
		cancel()
		return nil, g.failed(err)
	}
	u.writer = w
	return u, nil
}

// prepare tells the library how often and for how long to try.
func (u *gcsUpload) prepare(as func(any) bool) error {
	var object **storage.ObjectHandle
	if !as(&object) {
		return unprepared()
	}
	// The same bytes at the same place of an upload may be sent any number of times.
	*object = (*object).Retryer(storage.WithPolicy(storage.RetryAlways), storage.WithErrorFunc(u.again),
		storage.WithBackoff(gax.Backoff{Initial: 2 * firstPause, Max: maxPause, Multiplier: 2}))
	var w *storage.Writer
	if !as(&w) {
		return unprepared()
	}
	o := u.store.options
	w.ProgressFunc = func(int64) { u.failures.Store(0) }
	w.ChunkTransferTimeout = o.RequestTimeout + time.Duration(o.PartBytes/slowestBytesPerSecond)*time.Second
	w.ChunkRetryDeadline = time.Duration(o.Attempts) * (w.ChunkTransferTimeout + maxPause)
	return nil
}

// again reports whether the library is to try again.
func (u *gcsUpload) again(err error) bool {
	return mayHelp(u.store.failed(err)) && int(u.failures.Add(1)) < u.store.options.Attempts
}

func (u *gcsUpload) send(ctx context.Context, p part) error {
	defer context.AfterFunc(ctx, u.cancel)()
	_, err := u.writer.Write(p.content)
	return u.failed(err)
}

func (u *gcsUpload) commit(ctx context.Context, _ int) error {
	defer context.AfterFunc(ctx, u.cancel)()
	u.closed = true
	return u.failed(u.writer.Close())
}

func (u *gcsUpload) failed(err error) error {
	err = u.store.failed(err)
	if errors.Is(err, ErrNotFound) && u.call.session.Load() != nil {
		return &failure{kind: ErrUnavailable, text: "the store lost an upload before it was completed"}
	}
	return noBucket(err)
}

// abort gives up the upload, which the library leaves to end by itself.
func (u *gcsUpload) abort(ctx context.Context) error {
	u.cancel()
	if !u.closed {
		u.closed = true
		// It fails, being cancelled.
		_ = u.writer.Close()
	}
	session := u.call.session.Load()
	if session == nil {
		return nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, *session, http.NoBody)
	if err != nil {
		return unanswered(err)
	}
	response, err := u.store.requests.Do(request)
	if err != nil {
		return ofToken(err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case statusCancelled, http.StatusOK, http.StatusNoContent, http.StatusNotFound, http.StatusGone:
		return nil
	}
	return answered(response.StatusCode, "", "")
}
