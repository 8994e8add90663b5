// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/archive"
	"github.com/moco-mysql/moco/pkg/backup/seal"
	"github.com/moco-mysql/moco/pkg/backup/store"
)

// run writes one stream.
type run struct {
	*keeper
	bucket  *store.Bucket
	scanner scanner
	place   place
	// page is the last page of the stream, stored what is in the store of it.
	page   *archive.Page
	stored []byte
	// cut is when the last round began that had something new.
	cut time.Time
	// written is when the page was written; zero before the first time. behind says that it holds segments that its caughtUpAt
	// does not cover.
	written time.Time
	behind  bool
}

// options make an error of the store known soon: the archiver tries again by itself. Memory is scarce in an agent.
var options = store.Options{PartBytes: 5 << 20, Attempts: 3, RequestTimeout: 15 * time.Second}

// run writes a stream until the context ends or something fails.
func (k *keeper) run(ctx context.Context) error {
	bucket, err := store.OpenWith(ctx, k.cfg.Store, options)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	defer func() {
		if err := bucket.Close(); err != nil {
			klog.FromContext(ctx).V(2).Info("Closing the store failed", "err", err)
		}
	}()
	r := &run{keeper: k, bucket: bucket}
	if err := r.begin(ctx); err != nil {
		return err
	}
	tick := min(k.cfg.Interval, heartbeat)
	for {
		began := k.cfg.Now()
		if err := r.look(ctx, began); err != nil {
			return err
		}
		if !sleep(ctx, max(0, tick-k.cfg.Now().Sub(began))) {
			return ctx.Err()
		}
	}
}

// look archives what is new, if the interval since the last time has passed, and tells the store now and then that nothing is.
func (r *run) look(ctx context.Context, began time.Time) error {
	until, err := r.cfg.Position(ctx)
	if err != nil {
		r.publish(func(p *Progress) { p.Error = err.Error() })
		return nil //nolint:nilerr // it is published, and the stream is not at fault
	}
	if !r.progress.Archived.Contains(until.Executed) {
		if began.Sub(r.cut) < r.cfg.Interval {
			return nil
		}
		r.cut = began
	}
	return r.round(ctx, began, until)
}

// round archives everything that was committed at a position.
func (r *run) round(ctx context.Context, began time.Time, until Position) error {
	executed := newMembers(until.Executed)
	for {
		found, err := r.scanner.read(ctx, r.place, until, executed)
		if err != nil {
			return err
		}
		caughtUp := time.Time{}
		switch found.halt {
		case haltMore:
		case haltEnd:
			caughtUp = began
		case haltWaiting:
			// It may still be acknowledged, and would then have committed when it was written.
			caughtUp = earlier(began, time.UnixMicro(found.waiting-1))
		}
		if until.Doubtful {
			caughtUp = time.Time{}
		}
		if !found.stretch.empty() {
			if err := r.archive(ctx, &found.stretch); err != nil {
				return err
			}
		}
		r.place = found.next
		if err := r.note(ctx, &found, caughtUp); err != nil || found.halt != haltMore {
			return err
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// note writes the page if there is something to say in it, and publishes the progress. caughtUp is zero when there is more to
// archive, or may be.
func (r *run) note(ctx context.Context, found *scan, caughtUp time.Time) error {
	archived := !found.stretch.empty()
	r.behind = r.behind || archived
	due := archived || r.written.IsZero() || r.cfg.Now().Sub(r.written) >= heartbeat || r.behind && !caughtUp.IsZero()
	if caughtUp.After(r.page.CaughtUpAt) {
		r.page.CaughtUpAt = caughtUp.UTC().Truncate(time.Microsecond)
	}
	if due {
		if err := r.writePage(ctx); err != nil {
			return err
		}
		r.written = r.cfg.Now()
		r.behind = r.behind && caughtUp.IsZero()
	}
	taken, err := found.stretch.gtids.set()
	if err != nil {
		return err
	}
	r.publish(func(p *Progress) {
		p.Error = ""
		p.Archived = p.Archived.Union(taken)
		if due && !r.page.CaughtUpAt.IsZero() {
			p.RecoverableUpTo = r.page.CaughtUpAt // until then it is what earlier streams say
		}
		p.CaughtUp = later(p.CaughtUp, caughtUp)
		if archived {
			// Another server may have given it its time, by a clock that is ahead.
			p.CaughtUp = later(p.CaughtUp, earlier(r.cfg.Now(), time.UnixMicro(found.stretch.last)))
		}
	})
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// archive sends a stretch as a segment and enters it into the page. When it fails, what is in the store is not known, and the
// stream must not go on.
func (r *run) archive(ctx context.Context, part *stretch) error {
	if r.page.Full() {
		r.page = r.page.Next(r.stored)
	}
	taken, err := part.gtids.set()
	if err != nil {
		return err
	}
	entry := archive.Segment{
		Number: r.page.NextNumber(), Encrypted: r.cfg.Recipients != "",
		File: filepath.Base(part.file), Start: part.start, End: part.end,
		GTIDs: taken.String(), Transactions: part.count, FirstCommit: part.first, LastCommit: part.last,
	}
	raw, stored, err := r.send(ctx, r.page.SegmentKeyOf(entry), part)
	if err != nil {
		return fmt.Errorf("writing a segment: %w", err)
	}
	entry.RawBytes, entry.RawSHA256, entry.StoredBytes, entry.SHA256 = raw.Bytes, raw.SHA256, stored.Bytes, stored.SHA256
	return r.page.Add(entry)
}

// send writes one object, compressed and perhaps encrypted, while it is read.
func (r *run) send(ctx context.Context, key string, part *stretch) (raw, stored seal.Sum, err error) {
	file, err := os.Open(part.file)
	if err != nil {
		return raw, stored, err
	}
	defer func() { _ = file.Close() }() // only read
	from, to := io.Pipe()
	sealed := make(chan error, 1)
	content := io.MultiReader(bytes.NewReader(part.header), io.NewSectionReader(file, part.start, part.end-part.start))
	go func() {
		var err error
		raw, stored, err = sealTo(to, r.cfg.Recipients, &bounded{ctx: ctx, from: content})
		_ = to.CloseWithError(err) // never fails
		sealed <- err
	}()
	written, err := r.bucket.Write(ctx, key, from)
	_ = from.CloseWithError(err) // never fails; ends the other side if the store did not read it all
	if fault := <-sealed; err == nil {
		err = fault
	}
	if err == nil && (written != stored.Bytes || raw.Bytes != int64(len(part.header))+part.end-part.start) {
		err = fmt.Errorf("%d bytes were written of %d, from %d", written, stored.Bytes, raw.Bytes)
	}
	return raw, stored, err
}

// sealTo compresses, and encrypts if there are recipients.
func sealTo(to io.Writer, recipients string, from io.Reader) (raw, stored seal.Sum, err error) {
	writer, err := seal.NewWriter(to, recipients)
	if err != nil {
		return raw, stored, err
	}
	_, err = io.Copy(writer, from)
	err = errors.Join(err, writer.Close())
	return writer.Raw(), writer.Stored(), err
}

// writePage writes the last page. The same page is written again until it is known to be there.
func (r *run) writePage(ctx context.Context) error {
	content, err := r.page.Encode()
	if err != nil {
		return fmt.Errorf("making an index page: %w", err)
	}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		_, err := r.bucket.Write(ctx, r.page.Key(), bytes.NewReader(content))
		if err == nil {
			r.stored = content
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.publish(func(p *Progress) { p.Error = err.Error() })
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}
