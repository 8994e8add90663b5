// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// ageMagic is what every encrypted file begins with, in any version of the format.
const ageMagic = "age-encryption.org/"

// minCompressed is less than the shortest compressed stream has.
const minCompressed = 4

// Reader opens a sealed stream.
type Reader struct {
	raw          *Meter
	source       *source
	decompressor *zstd.Decoder
	err          error
}

// NewReader opens src with the default Options. Whether it is encrypted is found from its first bytes; identity holds age
// private keys, one for each line, and "" opens only what is not encrypted. Errors are ErrKeys, ErrWrongKey, ErrDamaged or
// those of src. Close must be called, and does not close src.
func NewReader(src io.Reader, identity string) (*Reader, error) {
	return NewReaderWith(src, identity, Options{})
}

// NewReaderWith opens src.
func NewReaderWith(src io.Reader, identity string, o Options) (*Reader, error) {
	r := &Reader{raw: NewMeter(), source: &source{src: src, meter: NewMeter()}}
	in := bufio.NewReaderSize(r.source, 64<<10)
	compressed := in
	if head, _ := in.Peek(len(ageMagic)); bytes.Equal(head, []byte(ageMagic)) {
		decrypted, err := r.decrypt(in, identity)
		if err != nil {
			return nil, err
		}
		compressed = bufio.NewReader(decrypted)
	}
	// Nothing at all is valid for the decompressor, and so is an encrypted file cut off behind its header for age.
	if head, err := compressed.Peek(minCompressed); err != nil {
		return nil, r.blame(fmt.Errorf("%d bytes are too few: %w", len(head), err))
	}
	var err error
	r.decompressor, err = zstd.NewReader(compressed, zstd.WithDecoderConcurrency(o.bounded().Concurrency),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, r.blame(err)
	}
	return r, nil
}

func (r *Reader) decrypt(in io.Reader, identity string) (io.Reader, error) {
	if identity == "" {
		return nil, fmt.Errorf("%w: it is encrypted, and no private key was given", ErrWrongKey)
	}
	keys, err := parseIdentities(identity)
	if err != nil {
		return nil, err
	}
	decrypted, err := age.Decrypt(in, keys...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) && r.source.err == nil {
		return nil, fmt.Errorf("%w: it was encrypted for other keys than the %d given", ErrWrongKey, len(keys))
	}
	if err != nil {
		return nil, r.blame(err)
	}
	return decrypted, nil
}

// blame tells a source that failed from a stream that is damaged.
func (r *Reader) blame(err error) error {
	if r.source.err != nil {
		return r.source.err
	}
	// Not wrapped: an end that comes too early must not look like the end.
	return fmt.Errorf("%w: %v", ErrDamaged, err) //nolint:errorlint // see above
}

// Read reads what was sealed. io.EOF comes only after the end of the stream was verified and src was read to its end.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.decompressor.Read(p)
	_, _ = r.raw.Write(p[:n])
	switch {
	case err == nil:
	case err == io.EOF && r.source.err == nil: //nolint:errorlint // one that wraps it is an end that came too early
		r.err = io.EOF
	default:
		r.err = r.blame(err)
	}
	return n, r.err
}

// Close releases memory. Read must have ended.
func (r *Reader) Close() error {
	if r.err == nil {
		r.err = errors.New("the reader is closed")
	}
	r.decompressor.Close()
	return nil
}

// Raw is the Sum of what was read; final after io.EOF.
func (r *Reader) Raw() Sum { return r.raw.Sum() }

// Stored is the Sum of what was taken from src; final after io.EOF, and not to be asked for before.
func (r *Reader) Stored() Sum { return r.source.meter.Sum() }

// source meters what is read and keeps its failure, which the layers above would take for damage.
type source struct {
	src   io.Reader
	meter *Meter
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	_, _ = s.meter.Write(p[:n])
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
