// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// Options bound what a Bucket uses. Zero values mean the defaults; others are brought into their range.
type Options struct {
	// PartBytes is how much of an object is sent at once, 5 MiB to 64 MiB; default 8 MiB. From part 5000 on parts grow, for
	// a store takes at most 10000 of them: with the default an object may have 400 GiB.
	PartBytes int
	// Concurrency is how many parts of one object are sent at the same time, 1 to 16; default 2. One Write needs up to
	// PartBytes * (Concurrency + 1) of memory, and less when the object is small. Google's stores take one at a time, for
	// which a Write needs up to PartBytes * 3.
	Concurrency int
	// Attempts is how often a request is tried, 1 to 20; default 8, which takes about 20 s when the store refuses at once.
	Attempts int
	// RequestTimeout bounds how long a store may be silent, 1 s to 10 min; default 60 s.
	RequestTimeout time.Duration
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

func (o Options) bounded() Options {
	within := func(value, smallest, largest, standard int) int {
		if value == 0 {
			return standard
		}
		return min(max(value, smallest), largest)
	}
	o.PartBytes = within(o.PartBytes, 5*mib, 64*mib, 8*mib) / partUnit * partUnit
	o.Concurrency = within(o.Concurrency, 1, 16, 2)
	o.Attempts = within(o.Attempts, 1, 20, 8)
	if o.RequestTimeout == 0 {
		o.RequestTimeout = time.Minute
	}
	o.RequestTimeout = min(max(o.RequestTimeout, time.Second), 10*time.Minute)
	return o
}

// Object is an entry of a list.
type Object struct {
	// Key below the store's prefix.
	Key string
	// Bytes it has.
	Bytes int64
	// Modified is when it was written, by the clock of the store.
	Modified time.Time
}

// Bucket is an open store.
type Bucket struct {
	backend backend
	// prefix of all keys: empty, or with a slash at its end.
	prefix  string
	options Options
}

// Open opens a store with the default Options. It talks to nobody, so it does not wait; Check finds out whether the store
// answers. Errors are ErrInvalid, and for a directory that is not there ErrNoBucket.
func Open(ctx context.Context, s wire.Store) (*Bucket, error) {
	return OpenWith(ctx, s, Options{})
}

// OpenWith opens a store.
func OpenWith(ctx context.Context, s wire.Store, o Options) (*Bucket, error) {
	o = o.bounded()
	prefix := strings.Trim(s.Prefix, "/")
	if prefix != "" {
		if err := checkKey(prefix); err != nil {
			return nil, fmt.Errorf("the prefix of the store: %w", err)
		}
		prefix += "/"
	}
	var b backend
	var err error
	switch s.Provider {
	case wire.ProviderS3:
		b, err = openS3(ctx, s, o)
	case wire.ProviderGCS:
		b, err = openGCS(ctx, s, o)
	case wire.ProviderAzure:
		b, err = openAzure(ctx, s, o)
	case wire.ProviderVolume:
		b, err = openDirectory(s.Directory)
	case wire.ProviderMemory:
		b, err = openMemory(s.Bucket)
	default:
		err = invalid("there is no provider %q of stores", s.Provider)
	}
	if err != nil {
		return nil, err
	}
	return &Bucket{backend: b, prefix: prefix, options: o}, nil
}

// Close gives up connections. Readers and writes must have ended.
func (b *Bucket) Close() error { return b.backend.close() }

// String names the store for people, for example `S3 bucket "backups" at https://s3.example.com`; no credentials.
func (b *Bucket) String() string { return b.backend.String() }

// Location names an object for people, for example s3://backups/prefix/key; no credentials.
func (b *Bucket) Location(key string) string { return b.backend.location(b.prefix + key) }

// ReadAll reads an object of at most limit bytes; ErrTooLarge if it has more.
func (b *Bucket) ReadAll(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, err := b.Reader(ctx, key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, b.explain("reading", key, &failure{kind: ErrTooLarge, text: fmt.Sprintf("it has more than %d bytes", limit)})
	}
	return content, nil
}

// WriteNew writes an object that is not there yet; ErrExists if there is one with other content. One with the same content
// counts as written by this call, whose answer may have been lost.
func (b *Bucket) WriteNew(ctx context.Context, key string, content []byte) error {
	if err := checkKey(key); err != nil {
		return err
	}
	err := b.try(ctx, len(content), func(ctx context.Context) error {
		return b.backend.put(ctx, b.prefix+key, content, ifAbsent)
	})
	if errors.Is(err, ErrExists) {
		found, readErr := b.ReadAll(ctx, key, int64(len(content)))
		if readErr == nil && bytes.Equal(found, content) {
			return nil
		}
		if readErr != nil && !errors.Is(readErr, ErrTooLarge) {
			return readErr
		}
	}
	return b.explain("writing", key, err)
}

// List yields the objects whose key begins with prefix, in the order of their keys, as they are read from the store. After
// an error, which comes with a zero Object, it ends. What others left in the store under names that are no keys is left out.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for e, err := range b.entries(ctx, query{prefix: b.prefix + prefix}) {
			if err != nil {
				yield(Object{}, b.explain("listing", prefix, err))
				return
			}
			o := Object{Key: strings.TrimPrefix(e.key, b.prefix), Bytes: e.bytes, Modified: e.modified}
			if checkKey(o.Key) == nil && !yield(o, nil) {
				return
			}
		}
	}
}

