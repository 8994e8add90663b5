// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/document"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

var at = time.Date(2026, 11, 21, 16, 5, 0, 123_456_789, time.UTC)

func sum(digit string) string { return strings.Repeat(digit, 64) }

// physical has a file of two parts, an empty file and an empty directory.
func physical() *Manifest {
	checksum := uint64(4_023_456_789)
	return &Manifest{
		ID: NewID(at, "5F2B8C1E-0000-4000-8000-000000000001"), Attempt: "k3x9", Method: Physical,
		Cluster:   wire.ClusterKey{Namespace: "shop", Name: "db", UID: "0e6d0c2e-6a36-4f53-9a5c-111111111111"},
		CreatedAt: at.Add(time.Minute), ConsistentAt: at,
		GTIDExecuted: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-77:moco_e2:1", MySQLVersion: "9.7.4", ServerUUID: "3e11fa47-71ca-11e1-9e33-c80aa9429562",
		Settings: map[string]string{"lower_case_table_names": "0", "innodb_page_size": "16384", "innodb_data_file_path": "ibdata1:12M:autoextend"},
		Bytes:    PartSize + 10, StoredBytes: 300,
		Packs: []Pack{
			{Name: PackName(0), StoredBytes: 200, SHA256: sum("a"), Entries: []Entry{
				{Path: "d/t@0023.ibd", Part: 0, Offset: 0, Length: PartSize, SHA256: sum("b")},
			}},
			{Name: PackName(1), StoredBytes: 100, SHA256: sum("c"), Entries: []Entry{
				{Path: "#innodb_redo/empty", SHA256: sum("d")},
				{Path: "d/t@0023.ibd", Part: 1, Offset: PartSize, Length: 10, SHA256: sum("e")},
			}},
		},
		Directories: []string{"#innodb_redo", "d", "empty"},
		Files:       []File{{Path: "#innodb_redo/empty", Mode: 0o640}, {Path: "d/t@0023.ibd", Size: PartSize + 10, Mode: 0o640}},
		Tables: []Table{
			{Schema: "d", Name: "t#", Engine: "InnoDB", Rows: 12, Checksum: &checksum},
			{Schema: "d", Name: "u", Engine: "CSV", Rows: 0},
		},
	}
}

func logical() *Manifest {
	m := physical()
	m.Method, m.Packs, m.Files, m.Directories, m.Settings, m.Encrypted = Logical, nil, nil, nil, nil, true
	m.StoredBytes = 77
	m.Dump = &Dump{Name: DumpName + EncryptedSuffix, StoredBytes: 77, SHA256: sum("a"), RawSHA256: sum("b"), Schemas: []string{"d"}}
	return m
}

func encode(t testing.TB, m *Manifest) []byte {
	t.Helper()
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestManifestsAreWrittenAsEver(t *testing.T) {
	for name, m := range map[string]*Manifest{"physical": physical(), "logical": logical()} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".json")
			data := encode(t, m)
			if *update {
				if err := os.WriteFile(file, data, 0o644); err != nil { //nolint:gosec // for everybody to read
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(data)); diff != "" {
				t.Error(diff)
			}
			read, err := Parse(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(data, encode(t, read)); diff != "" {
				t.Errorf("read and written again:\n%s", diff)
			}
		})
	}
}

