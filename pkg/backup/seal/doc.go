// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package seal compresses a stream (zstd) and, if asked to, encrypts it (age) before it leaves a Pod, and undoes both. It
// counts and hashes what goes in and what comes out.
//
// Every sealed stream is a file that ordinary tools open: zstd -d, or age -d | zstd -d. Both formats carry checksums, and
// the Reader reports every truncated or altered stream before it reports the end.
//
// A Writer or Reader belongs to one goroutine; memory is bounded by Options, however long the stream is.
package seal
