// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"fmt"
	"strings"

	"filippo.io/age"
)

// maxKeys bounds the recipients of a stream, each of which makes its header longer, and the private keys tried for one.
const maxKeys = 64

const privatePrefix = "AGE-SECRET-KEY-"

// CheckRecipients reports whether recipients can be used: "" or age public keys, one for each line; empty lines and lines
// that begin with # do not count. The error is ErrKeys.
func CheckRecipients(recipients string) error {
	if recipients == "" {
		return nil
	}
	_, err := parseRecipients(recipients)
	return err
}

// CheckIdentity reports whether identity can be used: "" or age private keys, one for each line. The error is ErrKeys and
// never quotes a key.
func CheckIdentity(identity string) error {
	if identity == "" {
		return nil
	}
	_, err := parseIdentities(identity)
	return err
}

func parseRecipients(recipients string) ([]age.Recipient, error) {
	var parsed []age.Recipient
	for n, line := range keyLines(recipients) {
		if strings.HasPrefix(line, privatePrefix) {
			return nil, fmt.Errorf("%w: line %d of the recipients is a private key, which does not belong there; its public key does", ErrKeys, n)
		}
		r, err := age.ParseRecipients(strings.NewReader(line))
		if err != nil {
			return nil, fmt.Errorf("%w: line %d of the recipients is no age public key (age1…)", ErrKeys, n)
		}
		parsed = append(parsed, r...)
	}
	return parsed, countKeys(len(parsed), "recipients")
}

func parseIdentities(identity string) ([]age.Identity, error) {
	var parsed []age.Identity
	for n, line := range keyLines(identity) {
		if strings.HasPrefix(line, "age1") {
			return nil, fmt.Errorf("%w: line %d of the identity is a public key; its private key (%s…) is needed", ErrKeys, n, privatePrefix)
		}
		// What the parser says is left out: it could quote a part of the key.
		i, err := age.ParseIdentities(strings.NewReader(line))
		if err != nil {
			return nil, fmt.Errorf("%w: line %d of the identity is no age private key (%s…)", ErrKeys, n, privatePrefix)
		}
		parsed = append(parsed, i...)
	}
	return parsed, countKeys(len(parsed), "identity")
}

func countKeys(n int, name string) error {
	if n == 0 {
		return fmt.Errorf("%w: the %s hold no key", ErrKeys, name)
	}
	if n > maxKeys {
		return fmt.Errorf("%w: the %s hold %d keys, at most %d are possible", ErrKeys, name, n, maxKeys)
	}
	return nil
}

// keyLines returns the lines that hold a key by their number, which begins with 1.
func keyLines(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(text) {
			n++
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") && !yield(n, line) {
				return
			}
		}
	}
}