func TestTimesAreRoundedToTheSafeSide(t *testing.T) {
	read, err := Parse(encode(t, physical()))
	if err != nil {
		t.Fatal(err)
	}
	if got := read.Summary(); got.ConsistentAt.Before(at) || got.ConsistentAt.Sub(at) >= time.Microsecond || got.CreatedAt.After(at.Add(time.Minute)) {
		t.Errorf("consistent at %v, created at %v", got.ConsistentAt, got.CreatedAt)
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	for name, m := range map[string]*Manifest{"physical": physical(), "logical": logical()} {
		data := encode(t, m)
		for n := range data {
			for bit := range 8 {
				flipped := bytes.Clone(data)
				flipped[n] ^= 1 << bit
				if _, err := Parse(flipped); !errors.Is(err, document.ErrDamaged) {
					t.Fatalf("%s: bit %d of byte %d: %v", name, bit, n, err)
				}
			}
			if _, err := Parse(data[:n]); !errors.Is(err, document.ErrDamaged) {
				t.Fatalf("%s: cut at %d: %v", name, n, err)
			}
		}
	}
}

// TestImpossibleManifestsAreRefused checks what Encode refuses: Parse makes the same checks.
func TestImpossibleManifestsAreRefused(t *testing.T) {
	file := func(path string) func(m *Manifest) {
		return func(m *Manifest) {
			m.Files[1].Path, m.Packs[0].Entries[0].Path, m.Packs[1].Entries[1].Path = path, path, path
		}
	}
	cases := map[string]struct {
		field  string
		change func(m *Manifest)
	}{
		"an id that leads elsewhere":             {"id", func(m *Manifest) { m.ID = "../20261121T160500Z-5f2b8c1e" }},
		"an attempt that leads elsewhere":        {"attempt", func(m *Manifest) { m.Attempt = ".." }},
		"another method":                         {"method", func(m *Manifest) { m.Method = "Magic" }},
		"a cluster with a slash":                 {"cluster", func(m *Manifest) { m.Cluster.Name = "a/b" }},
		"a cluster without a UID":                {"cluster", func(m *Manifest) { m.Cluster.UID = "" }},
		"a cluster that leads upwards":           {"cluster", func(m *Manifest) { m.Cluster.Namespace = ".." }},
		"no time":                                {"createdAt", func(m *Manifest) { m.CreatedAt = time.Time{} }},
		"a set that is none":                     {"gtidExecuted", func(m *Manifest) { m.GTIDExecuted = "x" }},
		"a set written in another way":           {"gtidExecuted", func(m *Manifest) { m.GTIDExecuted = " " + m.GTIDExecuted }},
		"a version that is none":                 {"mysqlVersion", func(m *Manifest) { m.MySQLVersion = "9.7.4; rm" }},
		"a server without UUID":                  {"serverUUID", func(m *Manifest) { m.ServerUUID = "" }},
		"a setting that is not fixed":            {"settings", func(m *Manifest) { m.Settings["plugin_load"] = "x" }},
		"a setting that leads elsewhere":         {"settings", func(m *Manifest) { m.Settings["innodb_data_file_path"] = "../x:12M" }},
		"a setting with a line break":            {"settings", func(m *Manifest) { m.Settings["innodb_page_size"] = "1\ninit_file=x" }},
		"an absolute path":                       {"files[1].path", file("/etc/passwd")},
		"a path upwards":                         {"files[1].path", file("d/../../x")},
		"a path that is not the shortest":        {"files[1].path", file("d//x")},
		"a path with a backslash":                {"files[1].path", file(`d\x`)},
		"a path with a zero":                     {"files[1].path", file("d\x00")},
		"the directory itself":                   {"files[1].path", file(".")},
		"a path that looks like a part":          {"files[1].path", file("d/x#part-0001")},
		"a path of two kilobytes":                {"files[1].path", file(strings.Repeat("d", 2048))},
		"paths out of order":                     {"files[1].path", file("!")},
		"a file below a file":                    {"files[1].path", file("#innodb_redo/empty/x")},
		"a directory that is a file":             {"directories[0]", func(m *Manifest) { m.Directories[0] = "#innodb_redo/empty" }},
		"a directory upwards":                    {"directories[1]", func(m *Manifest) { m.Directories[1] = "../x" }},
		"a directory that is there twice":        {"directories[2]", func(m *Manifest) { m.Directories[2] = "d" }},
		"a negative size":                        {"files[0].size", func(m *Manifest) { m.Files[0].Size = -1 }},
		"a mode with more than permissions":      {"files[0].mode", func(m *Manifest) { m.Files[0].Mode = 0o4755 }},
		"bytes that do not add up":               {"bytes", func(m *Manifest) { m.Bytes-- }},
		"stored bytes that do not add up":        {"storedBytes", func(m *Manifest) { m.StoredBytes++ }},
		"a pack with another name":               {"packs[1].name", func(m *Manifest) { m.Packs[1].Name = "../pack-000001.tar.zst" }},
		"a pack that is there twice":             {"packs[1].name", func(m *Manifest) { m.Packs[1].Name = m.Packs[0].Name }},
		"a pack without a sum":                   {"packs[0].sha256", func(m *Manifest) { m.Packs[0].SHA256 = "" }},
		"a pack without bytes":                   {"packs[0].storedBytes", func(m *Manifest) { m.Packs[0].StoredBytes = 0 }},
		"an empty pack":                          {"packs[1].entries", func(m *Manifest) { m.Packs[1].Entries = nil }},
		"no packs":                               {"packs", func(m *Manifest) { m.Packs = nil }},
		"a part without a sum":                   {"packs[0].entries[0]", func(m *Manifest) { m.Packs[0].Entries[0].SHA256 = sum("A") }},
		"a part that is too long":                {"packs[0].entries[0]", func(m *Manifest) { m.Packs[0].Entries[0].Length++ }},
		"a hole":                                 {"files[1]", func(m *Manifest) { m.Packs[1].Entries[1].Offset++ }},
		"an overlap":                             {"files[1]", func(m *Manifest) { m.Packs[1].Entries[1].Offset-- }},
		"a missing part":                         {"files[1]", func(m *Manifest) { m.Packs[1].Entries = m.Packs[1].Entries[:1] }},
		"a part that is there twice":             {"files[1]", func(m *Manifest) { m.Packs[1].Entries[1] = m.Packs[0].Entries[0] }},
		"a part of no file":                      {"files[0]", func(m *Manifest) { m.Packs[1].Entries[0].Path = "!" }},
		"one part too many":                      {"entries", func(m *Manifest) { m.Packs[1].Entries = append(m.Packs[1].Entries, m.Packs[1].Entries[1]) }},
		"a file without parts":                   {"files[0]", func(m *Manifest) { m.Packs[1].Entries = m.Packs[1].Entries[1:] }},
		"tables out of order":                    {"tables[1]", func(m *Manifest) { m.Tables[0], m.Tables[1] = m.Tables[1], m.Tables[0] }},
		"a table without a name":                 {"tables[0]", func(m *Manifest) { m.Tables[0].Name = "" }},
		"a table with a negative number of rows": {"tables[0]", func(m *Manifest) { m.Tables[0].Rows = -1 }},
		"a dump in a physical backup":            {"dump", func(m *Manifest) { m.Dump = logical().Dump }},
		"names as if it were encrypted":          {"packs[0].name", func(m *Manifest) { m.Encrypted = true }},
		"a logical backup without a dump":        {"dump", func(m *Manifest) { *m = *logical(); m.Dump = nil }},
		"a logical backup with packs":            {"dump", func(m *Manifest) { *m = *logical(); m.Packs = physical().Packs }},
		"a dump with another name":               {"dump.name", func(m *Manifest) { *m = *logical(); m.Dump.Name = DumpName }},
		"a dump without a sum of the SQL":        {"dump.sha256", func(m *Manifest) { *m = *logical(); m.Dump.RawSHA256 = "" }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := physical()
			c.change(m)
			_, err := m.Encode()
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.field) {
				t.Errorf("got %v, want an error that names %s", err, c.field)
			}
		})
	}
}

