// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Fields of the header of a compressed transaction, and the ways it can be compressed.
const (
	payloadEnd      = 0
	payloadMethod   = 2
	methodZstandard = 0
	methodNone      = 255
)

const (
	// maxWindow bounds the memory of decompression; the server's default level takes 2 MiB.
	maxWindow = 16 << 20
	// firstStatement bounds what is decompressed: the first event within a transaction is a short statement.
	firstStatement = 4 << 10
)

// firstInside is the statement with which a compressed transaction begins, empty when it cannot be read.
func firstInside(body []byte) query {
	in := cursor{rest: body}
	method := uint64(methodZstandard)
	for {
		field := in.lengthEncoded()
		if in.short {
			return query{}
		}
		if field == payloadEnd {
			break
		}
		value := cursor{rest: in.take(int(min(in.lengthEncoded(), maxKept)))}
		if field == payloadMethod {
			method = value.lengthEncoded()
		}
	}
	plain := in.rest
	if method == methodZstandard {
		plain = decompress(in.rest)
	} else if method != methodNone {
		return query{}
	}
	if len(plain) < headerSize || plain[4] != typeQuery {
		return query{}
	}
	size := min(int64(binary.LittleEndian.Uint32(plain[9:])), int64(len(plain)))
	return decodeQuery(plain[headerSize:max(headerSize, size)])
}

// decompress returns the beginning of what was compressed, as far as it can be read.
func decompress(compressed []byte) []byte {
	decoder, err := zstd.NewReader(bytes.NewReader(compressed), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil
	}
	defer decoder.Close()
	plain := make([]byte, firstStatement)
	n, _ := io.ReadFull(decoder, plain) // a short one ends early, a long one is cut within a block
	return plain[:n]
}
