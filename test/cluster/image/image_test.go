// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func sample(t *testing.T) Spec {
	t.Helper()
	return program("docker.io/moco-mysql/sample:1", productUser, "/bin/sample",
		File{From: write(t, filepath.Join(t.TempDir(), "built"), "a program"), To: "/bin/sample"})
}

func build(t *testing.T, spec Spec, packing Packing) Built {
	t.Helper()
	b, err := Build(spec, t.TempDir(), packing)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// contents lists an image's files as "type name mode uid content-or-target".
func contents(t *testing.T, img v1.Image) map[string]tar.Header {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]tar.Header{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for tr := tar.NewReader(r); ; {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			found[h.Name] = tar.Header{Typeflag: h.Typeflag, Mode: h.Mode, Size: h.Size, Linkname: h.Linkname}
		}
	}
	return found
}

func TestTheSameFilesGiveTheSameDigestAtAnotherTimeAndPlace(t *testing.T) {
	for _, packing := range []Packing{Zstd, Gzip} {
		first, second := build(t, sample(t), packing), build(t, sample(t), packing)
		if diff := cmp.Diff(first.Digest, second.Digest); diff != "" {
			t.Errorf("%s digest differs (-first +second):\n%s", packing, diff)
		}
	}
}

func TestAnotherFileGivesAnotherDigest(t *testing.T) {
	other := program("docker.io/moco-mysql/sample:1", productUser, "/bin/sample",
		File{From: write(t, filepath.Join(t.TempDir(), "built"), "b program"), To: "/bin/sample"})
	if a, b := build(t, sample(t), Zstd).Digest, build(t, other, Zstd).Digest; a == b {
		t.Errorf("two images with different programs have the digest %s", a)
	}
}

// Nodes of the local cluster and registries get differently packed layers of one
// image: what runs must not depend on which.
func TestPackingDoesNotChangeTheImageID(t *testing.T) {
	spec := sample(t)
	quick, err := build(t, spec, Zstd).Image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	packed, err := build(t, spec, Gzip).Image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(quick, packed); diff != "" {
		t.Errorf("image ID differs (-zstd +gzip):\n%s", diff)
	}
}

func TestATreeKeepsModesAndLinksAndLeavesOutWhatTheRuntimeMakes(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "usr/sbin/mysqld"), "server")
	write(t, filepath.Join(root, "tmp/left-by-a-test/file"), "junk")
	write(t, filepath.Join(root, "dev/null"), "")
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("usr/sbin", filepath.Join(root, "sbin")); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Name: "docker.io/library/tree:1", Write: func(w io.Writer) error { return WriteTree(w, root) }}
	want := map[string]tar.Header{
		"dev/":            {Typeflag: tar.TypeDir, Mode: 0o755},
		"sbin":            {Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: "usr/sbin"},
		"tmp/":            {Typeflag: tar.TypeDir, Mode: 0o1777},
		"usr/":            {Typeflag: tar.TypeDir, Mode: 0o755},
		"usr/sbin/":       {Typeflag: tar.TypeDir, Mode: 0o755},
		"usr/sbin/mysqld": {Typeflag: tar.TypeReg, Mode: 0o755, Size: 6},
	}
	if diff := cmp.Diff(want, contents(t, build(t, spec, Zstd).Image)); diff != "" {
		t.Errorf("contents differ (-want +got):\n%s", diff)
	}
}

func TestASavedArchiveNamesItsImageForContainerd(t *testing.T) {
	b := build(t, sample(t), Zstd)
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	dir := unpack(t, b.Archive)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	got := manifest.Manifests[0]
	if diff := cmp.Diff(b.Name, got.Annotations["io.containerd.image.name"]); diff != "" {
		t.Errorf("name differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(b.Digest, got.Digest.String()); diff != "" {
		t.Errorf("digest differs (-want +got):\n%s", diff)
	}
}

func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, h.Name), string(content))
	}
}

func TestAStoreBuildsAnewOnlyWhatChanged(t *testing.T) {
	source := write(t, filepath.Join(t.TempDir(), "built"), "one")
	spec := program("docker.io/moco-mysql/sample:1", productUser, "/sample", File{From: source, To: "/sample"})
	said := 0
	s := Store{Dir: t.TempDir(), Say: func(string, ...any) { said++ }}
	get := func() string {
		t.Helper()
		a, err := s.Get(spec)
		if err != nil {
			t.Fatal(err)
		}
		return a.Digest
	}
	first := get()
	if again := get(); again != first || said != 1 {
		t.Errorf("the second time: digest %s, %d builds; want %s, 1", again, said, first)
	}
	write(t, source, "two")
	if changed := get(); changed == first || said != 2 {
		t.Errorf("after a change: digest %s, %d builds; want another digest, 2", changed, said)
	}
}

func TestAPushedImageIsWhatARegistryServes(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	prefix := strings.TrimPrefix(server.URL, "http://") + "/team/moco"
	digest, err := Push(t.Context(), sample(t), prefix, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(prefix + "/sample:1")
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(tag, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	got, err := pulled.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(prefix+"/sample@"+got.String(), digest); diff != "" {
		t.Errorf("digest differs (-registry +told):\n%s", diff)
	}
	want := map[string]tar.Header{
		"bin/":       {Typeflag: tar.TypeDir, Mode: 0o755},
		"bin/sample": {Typeflag: tar.TypeReg, Mode: 0o755, Size: 9},
	}
	if diff := cmp.Diff(want, contents(t, pulled)); diff != "" {
		t.Errorf("contents differ (-want +got):\n%s", diff)
	}
	config, err := pulled.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/bin/sample", productUser}, append(config.Config.Entrypoint, config.Config.User)); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
}

func TestAPushToABadPrefixIsRefusedWithItsName(t *testing.T) {
	_, err := Push(t.Context(), sample(t), "registry.example.com/UPPER", t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "registry.example.com/UPPER/sample:1") {
		t.Errorf("error = %v; want one that names registry.example.com/UPPER/sample:1", err)
	}
}

func TestRename(t *testing.T) {
	names := map[string]string{
		Agent:    Under("registry.example.com/moco/", Agent),
		Exporter: Under("registry.example.com/moco", Exporter),
	}
	tests := map[string]struct{ in, want string }{
		"the short name of an image": {
			"  image: moco-mysql/moco-agent:0.1.0\n", "  image: registry.example.com/moco/moco-agent:0.1.0\n"},
		"the full name in quotes": {
			"  image: \"docker.io/moco-mysql/moco-agent:0.1.0\"\n", "  image: \"registry.example.com/moco/moco-agent:0.1.0\"\n"},
		"a flag's value on the last line": {
			"  - --exporter-image=prom/mysqld-exporter:v0.19.0", "  - --exporter-image=registry.example.com/moco/mysqld-exporter:v0.19.0"},
		"another registry's image of that name stays": {
			"  image: other.example.com/moco-mysql/moco-agent:0.1.0\n", "  image: other.example.com/moco-mysql/moco-agent:0.1.0\n"},
		"another tag stays": {
			"  image: moco-mysql/moco-agent:0.1.0-rc1\n", "  image: moco-mysql/moco-agent:0.1.0-rc1\n"},
		"text that mentions it stays": {
			"  # moco-mysql/moco-agent:0.1.0 is the agent\n", "  # moco-mysql/moco-agent:0.1.0 is the agent\n"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Rename(tc.in, names)); diff != "" {
				t.Errorf("text differs (-want +got):\n%s", diff)
			}
		})
	}
}
