// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

var errClosed = errors.New("the writer is closed")

// Writer seals what is written to it.
type Writer struct {
	raw, stored *Meter
	compressor  *zstd.Encoder
	// encryptor is nil when nothing is encrypted.
	encryptor io.Closer
	err       error
}

// NewWriter seals to dst with the default Options: it compresses, and encrypts for the recipients if there are any. Close
// must be called, and does not close dst.
func NewWriter(dst io.Writer, recipients string) (*Writer, error) {
	return NewWriterWith(dst, recipients, Options{})
}

// NewWriterWith seals to dst. Errors are ErrKeys or those of dst.
func NewWriterWith(dst io.Writer, recipients string, o Options) (*Writer, error) {
	o = o.bounded()
	w := &Writer{raw: NewMeter(), stored: NewMeter()}
	out := io.Writer(&tee{dst: dst, meter: w.stored})
	if recipients != "" {
		keys, err := parseRecipients(recipients)
		if err != nil {
			return nil, err
		}
		encryptor, err := age.Encrypt(out, keys...)
		if err != nil {
			return nil, fmt.Errorf("encrypting: %w", err)
		}
		w.encryptor, out = encryptor, encryptor
	}
	// A frame is written even for nothing: an empty file is never a sealed stream.
	compressor, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(o.Concurrency), zstd.WithWindowSize(o.WindowBytes),
		zstd.WithEncoderCRC(true), zstd.WithZeroFrames(true), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("compressing: %w", err)
	}
	w.compressor = compressor
	return w, nil
}

// Write seals p. After an error every further call returns it.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.compressor.Write(p)
	_, _ = w.raw.Write(p[:n])
	if err != nil {
		w.err = fmt.Errorf("compressing: %w", err)
	}
	return n, w.err
}

// Close writes what is left, without which the stream is not complete.
func (w *Writer) Close() error {
	if errors.Is(w.err, errClosed) {
		return nil
	}
	failed := w.err
	w.err = errClosed
	if err := w.compressor.Close(); err != nil && failed == nil {
		failed = fmt.Errorf("compressing: %w", err)
	}
	// The mark of the end is left out of a stream that failed, so that nobody takes it for a complete one.
	if w.encryptor == nil || failed != nil {
		return failed
	}
	if err := w.encryptor.Close(); err != nil {
		return fmt.Errorf("encrypting: %w", err)
	}
	return nil
}

// Raw is the Sum of what was written.
func (w *Writer) Raw() Sum { return w.raw.Sum() }

// Stored is the Sum of what dst got; final after Close.
func (w *Writer) Stored() Sum { return w.stored.Sum() }

// tee meters what dst takes.
type tee struct {
	dst   io.Writer
	meter *Meter
}

func (t *tee) Write(p []byte) (int, error) {
	n, err := t.dst.Write(p)
	_, _ = t.meter.Write(p[:min(max(n, 0), len(p))])
	return n, err
}