// Dirs yields the names (one path element, no slash) directly below the key dir that have objects below them, in order;
// "" is the top.
func (b *Bucket) Dirs(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		prefix := b.prefix
		if dir != "" {
			prefix += strings.TrimSuffix(dir, "/") + "/"
		}
		for e, err := range b.entries(ctx, query{prefix: prefix, shallow: true}) {
			if err != nil {
				yield("", b.explain("listing", dir, err))
				return
			}
			name, isDir := strings.CutSuffix(strings.TrimPrefix(e.key, prefix), "/")
			if isDir && checkKey(name) == nil && !yield(name, nil) {
				return
			}
		}
	}
}

// entries yields what the pages of a list hold.
func (b *Bucket) entries(ctx context.Context, q query) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		for {
			var p page
			err := b.try(ctx, 0, func(ctx context.Context) (err error) {
				p, err = b.backend.list(ctx, q)
				return err
			})
			if err != nil {
				yield(entry{}, err)
				return
			}
			for _, e := range p.entries {
				if !yield(e, nil) {
					return
				}
			}
			if p.next == "" {
				return
			}
			q.token = p.next
		}
	}
}

// Delete deletes an object. It is no error when there is none.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	err := b.try(ctx, 0, func(ctx context.Context) error { return b.backend.remove(ctx, b.prefix+key) })
	return b.explain("deleting", key, err)
}

// Sweep removes what writes that began before a moment left below the key prefix when their process died: parts of
// uploads, temporary files. No object is touched. Writes that go on for longer must not be.
func (b *Bucket) Sweep(ctx context.Context, prefix string, before time.Time) error {
	err := b.try(ctx, 0, func(ctx context.Context) error { return b.backend.sweep(ctx, b.prefix+prefix, before) })
	return b.explain("sweeping", prefix, err)
}

// Check finds out whether objects can be written, read, listed and deleted below the key root, and whether the store keeps
// what WriteNew promises. It writes a small object with a random name and removes it. The error says what was refused.
func (b *Bucket) Check(ctx context.Context, root string) error {
	key := strings.Trim(root+"/probe-"+rand.Text(), "/")
	content := []byte("This object shows that the store can be written to. It may be deleted.\n")
	if err := b.WriteNew(ctx, key, content); err != nil {
		return err
	}
	err := b.probe(ctx, key, content)
	return errors.Join(err, b.Delete(ctx, key))
}

// probe does with a written object all but deleting it.
func (b *Bucket) probe(ctx context.Context, key string, content []byte) error {
	found, err := b.ReadAll(ctx, key, int64(len(content)))
	if err != nil {
		return err
	}
	if !bytes.Equal(found, content) {
		return b.explain("reading", key, invalid("the store gave back other content than was written"))
	}
	listed := false
	for o, err := range b.List(ctx, key) {
		if err != nil {
			return err
		}
		listed = listed || o.Key == key
	}
	if !listed {
		return b.explain("listing", key, invalid("the store does not list what was just written"))
	}
	switch err := b.WriteNew(ctx, key, []byte("other")); {
	case errors.Is(err, ErrExists):
		return nil
	case err != nil:
		return err
	}
	return b.explain("writing", key, invalid("the store replaces an object although asked not to (If-None-Match); such a store cannot be used"))
}
