// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// File is one file of an image.
type File struct {
	// From is a file of this machine, To its absolute path in the image.
	From, To string
}

// WriteFiles writes a layer of the files and of the directories above them, all
// owned by root and executable by everybody.
func WriteFiles(w io.Writer, files []File) error {
	t := tar.NewWriter(w)
	made := map[string]bool{}
	for _, f := range files {
		if err := writeParents(t, made, f.To); err != nil {
			return fmt.Errorf("writing a layer: %w", err)
		}
		if err := writeFile(t, f); err != nil {
			return fmt.Errorf("writing a layer: %w", err)
		}
	}
	return t.Close()
}

func writeParents(t *tar.Writer, made map[string]bool, to string) error {
	parts := strings.Split(strings.TrimPrefix(path.Dir(to), "/"), "/")
	for i := range parts {
		dir := strings.Join(parts[:i+1], "/")
		if dir == "" || made[dir] {
			continue
		}
		made[dir] = true
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode}); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(t *tar.Writer, f File) error {
	in, err := os.Open(f.From)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.To, "/"), Mode: 0o755, Size: info.Size()}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, in)
	return err
}

// emptyDirs stay empty in an image: the runtime fills some of them, and tests
// that ran in the root file system may have left something in the others.
var emptyDirs = []string{"dev", "proc", "sys", "tmp", "var/tmp", "root", "run/mysqld", "var/lib/mysql", "var/lib/mysql-files"}

// WriteTree writes a layer of everything below root but the content of
// emptyDirs, with owners and modes but without times.
func WriteTree(w io.Writer, root string) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	t := tar.NewWriter(buffered)
	// WalkDir goes in lexical order, so the layer is always the same.
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if slices.Contains(emptyDirs, path.Dir(rel)) {
			return skip(d)
		}
		return writeEntry(t, name, rel, d)
	})
	if err != nil {
		return fmt.Errorf("writing a layer of %s: %w", root, err)
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("writing a layer of %s: %w", root, err)
	}
	return buffered.Flush()
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func writeEntry(t *tar.Writer, name, rel string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: rel, Mode: int64(info.Mode().Perm())}
	for bit, value := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&bit != 0 {
			h.Mode |= value
		}
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(s.Uid), int(s.Gid)
	}
	switch {
	case d.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, rel+"/"
		return t.WriteHeader(h)
	case info.Mode()&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(name); err != nil {
			return err
		}
		return t.WriteHeader(h)
	case !info.Mode().IsRegular():
		return nil
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = io.Copy(t, in)
	return err
}
