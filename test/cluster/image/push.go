// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Under returns the image's name below prefix: its last path element and tag.
// A prefix is a registry, or a registry and a path.
func Under(prefix, image string) string {
	return strings.TrimSuffix(prefix, "/") + "/" + image[strings.LastIndexByte(image, '/')+1:]
}

// Push builds spec in dir and pushes it below prefix, with the credentials of
// the Docker configuration. It returns the name by digest; the tag is pushed, too.
func Push(ctx context.Context, spec Spec, prefix, dir string) (string, error) {
	to := Under(prefix, spec.Name)
	tag, err := name.NewTag(to, name.StrictValidation)
	if err != nil {
		return "", fmt.Errorf("pushing %s: %w", to, err)
	}
	built, err := Build(spec, filepath.Join(dir, unsafe.ReplaceAllString(spec.Name, "-")), Gzip)
	if err != nil {
		return "", err
	}
	err = remote.Write(tag, built.Image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return "", fmt.Errorf("pushing %s: %w", to, err)
	}
	return tag.Context().Name() + "@" + built.Digest, nil
}

// Shortest returns the name as people and manifests write it: without the
// registry and the folder that are meant when none is named.
func Shortest(image string) string {
	return strings.TrimPrefix(strings.TrimPrefix(image, "docker.io/"), "library/")
}

// Rename replaces image names in YAML text; names maps a full name to the new
// one. Both the full and the short form are replaced, where the whole of a value
// or of a flag's value is that name.
func Rename(text string, names map[string]string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		for old, renamed := range names {
			for _, form := range []string{old, Shortest(old)} {
				if at := valueAt(line, form); at >= 0 {
					lines[i] = line[:at] + renamed + line[at+len(form):]
				}
			}
		}
	}
	return strings.Join(lines, "")
}

// valueAt finds value at the end of line, after a space, a quote or a flag's '='.
func valueAt(line, value string) int {
	body := strings.TrimRight(line, " \r\n\"'")
	at := len(body) - len(value)
	if at < 1 || body[at:] != value || !strings.ContainsRune(" =\"'", rune(body[at-1])) {
		return -1
	}
	return at
}
