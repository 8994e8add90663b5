// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package document

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrDamaged is wrapped by every error about bytes that are no document as Encode writes it.
var ErrDamaged = errors.New("damaged document")

const (
	sumBegin = " \"sha256\": \""
	sumEnd   = "\"\n}\n"
	// suffixSize is the length of the line with the sum and of the line behind it.
	suffixSize = len(sumBegin) + sha256.Size*2 + len(sumEnd)
)

// Encode writes a value, whose JSON must be an object with at least one member and none named sha256.
func Encode(value any) ([]byte, error) {
	body, err := encodeBody(value)
	if err != nil {
		return nil, err
	}
	return Seal(body), nil
}

// Seal puts the sum behind the lines of a document, whatever they are. It is for tests of what reads documents: Parse refuses
// what Encode would not have written.
func Seal(lines []byte) []byte {
	sum := sha256.Sum256(lines)
	return append(lines, sumBegin+hex.EncodeToString(sum[:])+sumEnd...)
}

// encodeBody is the document up to the line with the sum.
func encodeBody(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("encoding a document: %w", err)
	}
	body, isObject := bytes.CutSuffix(text.Bytes(), []byte("\n}\n"))
	if !isObject {
		return nil, fmt.Errorf("%w: a value that is no object with members", ErrDamaged)
	}
	return append(body, ",\n"...), nil
}

// Parse reads a document of at most limit bytes into value. Errors wrap ErrDamaged. value is of use only without one.
func Parse[T any](data []byte, limit int, value *T) error {
	if len(data) > limit || len(data) < suffixSize {
		return fmt.Errorf("%w: %d bytes; at least %d and at most %d are expected", ErrDamaged, len(data), suffixSize, limit)
	}
	body, suffix := data[:len(data)-suffixSize], data[len(data)-suffixSize:]
	sum := sha256.Sum256(body)
	if string(suffix) != sumBegin+hex.EncodeToString(sum[:])+sumEnd {
		return fmt.Errorf("%w: its sum is wrong, so it was changed or is not whole", ErrDamaged)
	}
	inner, ok := bytes.CutSuffix(body, []byte(",\n"))
	if !ok {
		return fmt.Errorf("%w: no line before the sum", ErrDamaged)
	}
	decoder := json.NewDecoder(bytes.NewReader(append(bytes.Clone(inner), "\n}\n"...)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	again, err := encodeBody(value)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, body) {
		return fmt.Errorf("%w: it is not written as this version writes it", ErrDamaged)
	}
	return nil
}
