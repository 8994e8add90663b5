// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"io"
	"time"
)

// backend is a kind of store. Its keys are whole, with the prefix. It tries everything once: Bucket tries again where a
// failure says that this may help, so every method but begin may be repeated after an error. Errors are failures.
type backend interface {
	fmt.Stringer
	location(key string) string
	// get opens an object from an offset on, which is less than its length unless both are 0.
	get(ctx context.Context, key string, at position) (*body, error)
	// put writes a whole object; ErrExists if the condition does not hold.
	put(ctx context.Context, key string, content []byte, c condition) error
	// begin begins an object of several parts.
	begin(ctx context.Context, key string) (upload, error)
	list(ctx context.Context, q query) (page, error)
	// remove deletes an object; nil if there is none.
	remove(ctx context.Context, key string) error
	sweep(ctx context.Context, prefix string, before time.Time) error
	// parallel is how many parts of one object may be sent at the same time, at most n.
	parallel(n int) int
	close() error
}

// upload is an object of several parts that is not there until it is committed.
type upload interface {
	// send sends a part. Parts are numbered from 0 on and, but for the last, multiples of partUnit. Where parallel is 1 they
	// come in order.
	send(ctx context.Context, p part) error
	// commit makes the object of its n parts.
	commit(ctx context.Context, n int) error
	// abort removes what was sent. The upload is not used again.
	abort(ctx context.Context) error
}

// insistent is an upload that tries again by itself where this may help, as often as Options say: send and commit are
// called once, with a context that ends when the whole write does.
type insistent interface {
	upload
	insists()
}

// partUnit is what the lengths of parts are multiples of, but for the last one: Google's stores take nothing else.
const partUnit = 256 * kib

type part struct {
	number  int
	content []byte
	// last part; of an object whose length is a multiple of the part's, it is empty.
	last bool
}

// condition of a write.
type condition int

const (
	always   condition = iota
	ifAbsent           // there is no such object
)

// position in a version of an object; "" is any version.
type position struct {
	offset  int64
	version string
}

// body is what is left of an object from a position on.
type body struct {
	io.ReadCloser
	// size of the whole object.
	size int64
	// version that is read, "" if the store tells none.
	version string
}

// query asks for a page of entries whose keys begin with prefix.
type query struct {
	prefix string
	// shallow: what lies below a slash behind the prefix comes as one entry that ends with that slash.
	shallow bool
	// token of the page, "" for the first.
	token string
}

type page struct {
	entries []entry
	// next is the token of the next page, "" if there is none.
	next string
}

type entry struct {
	key      string
	bytes    int64
	modified time.Time
}
