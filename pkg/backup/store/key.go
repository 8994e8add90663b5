// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strings"
)

const (
	maxKeyBytes     = 900 // S3 and Google take 1024, Azure as many characters
	maxElementBytes = 200 // of a file 255, and its temporary name is longer
	// partialName is the directory, at the top of a volume, of files that are being written.
	partialName = ".moco-partial"
	// escapeMark is how the library begins the name of a character that a provider does not take: an object whose key holds
	// it would be listed under another.
	escapeMark = "__0x"
)

// checkKey reports whether a key means the same to every provider: elements between single slashes, none of them . or ..,
// of printable ASCII characters but for those that some provider escapes.
func checkKey(key string) error {
	if key == "" || len(key) > maxKeyBytes {
		return invalid("a key has 1 to %d characters, not %d", maxKeyBytes, len(key))
	}
	for element := range strings.SplitSeq(key, "/") {
		if element == "" || element == "." || element == ".." || element == partialName || len(element) > maxElementBytes {
			return invalid("the key %q has the element %q, which is not allowed", oneLine(key), oneLine(element))
		}
	}
	if strings.Contains(key, escapeMark) {
		return invalid("the key %q has %q, which is not allowed", oneLine(key), escapeMark)
	}
	for _, r := range key {
		if r <= ' ' || r > '~' || strings.ContainsRune("\\\"'`<>|?*#%&^{}", r) {
			return invalid("the key %q has the character %q, which is not allowed", oneLine(key), r)
		}
	}
	return nil
}
