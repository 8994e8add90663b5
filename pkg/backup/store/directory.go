// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Modes of what is made: the group may do as the owner, for the Pods that share a volume share its group.
const (
	fileMode      = 0o660
	directoryMode = 0o770
)

// directory is a store in a directory. Nothing outside of it is touched, whatever symbolic links it holds.
type directory struct {
	path string
	root *os.Root
}

func openDirectory(name string) (backend, error) {
	if !filepath.IsAbs(name) {
		return nil, invalid("the directory %q of the store is no absolute path", name)
	}
	root, err := os.OpenRoot(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &failure{kind: ErrNoBucket, text: fmt.Sprintf("there is no directory %q", name)}
	}
	if err != nil {
		return nil, ofFile(err)
	}
	return &directory{path: name, root: root}, nil
}

func (d *directory) String() string             { return fmt.Sprintf("directory %q", d.path) }
func (d *directory) location(key string) string { return "file://" + path.Join(d.path, key) }
func (d *directory) parallel(int) int           { return 1 }
func (d *directory) close() error               { return d.root.Close() }

// ofFile is the failure of an operation on files.
func ofFile(err error) error {
	f := failure{kind: ErrInvalid, text: oneLine(err.Error())}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.kind = ErrNotFound
	case errors.Is(err, fs.ErrExist):
		f.kind = ErrExists
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS):
		f.kind = ErrDenied
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		f.kind = ErrFull
	case errors.Is(err, unix.EIO) || errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ETIMEDOUT) || errors.Is(err, unix.ENOTCONN):
		f.kind, f.again = ErrUnavailable, true
	}
	return &f
}

