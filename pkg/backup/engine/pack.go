// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

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
	"slices"
	"strings"
	"sync"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// tree is what of a data directory belongs into a backup.
type tree struct {
	directories []string
	files       []manifest.File
	bytes       int64
}

// leftOut are files and directories at the top of a data directory that are no data: the identity of an instance, keys,
// logs that do not belong to it, what was persisted, the state of a clone, and what is temporary.
var leftOut = []string{
	"auto.cnf", "mysqld-auto.cnf", "mysqld-auto.cnf.backup", "*.pem", mycnf.LogBin + ".*", mycnf.RelayLog + ".*", mycnf.RelayLog + "-*",
	"*.pid", "*.sock", "*.sock.lock", "*.err", "ibtmp1", "ib_buffer_pool", "#clone", "#innodb_temp", "#ib_*.dblwr", "#ib_*.bdblwr",
}

// survey lists what belongs into a backup, sorted by path.
func survey(dir string) (*tree, error) {
	t := &tree{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if isLeftOut(name) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		return t.take(filepath.ToSlash(name), entry)
	})
	if err != nil {
		return nil, fmt.Errorf("listing the copy: %w", err)
	}
	t.sort()
	return t, nil
}

func (t *tree) take(name string, entry fs.DirEntry) error {
	info, err := entry.Info()
	switch {
	case err != nil:
		return err
	case info.IsDir():
		t.directories = append(t.directories, name)
		return nil
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a directory", name)
	}
	t.files = append(t.files, manifest.File{Path: name, Size: info.Size(), Mode: uint32(info.Mode().Perm())})
	t.bytes += info.Size()
	return nil
}

func isLeftOut(name string) bool {
	for _, pattern := range leftOut {
		if matched, err := filepath.Match(pattern, name); err == nil && matched {
			return true
		}
	}
	return false
}

// planPacks divides files into packs of about packBytes, and large files into parts of at most partBytes.
func planPacks(files []manifest.File, packBytes, partBytes int64) [][]manifest.Entry {
	var packs [][]manifest.Entry
	var pack []manifest.Entry
	var filled int64
	for _, file := range files {
		for number, offset := 0, int64(0); number == 0 || offset < file.Size; number++ {
			length := min(partBytes, file.Size-offset)
			if filled > 0 && filled+length > packBytes {
				packs, pack, filled = append(packs, pack), nil, 0
			}
			pack = append(pack, manifest.Entry{Path: file.Path, Part: number, Offset: offset, Length: length})
			filled += length
			offset += length
		}
	}
	if len(pack) > 0 {
		packs = append(packs, pack)
	}
	return packs
}

// sendPacks sends all files of a tree, several packs at a time, and returns the packs as they are in the store. The first
// that fails ends it.
func (j *job) sendPacks(ctx context.Context, dir string, t *tree) ([]manifest.Pack, error) {
	planned := planPacks(t.files, j.cfg.PackBytes, j.cfg.PartBytes)
	packs := make([]manifest.Pack, len(planned))
	j.cfg.Progress.set(0, t.bytes)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan int)
	var workers sync.WaitGroup
	for range j.cfg.Workers {
		workers.Go(func() {
			for n := range queue {
				pack, err := j.sendPack(ctx, dir, n, planned[n])
				if err != nil {
					cancel(err)
				}
				packs[n] = pack
			}
		})
	}
	for n := range planned {
		select {
		case queue <- n:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("sending the copy: %w", err)
	}
	return packs, nil
}

func (j *job) sendPack(ctx context.Context, dir string, number int, entries []manifest.Entry) (manifest.Pack, error) {
	pack := manifest.Pack{Name: j.objectName(manifest.PackName(number)), Entries: entries}
	s, err := j.send(ctx, j.objectKey(pack.Name), func(ctx context.Context, w io.Writer, moved func(int64)) error {
		return writePack(ctx, w, dir, entries, moved)
	})
	pack.StoredBytes, pack.SHA256 = s.stored.Bytes, s.stored.SHA256
	return pack, err
}

// objectName is a name as it is in the store.
func (j *job) objectName(name string) string {
	if j.in.Recipients != "" {
		return name + manifest.EncryptedSuffix
	}
	return name
}

func (j *job) objectKey(name string) string {
	return manifest.ObjectKey(j.in.Cluster, j.in.Backup, j.in.Attempt, name)
}

// writePack writes the parts as a tar and notes their sums. The tar has nothing that changes from one time to the next.
func writePack(ctx context.Context, w io.Writer, dir string, entries []manifest.Entry, moved func(int64)) error {
	archive := tar.NewWriter(w)
	for n := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writePart(archive, dir, &entries[n]); err != nil {
			return fmt.Errorf("packing %s: %w", entries[n].Path, err)
		}
		moved(entries[n].Length)
	}
	return archive.Close()
}

func writePart(archive *tar.Writer, dir string, entry *manifest.Entry) error {
	file, err := os.Open(filepath.Join(dir, filepath.FromSlash(entry.Path)))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: manifest.EntryName(entry.Path, entry.Part), Size: entry.Length, Mode: 0o640, Format: tar.FormatPAX,
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(archive, sum), io.NewSectionReader(file, entry.Offset, entry.Length))
	if err != nil {
		return err
	}
	if n != entry.Length {
		return errors.New("the file became shorter")
	}
	entry.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// sort brings the paths into the order of the manifest, which is that of their bytes.
func (t *tree) sort() {
	slices.Sort(t.directories)
	slices.SortFunc(t.files, func(a, b manifest.File) int { return strings.Compare(a.Path, b.Path) })
}
