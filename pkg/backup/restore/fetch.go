// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/seal"
)

const (
	// fetchers is how many packs are fetched at a time: enough to keep a disk busy while one waits for the store, and few
	// enough for the memory of an agent.
	fetchers = 3
	// attempts is how often an object is read before it counts as damaged: what is wrong may have happened on the way.
	attempts = 2
	copySize = 256 << 10
	// reportBytes is how much must have come before it is reported anew.
	reportBytes = 4 << 20
)

// errDamaged is wrapped by errors about an object that is not what the manifest or the index of the archive says.
var errDamaged = errors.New("is damaged")

// Fetch makes the data directory of the backup. Files have their final size and mode when it returns, but need not be on
// disk yet: the caller flushes the volume when the directory is to count.
func (r *Restore) Fetch(ctx context.Context) error {
	if err := layOut(r.cfg.Dir, r.manifest); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	progress := r.meter("fetching the backup", r.manifest.Bytes)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	packs := make(chan manifest.Pack)
	var workers sync.WaitGroup
	for range min(fetchers, len(r.manifest.Packs)) {
		workers.Go(func() {
			for pack := range packs {
				if err := r.fetchPack(ctx, pack, progress); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, pack := range r.manifest.Packs {
		select {
		case packs <- pack:
		case <-ctx.Done():
		}
	}
	close(packs)
	workers.Wait()
	progress.flush()
	return context.Cause(ctx)
}

// layOut makes every directory and every file of a backup, the files empty but with their sizes. The manifest was checked:
// no path leaves the directory.
func layOut(dir string, m *manifest.Manifest) error {
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	for _, path := range m.Directories {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(path)), 0o750); err != nil {
			return err
		}
	}
	for _, file := range m.Files {
		path := filepath.Join(dir, filepath.FromSlash(file.Path))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		// The owner must be able to write now, whatever the mode says: mysqld does, too.
		made, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(file.Mode)|0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(made.Chmod(fs.FileMode(file.Mode)|0o600), made.Truncate(file.Size), made.Close()); err != nil {
			return err
		}
	}
	return nil
}

// fetchPack unpacks one pack. Damage counts when it is found twice.
func (r *Restore) fetchPack(ctx context.Context, pack manifest.Pack, progress *meter) error {
	key := r.manifest.ObjectKey(pack.Name)
	var err error
	for range attempts {
		var done int64
		done, err = r.unpack(ctx, key, pack, progress)
		if !errors.Is(err, errDamaged) {
			break
		}
		progress.add(-done)
	}
	if err == nil {
		return nil
	}
	return r.final(fmt.Errorf("%s of backup %s: %w", pack.Name, r.manifest.ID, err))
}

// unpack writes the parts of a pack to their places and returns how many bytes that were. A part is known to be right
// before the pack is known to be whole.
func (r *Restore) unpack(ctx context.Context, key string, pack manifest.Pack, progress *meter) (int64, error) {
	stored, err := r.backups.Reader(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("reading it: %w", err)
	}
	defer func() { _ = stored.Close() }() // only read
	raw, err := seal.NewReader(stored, r.cfg.Source.Identity)
	if err != nil {
		return 0, opening(err)
	}
	defer func() { _ = raw.Close() }()
	archive := tar.NewReader(raw)
	var done int64
	for _, entry := range pack.Entries {
		header, err := archive.Next()
		if err != nil {
			return done, opening(err)
		}
		if header.Name != manifest.EntryName(entry.Path, entry.Part) || header.Size != entry.Length || header.Typeflag != tar.TypeReg {
			return done, fmt.Errorf("%w: it holds %q with %d bytes where %s belongs", errDamaged, header.Name, header.Size, entry.Path)
		}
		n, err := r.place(archive, entry, progress)
		done += n
		if err != nil {
			return done, err
		}
	}
	if _, err := archive.Next(); !errors.Is(err, io.EOF) {
		return done, fmt.Errorf("%w: it holds more than it should", errDamaged)
	}
	return done, drained(raw, seal.Sum{Bytes: pack.StoredBytes, SHA256: pack.SHA256})
}

// place writes one part.
func (r *Restore) place(from io.Reader, entry manifest.Entry, progress *meter) (int64, error) {
	file, err := os.OpenFile(filepath.Join(r.cfg.Dir, filepath.FromSlash(entry.Path)), os.O_WRONLY, 0)
	if err != nil {
		return 0, fmt.Errorf("writing %s: %w", entry.Path, err)
	}
	sum := sha256.New()
	into := io.MultiWriter(io.NewOffsetWriter(file, entry.Offset), sum, progress)
	n, err := io.CopyBuffer(into, from, make([]byte, copySize))
	if closeErr := file.Close(); err == nil && closeErr != nil {
		return n, fmt.Errorf("writing %s: %w", entry.Path, closeErr)
	}
	if err != nil {
		return n, opening(err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != entry.SHA256 {
		return n, fmt.Errorf("%w: the checksum of %s is wrong", errDamaged, entry.Path)
	}
	return n, nil
}

// drained reads the rest of a sealed stream and compares what was stored.
func drained(raw *seal.Reader, want seal.Sum) error {
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return opening(err)
	}
	if raw.Stored() != want {
		return fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	return nil
}

// opening says what an error of reading a sealed stream means.
func opening(err error) error {
	switch {
	case errors.Is(err, seal.ErrDamaged), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("%w: %w", errDamaged, err)
	case errors.Is(err, seal.ErrWrongKey), errors.Is(err, seal.ErrKeys):
		return err
	}
	return fmt.Errorf("unpacking it: %w", err)
}

// meter counts the bytes of one stage and reports them now and then.
type meter struct {
	stage    string
	total    int64
	report   func(Progress)
	done     atomic.Int64
	mu       sync.Mutex // of reported and of calls of report
	reported int64
}

func (r *Restore) meter(stage string, total int64) *meter {
	m := &meter{stage: stage, total: total, report: r.cfg.Report}
	m.flush()
	return m
}

// Write counts and never fails.
func (m *meter) Write(p []byte) (int, error) {
	m.add(int64(len(p)))
	return len(p), nil
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	due := m.done.Add(n)-m.reported >= reportBytes
	m.mu.Unlock()
	if due {
		m.flush()
	}
}

// set counts up to a number that is known otherwise.
func (m *meter) set(n int64) { m.add(n - m.done.Load()) }

// flush reports what is counted.
func (m *meter) flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reported = m.done.Load()
	if m.report != nil {
		m.report(Progress{Stage: m.stage, BytesDone: m.reported, BytesTotal: m.total})
	}
}
