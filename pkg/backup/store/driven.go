// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"gocloud.dev/blob"
)

const (
	// contentType of all objects; without one the library would guess it.
	contentType = "application/octet-stream"
	// pageEntries is how many entries a page of a list has at most.
	pageEntries = 1000
)

// asFunc is how a driver of gocloud.dev/blob hands out the request that it is about to make.
type asFunc = func(target any) bool

// provider is what the drivers of gocloud.dev/blob do not have in common.
type provider interface {
	// failed is what an error of the driver means; nil stays nil. It looks at the provider's own error, for the codes of
	// gocloud.dev/gcerrors tell neither a store that asks to slow down from one that is broken, nor a bucket that is not
	// there from an object that is not.
	failed(err error) error
	// reading prepares a request for an object, which is to be of a version unless that is "".
	reading(as asFunc, version string) error
	// opened tells of an object that is read its length, or less than 0, and its version, or "".
	opened(r *blob.Reader) (size int64, version string)
	// writing prepares the request that writes a whole object.
	writing(as asFunc) error
	// listing prepares a request for a page of a list.
	listing(as asFunc) error
	// removing prepares a request for the deletion of an object.
	removing(as asFunc) error
}

// driven is the part of a backend that a driver of gocloud.dev/blob does.
type driven struct {
	bucket   *blob.Bucket
	http     *http.Client
	provider provider
}

func (d *driven) close() error {
	d.http.CloseIdleConnections()
	return d.bucket.Close()
}

func (d *driven) get(ctx context.Context, key string, at position) (*body, error) {
	r, err := d.bucket.NewRangeReader(ctx, key, at.offset, -1, &blob.ReaderOptions{
		BeforeRead: func(as func(any) bool) error { return d.provider.reading(as, at.version) },
	})
	if err != nil {
		return nil, d.provider.failed(err)
	}
	size, version := d.provider.opened(r)
	if size < 0 {
		_ = r.Close()
		return nil, invalid("the store does not tell how long an object is")
	}
	return &body{ReadCloser: r, size: size, version: version}, nil
}

func (d *driven) put(ctx context.Context, key string, content []byte, c condition) error {
	return d.provider.failed(d.bucket.Upload(ctx, key, bytes.NewReader(content), &blob.WriterOptions{
		// More than there is, so that one request does it.
		BufferSize:     len(content) + 1,
		MaxConcurrency: 1,
		ContentType:    contentType,
		IfNotExist:     c == ifAbsent,
		BeforeWrite:    d.provider.writing,
	}))
}

func (d *driven) list(ctx context.Context, q query) (page, error) {
	options := &blob.ListOptions{Prefix: q.prefix, BeforeList: d.provider.listing}
	if q.shallow {
		options.Delimiter = "/"
	}
	token := blob.FirstPageToken
	if q.token != "" {
		token = []byte(q.token)
	}
	objects, next, err := d.bucket.ListPage(ctx, token, pageEntries, options)
	if err != nil {
		return page{}, d.provider.failed(err)
	}
	p := page{entries: make([]entry, 0, len(objects)), next: string(next)}
	for _, o := range objects {
		p.entries = append(p.entries, entry{key: o.Key, bytes: o.Size, modified: o.ModTime})
	}
	slices.SortFunc(p.entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return p, nil
}

func (d *driven) remove(ctx context.Context, key string) error {
	err := d.provider.failed(d.bucket.DeleteWithOptions(ctx, key, &blob.DeleteOptions{BeforeDelete: d.provider.removing}))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// unprepared is the failure of a request that the driver did not hand out, which another version of it may do.
func unprepared() error { return invalid("the request is of a kind that is not known") }
