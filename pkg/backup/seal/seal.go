// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
)

// What errors of this package are, by errors.Is.
var (
	// ErrKeys: recipients or an identity cannot be understood; no data is at fault.
	ErrKeys = errors.New("invalid age keys")
	// ErrWrongKey: the stream is encrypted and none of the private keys opens it, or none was given.
	ErrWrongKey = errors.New("no private key opens it")
	// ErrDamaged: the stream was cut off or altered, or was never sealed.
	ErrDamaged = errors.New("damaged")
)

// Sum is the length and the hash of a stream.
type Sum struct {
	Bytes int64
	// SHA256 in lower case hexadecimal digits.
	SHA256 string
}

// Options of a Writer and a Reader. Zero values mean the defaults; others are brought into their range.
type Options struct {
	// Concurrency is how many cores one stream may use, 1 to 16; default 1.
	Concurrency int
	// WindowBytes is how far back the compressor looks, 64 KiB to 8 MiB, made a power of two; default 1 MiB. A Writer
	// needs about WindowBytes * 4 * Concurrency of memory.
	WindowBytes int
}

const (
	maxConcurrency = 16
	minWindow      = 64 << 10
	defaultWindow  = 1 << 20
	maxWindow      = 8 << 20
)

func (o Options) bounded() Options {
	o.Concurrency = min(max(o.Concurrency, 1), maxConcurrency)
	if o.WindowBytes == 0 {
		o.WindowBytes = defaultWindow
	}
	w := minWindow
	for w < o.WindowBytes && w < maxWindow {
		w *= 2
	}
	o.WindowBytes = w
	return o
}

// Suffix is what the key of a sealed object ends with: .zst, or .zst.age when there are recipients.
func Suffix(recipients string) string {
	if recipients == "" {
		return ".zst"
	}
	return ".zst.age"
}

// Meter counts and hashes what is written to it. NewMeter makes one.
type Meter struct {
	hash  hash.Hash
	bytes int64
}

// NewMeter makes a Meter.
func NewMeter() *Meter { return &Meter{hash: sha256.New()} }

// Write counts and hashes p; it never fails.
func (m *Meter) Write(p []byte) (int, error) {
	m.bytes += int64(len(p))
	return m.hash.Write(p)
}

// Sum of what was written so far.
func (m *Meter) Sum() Sum {
	return Sum{Bytes: m.bytes, SHA256: hex.EncodeToString(m.hash.Sum(nil))}
}
