// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// maxPath bounds a path in bytes; a schema and a table have 64 characters each, each written in up to five bytes.
const maxPath = 1024

func (m *Manifest) checkContent() error {
	switch {
	case m.Method == Logical:
		return m.checkDump()
	case m.Method != Physical:
		return invalid("method %q", m.Method)
	case m.Dump != nil:
		return invalid("dump: a physical backup has none")
	case len(m.Packs) == 0 || len(m.Files) == 0:
		return invalid("packs and files: a physical backup has some")
	}
	if err := m.checkTree(); err != nil {
		return err
	}
	if err := m.checkPacks(); err != nil {
		return err
	}
	return m.checkParts()
}

func (m *Manifest) checkDump() error {
	d := m.Dump
	switch {
	case d == nil || len(m.Packs) > 0 || len(m.Files) > 0 || len(m.Directories) > 0:
		return invalid("dump: a logical backup has one, and neither packs nor files")
	case d.Name != m.objectName(DumpName):
		return invalid("dump.name %q", d.Name)
	case d.StoredBytes <= 0 || d.StoredBytes != m.StoredBytes || m.Bytes < 0:
		return invalid("dump.storedBytes %d, of all %d", d.StoredBytes, m.StoredBytes)
	case !sumPattern.MatchString(d.SHA256) || !sumPattern.MatchString(d.RawSHA256):
		return invalid("dump.sha256 or dump.rawSHA256")
	case slices.Contains(d.Schemas, ""):
		return invalid("dump.schemas")
	}
	return nil
}

// checkTree checks paths: sorted, no path twice, none through a file.
func (m *Manifest) checkTree() error {
	files := make(map[string]bool, len(m.Files))
	var total int64
	for n, f := range m.Files {
		switch {
		case !ValidPath(f.Path) || partPattern.MatchString(f.Path):
			return invalid("files[%d].path %q", n, f.Path)
		case n > 0 && m.Files[n-1].Path >= f.Path:
			return invalid("files[%d].path %q is not behind the one before", n, f.Path)
		case f.Size < 0 || total+f.Size < total:
			return invalid("files[%d].size %d", n, f.Size)
		case f.Mode > 0o777:
			return invalid("files[%d].mode %o", n, f.Mode)
		}
		files[f.Path] = true
		total += f.Size
	}
	if total != m.Bytes {
		return invalid("bytes %d, but the files have %d", m.Bytes, total)
	}
	for n, directory := range m.Directories {
		switch {
		case !ValidPath(directory) || files[directory] || throughFile(files, directory):
			return invalid("directories[%d] %q", n, directory)
		case n > 0 && m.Directories[n-1] >= directory:
			return invalid("directories[%d] %q is not behind the one before", n, directory)
		}
	}
	for n, f := range m.Files {
		if throughFile(files, f.Path) {
			return invalid("files[%d].path %q leads through a file", n, f.Path)
		}
	}
	return nil
}

func throughFile(files map[string]bool, name string) bool {
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if files[parent] {
			return true
		}
	}
	return false
}

// ValidPath reports whether a path stays within its directory, on any system, and is written in the shortest way.
func ValidPath(name string) bool {
	return name != "" && len(name) <= maxPath && name != "." && !strings.HasPrefix(name, "/") && path.Clean(name) == name &&
		name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\\\x00\n\r")
}

func (m *Manifest) checkPacks() error {
	var total int64
	for n, p := range m.Packs {
		switch {
		case p.Name != m.objectName(PackName(n)):
			return invalid("packs[%d].name %q", n, p.Name)
		case p.StoredBytes <= 0 || total+p.StoredBytes < total:
			return invalid("packs[%d].storedBytes %d", n, p.StoredBytes)
		case !sumPattern.MatchString(p.SHA256):
			return invalid("packs[%d].sha256 %q", n, p.SHA256)
		case len(p.Entries) == 0:
			return invalid("packs[%d].entries: none", n)
		}
		total += p.StoredBytes
	}
	if total != m.StoredBytes {
		return invalid("storedBytes %d, but the packs have %d", m.StoredBytes, total)
	}
	return nil
}

// checkParts demands that the parts of each file make it whole: no hole, no overlap, nothing else.
func (m *Manifest) checkParts() error {
	var parts []Entry
	for n, p := range m.Packs {
		for i, e := range p.Entries {
			if !sumPattern.MatchString(e.SHA256) || e.Length < 0 || e.Length > PartSize || e.Length == 0 && e.Part > 0 {
				return invalid("packs[%d].entries[%d]: a part of %d bytes, or its sum", n, i, e.Length)
			}
		}
		parts = append(parts, p.Entries...)
	}
	slices.SortFunc(parts, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Part, b.Part))
	})
	at := 0
	for n, f := range m.Files {
		var end int64
		for part := 0; at < len(parts) && parts[at].Path == f.Path; part++ {
			if parts[at].Part != part || parts[at].Offset != end || parts[at].Length == 0 && f.Size > 0 {
				return invalid("files[%d] %q: part %d at %d, expected part %d at %d", n, f.Path, parts[at].Part, parts[at].Offset, part, end)
			}
			end += parts[at].Length
			at++
			if end == f.Size {
				break
			}
		}
		if end != f.Size || at == 0 || parts[at-1].Path != f.Path {
			return invalid("files[%d] %q has %d bytes, its parts have %d", n, f.Path, f.Size, end)
		}
	}
	if at != len(parts) {
		return invalid("entries: %q part %d belongs to no file, or is there twice", parts[at].Path, parts[at].Part)
	}
	return nil
}