func TestAnotherVersionIsRefused(t *testing.T) {
	m := physical()
	m.Version = Version + 1
	m.CreatedAt, m.ConsistentAt = m.CreatedAt.Truncate(time.Second), m.ConsistentAt.Truncate(time.Second)
	data, err := document.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(data); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "version") {
		t.Errorf("got %v", err)
	}
}

func TestKeysLieBelowTheCluster(t *testing.T) {
	m := physical()
	m.Version = Version
	got := []string{Key(m.Cluster, m.ID), m.ObjectKey(m.Packs[0].Name), EntryName("d/t.ibd", 0), EntryName("d/t.ibd", 12)}
	want := []string{
		"shop/db/0e6d0c2e-6a36-4f53-9a5c-111111111111/backups/20261121T160500Z-5f2b8c1e/manifest.json",
		"shop/db/0e6d0c2e-6a36-4f53-9a5c-111111111111/backups/20261121T160500Z-5f2b8c1e/k3x9/pack-000000.tar.zst",
		"d/t.ibd", "d/t.ibd#part-0012",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzParseManifest reads any value with a right sum, and any bytes: what is read is written again as it was, and no path
// leaves its directory.
func FuzzParseManifest(f *testing.F) {
	for _, m := range []*Manifest{physical(), logical()} {
		data := encode(f, m)
		f.Add(data)
		f.Add(data[:len(data)-90])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, tried := range [][]byte{data, reseal(data)} {
			m, err := Parse(tried)
			if err != nil {
				if !errors.Is(err, document.ErrDamaged) && !errors.Is(err, ErrInvalid) {
					t.Fatalf("an error of another kind: %v", err)
				}
				continue
			}
			if !bytes.Equal(encode(t, m), tried) {
				t.Fatal("read, but written in another way")
			}
			m.Summary()
			for _, file := range m.Files {
				if !filepath.IsLocal(file.Path) {
					t.Fatalf("the path %q", file.Path)
				}
			}
		}
	})
}

// reseal gives text a right sum, if it begins as a document.
func reseal(data []byte) []byte {
	if at := bytes.LastIndex(data, []byte(" \"sha256\": \"")); at >= 0 {
		data = data[:at]
	}
	return document.Seal(bytes.Clone(data))
}
