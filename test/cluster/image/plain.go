// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// plainLayer is a layer that is stored as the tar it is. The library's own
// layers are always compressed, whatever media type they are given.
type plainLayer struct {
	path   string
	digest v1.Hash
	size   int64
}

func newPlainLayer(path string) (v1.Layer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, f)
	if err != nil {
		return nil, fmt.Errorf("reading a layer: %w", err)
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return partial.CompressedToLayer(&plainLayer{path: path, digest: digest, size: size})
}

// Digest is the hash of the stored layer.
func (l *plainLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID is the hash of the unpacked layer: here, the same.
func (l *plainLayer) DiffID() (v1.Hash, error) { return l.digest, nil }

// Compressed returns the layer as it is stored.
func (l *plainLayer) Compressed() (io.ReadCloser, error) { return os.Open(l.path) }

// Size is that of the stored layer, in bytes.
func (l *plainLayer) Size() (int64, error) { return l.size, nil }

// MediaType says that the layer is not compressed.
func (l *plainLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }
