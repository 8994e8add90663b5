// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/moco-mysql/moco/pkg/backup/plan"
	"github.com/moco-mysql/moco/pkg/backup/seal"
)

// readAhead is how many segments are fetched at a time. A quiet cluster has many small ones, each of which costs a round
// trip to the store.
const readAhead = 8

func bytesOf(file plan.File) int64 {
	var total int64
	for _, segment := range file.Segments {
		total += segment.RawBytes
	}
	return total
}

// join fetches the segments of one original file and makes one file of them at path.
func (r *Restore) join(ctx context.Context, file plan.File, path string, progress *meter) error {
	made, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("making a relay log: %w", err)
	}
	relay := &relayFile{file: made}
	for first := 0; first < len(file.Segments) && err == nil; first += readAhead {
		err = r.joinSome(ctx, relay, file.Segments[first:min(first+readAhead, len(file.Segments))], path, progress)
	}
	return errors.Join(err, made.Close())
}

// joinSome fetches a few segments side by side and appends them in order.
func (r *Restore) joinSome(ctx context.Context, relay *relayFile, segments []plan.Segment, path string, progress *meter) error {
	drafts := make([]*os.File, len(segments))
	failures := make([]error, len(segments))
	var workers sync.WaitGroup
	for i := range segments {
		workers.Go(func() {
			drafts[i], failures[i] = r.fetchSegment(ctx, segments[i], fmt.Sprintf("%s.%d", path, i), progress)
		})
	}
	workers.Wait()
	err := errors.Join(failures...)
	for i, draft := range drafts {
		if draft == nil {
			continue
		}
		if err == nil {
			if err = relay.append(draft, segments[i].RawBytes); err != nil {
				err = fmt.Errorf("segment %s: %w", r.archives.Location(segments[i].Key), err)
			}
		}
		err = errors.Join(err, draft.Close(), os.Remove(draft.Name()))
	}
	return r.final(err)
}

// fetchSegment writes one segment to a file, which the caller closes and removes. Damage counts when it is found twice.
func (r *Restore) fetchSegment(ctx context.Context, segment plan.Segment, path string, progress *meter) (*os.File, error) {
	draft, err := os.OpenFile(filepath.Clean(path), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, fmt.Errorf("making a file for a segment: %w", err)
	}
	for range attempts {
		if _, err = draft.Seek(0, io.SeekStart); err != nil {
			break
		}
		if err = draft.Truncate(0); err != nil {
			break
		}
		if err = r.copySegment(ctx, segment, draft); !errors.Is(err, errDamaged) {
			break
		}
	}
	if err != nil {
		return draft, fmt.Errorf("segment %s: %w", r.archives.Location(segment.Key), err)
	}
	progress.add(segment.RawBytes)
	return draft, nil
}

// copySegment opens a segment and checks all sums of it.
func (r *Restore) copySegment(ctx context.Context, segment plan.Segment, to io.Writer) error {
	stored, err := r.archives.Reader(ctx, segment.Key)
	if err != nil {
		return fmt.Errorf("reading it: %w", err)
	}
	defer func() { _ = stored.Close() }() // only read
	raw, err := seal.NewReader(stored, r.cfg.Source.Identity)
	if err != nil {
		return opening(err)
	}
	defer func() { _ = raw.Close() }()
	// Not more than it should have: what is damaged must not fill the volume.
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, io.LimitReader(raw, segment.RawBytes), make([]byte, copySize)); err != nil {
		return opening(err)
	}
	switch _, err := io.ReadFull(raw, make([]byte, 1)); {
	case err == nil:
		return fmt.Errorf("%w: it holds more than it should", errDamaged)
	case !errors.Is(err, io.EOF):
		return opening(err)
	}
	if raw.Stored() != (seal.Sum{Bytes: segment.StoredBytes, SHA256: segment.SHA256}) ||
		raw.Raw() != (seal.Sum{Bytes: segment.RawBytes, SHA256: segment.RawSHA256}) {
		return fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	return nil
}
