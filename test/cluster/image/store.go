// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Store keeps the archives of built images.
type Store struct {
	// Dir holds a directory per image.
	Dir string
	// Say reports what is built.
	Say func(format string, args ...any)
}

// Archive is an image ready to be loaded.
type Archive struct {
	// Name is the full name with a tag, Digest the manifest's, Path the file.
	Name, Digest, Path string
}

var unsafe = regexp.MustCompile(`[^a-zA-Z0-9.]+`)

// Get returns the archive of spec. One with a key is built once, any other each
// time; an archive is written only when the digest is a new one.
func (s Store) Get(spec Spec) (Archive, error) {
	key := spec.Key
	if key == "" {
		key = unsafe.ReplaceAllString(spec.Name, "-")
	}
	dir := filepath.Join(s.Dir, key+"."+string(Zstd))
	known, _ := os.ReadFile(filepath.Join(dir, "digest"))
	a := Archive{Name: spec.Name, Digest: strings.TrimSpace(string(known)), Path: filepath.Join(dir, "image.tar")}
	if spec.Key != "" && a.Digest != "" {
		return a, nil
	}
	built, err := Build(spec, dir, Zstd)
	if err != nil {
		return Archive{}, err
	}
	defer os.Remove(filepath.Join(dir, "layer.tar"))
	if built.Digest == a.Digest {
		return a, nil
	}
	s.Say("built image %s", spec.Name)
	// An interrupted Save must not leave a digest that another archive had.
	if err := os.RemoveAll(filepath.Join(dir, "digest")); err != nil {
		return Archive{}, fmt.Errorf("keeping the image %s: %w", spec.Name, err)
	}
	if err := built.Save(); err != nil {
		return Archive{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "digest"), []byte(built.Digest+"\n"), 0o644); err != nil {
		return Archive{}, fmt.Errorf("keeping the image %s: %w", spec.Name, err)
	}
	a.Digest = built.Digest
	return a, nil
}
