// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Spec says what an image consists of.
type Spec struct {
	// Name is the full name with a tag.
	Name string
	// Key names the content in the cache; empty when it is not kept there.
	Key string
	// Config is what runs in it.
	Config v1.Config
	// Write writes the one layer as a tar.
	Write func(io.Writer) error
}

// Built is a built image in a directory of this machine.
type Built struct {
	// Name is the full name with a tag.
	Name string
	// Digest is the manifest's, sha256:….
	Digest string
	// Archive is the OCI archive, as ctr images import reads it.
	Archive string
	// Image is the image itself.
	Image v1.Image
}

// Build makes the image in dir. The same spec gives the same digest.
func Build(spec Spec, dir string, packing Packing) (Built, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Built{}, fmt.Errorf("building the image %s: %w", spec.Name, err)
	}
	img, err := assemble(spec, filepath.Join(dir, "layer.tar"), packing)
	if err != nil {
		return Built{}, fmt.Errorf("building the image %s: %w", spec.Name, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Built{}, fmt.Errorf("building the image %s: %w", spec.Name, err)
	}
	return Built{Name: spec.Name, Digest: digest.String(), Archive: filepath.Join(dir, "image.tar"), Image: img}, nil
}

// Packing tells how a layer is stored.
type Packing string

// The ways to store a layer: what containerd unpacks fastest, for a local cluster,
// and what every registry and engine takes.
const (
	Zstd Packing = "zstd"
	Gzip Packing = "gzip"
)

func assemble(spec Spec, layerFile string, packing Packing) (v1.Image, error) {
	if err := writeLayer(spec, layerFile); err != nil {
		return nil, err
	}
	layer, err := newLayer(layerFile, packing)
	if err != nil {
		return nil, err
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", architecture, spec.Config
	return mutate.ConfigFile(img, file)
}

func newLayer(file string, packing Packing) (v1.Layer, error) {
	if packing == Zstd {
		return tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayerZStd), tarball.WithCompression(compression.ZStd))
	}
	return tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer), tarball.WithCompression(compression.GZip))
}

func writeLayer(spec Spec, to string) error {
	out, err := os.Create(to + ".partial")
	if err != nil {
		return err
	}
	defer out.Close()
	if err := spec.Write(out); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.Rename(to+".partial", to)
}

// Save writes the archive, with the name by which containerd will know the
// image.
func (b Built) Save() error {
	dir, err := os.MkdirTemp(filepath.Dir(b.Archive), "layout")
	if err != nil {
		return fmt.Errorf("saving the image %s: %w", b.Name, err)
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("saving the image %s: %w", b.Name, err)
	}
	// The annotation is containerd's own: images.AnnotationImageName.
	names := map[string]string{"io.containerd.image.name": b.Name, "org.opencontainers.image.ref.name": b.Name}
	if err := l.AppendImage(b.Image, layout.WithAnnotations(names)); err != nil {
		return fmt.Errorf("saving the image %s: %w", b.Name, err)
	}
	out, err := os.Create(b.Archive)
	if err != nil {
		return fmt.Errorf("saving the image %s: %w", b.Name, err)
	}
	defer out.Close()
	t := tar.NewWriter(out)
	if err := t.AddFS(os.DirFS(dir)); err != nil {
		return fmt.Errorf("saving the image %s: %w", b.Name, err)
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("saving the image %s: %w", b.Name, err)
	}
	return out.Close()
}