func (d *directory) get(_ context.Context, key string, at position) (*body, error) {
	file, err := d.root.Open(key)
	if err != nil {
		return nil, ofFile(err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err == nil {
		_, err = file.Seek(at.offset, io.SeekStart)
	}
	if err != nil {
		_ = file.Close()
		return nil, ofFile(err)
	}
	return &body{ReadCloser: file, size: info.Size(), version: info.ModTime().String()}, nil
}

func (d *directory) put(ctx context.Context, key string, content []byte, c condition) error {
	u, err := d.create(key)
	if err != nil {
		return err
	}
	if err = u.send(ctx, part{content: content}); err == nil {
		err = u.finish(c)
	}
	if err != nil {
		_ = u.abort(ctx)
	}
	return err
}

func (d *directory) begin(_ context.Context, key string) (upload, error) {
	return d.create(key)
}

// create makes a temporary file that is to become the object.
func (d *directory) create(key string) (*fileUpload, error) {
	if err := d.makeDirectory(partialName); err != nil {
		return nil, err
	}
	name := path.Join(partialName, rand.Text())
	file, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, ofFile(err)
	}
	return &fileUpload{directory: d, file: file, name: name, key: key}, nil
}

// makeDirectory makes a directory and those above it, so that they outlive a crash.
func (d *directory) makeDirectory(name string) error {
	if name == "." {
		return nil
	}
	err := d.root.Mkdir(name, directoryMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeDirectory(path.Dir(name)); err != nil {
			return err
		}
		err = d.root.Mkdir(name, directoryMode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return ofFile(err)
	}
	return d.sync(path.Dir(name))
}

// sync makes the entries of a directory durable.
func (d *directory) sync(name string) error {
	file, err := d.root.Open(name)
	if err != nil {
		return ofFile(err)
	}
	defer file.Close()
	// Some file systems of networks know no such thing, and need it not.
	if err := file.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return ofFile(err)
	}
	return nil
}

// fileUpload is a temporary file. A part that is sent again takes the place of the part that failed.
type fileUpload struct {
	directory *directory
	file      *os.File
	name, key string
	written   int64
}

func (u *fileUpload) send(ctx context.Context, p part) error {
	if ctx.Err() != nil {
		return unanswered(ctx.Err())
	}
	if _, err := u.file.WriteAt(p.content, u.written); err != nil {
		return ofFile(err)
	}
	u.written += int64(len(p.content))
	return nil
}

func (u *fileUpload) commit(context.Context, int) error { return u.finish(always) }

func (u *fileUpload) finish(c condition) error {
	if err := u.file.Sync(); err != nil {
		// What the kernel could not write it may have dropped: asking again would wrongly succeed.
		return &failure{kind: ErrUnavailable, text: oneLine(err.Error())}
	}
	if err := u.place(c); err != nil {
		return err
	}
	_ = u.file.Close()
	return u.directory.sync(path.Dir(u.key))
}

// placeAttempts bounds how often the directory of an object is made again because a Delete took it away, being empty.
const placeAttempts = 10

func (u *fileUpload) place(c condition) error {
	var err error
	for range placeAttempts {
		if err := u.directory.makeDirectory(path.Dir(u.key)); err != nil {
			return err
		}
		if c == ifAbsent {
			err = u.placeNew()
		} else {
			err = u.directory.root.Rename(u.name, u.key)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return ofFile(err)
}

// placeNew gives the file its name if nothing has it. Where a file system has no links, it may know how to rename so.
func (u *fileUpload) placeNew() error {
	err := u.directory.root.Link(u.name, u.key)
	if err == nil {
		return u.directory.root.Remove(u.name)
	}
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EMLINK) {
		return err
	}
	to, openErr := u.directory.root.Open(path.Dir(u.key))
	if openErr != nil {
		return openErr
	}
	defer to.Close()
	from, openErr := u.directory.root.Open(partialName)
	if openErr != nil {
		return openErr
	}
	defer from.Close()
	return unix.Renameat2(int(from.Fd()), path.Base(u.name), int(to.Fd()), path.Base(u.key), unix.RENAME_NOREPLACE)
}

func (u *fileUpload) abort(context.Context) error {
	_ = u.file.Close()
	if err := u.directory.root.Remove(u.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ofFile(err)
	}
	return nil
}

func (d *directory) remove(_ context.Context, key string) error {
	err := d.root.Remove(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return ofFile(err)
	}
	if err := d.sync(path.Dir(key)); err != nil {
		return err
	}
	// Directories without objects are no use; one that is not empty stays.
	for dir := path.Dir(key); dir != "." && d.root.Remove(dir) == nil; dir = path.Dir(dir) {
	}
	return nil
}

// list reads all at once: a volume holds backups, which are few large objects.
func (d *directory) list(ctx context.Context, q query) (page, error) {
	top := "."
	if n := strings.LastIndexByte(q.prefix, '/'); n >= 0 {
		top = q.prefix[:n]
	}
	var p page
	if err := d.walk(ctx, top, q, &p); err != nil {
		return page{}, err
	}
	slices.SortFunc(p.entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return p, nil
}

func (d *directory) walk(ctx context.Context, dir string, q query, p *page) error {
	entries, err := fs.ReadDir(d.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return ofFile(err)
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return unanswered(ctx.Err())
		}
		if err := d.visit(ctx, path.Join(dir, e.Name()), e, q, p); err != nil {
			return err
		}
	}
	return nil
}

func (d *directory) visit(ctx context.Context, key string, e fs.DirEntry, q query, p *page) error {
	if key == partialName {
		return nil
	}
	if e.IsDir() {
		switch {
		case q.shallow && strings.HasPrefix(key, q.prefix):
			p.entries = append(p.entries, entry{key: key + "/"})
			return nil
		case strings.HasPrefix(key+"/", q.prefix) || strings.HasPrefix(q.prefix, key+"/"):
			return d.walk(ctx, key, q, p)
		}
		return nil
	}
	if !strings.HasPrefix(key, q.prefix) || !e.Type().IsRegular() {
		return nil
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return ofFile(err)
	}
	p.entries = append(p.entries, entry{key: key, bytes: info.Size(), modified: info.ModTime()})
	return nil
}

// sweep removes temporary files, whatever object they were to become.
func (d *directory) sweep(_ context.Context, _ string, before time.Time) error {
	entries, err := fs.ReadDir(d.root.FS(), partialName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return ofFile(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) {
			continue
		}
		if err := d.root.Remove(path.Join(partialName, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return ofFile(err)
		}
	}
	return nil
}
