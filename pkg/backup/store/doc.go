// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package store reads and writes objects of a store: a bucket of S3 or of a server that speaks its protocol, of Google
// Cloud Storage, a container of Azure, a directory, or memory.
//
// It knows nothing of backups: keys are paths with slashes below the store's prefix, and content is bytes. Agents and the
// Jobs of backups call it; the controller does not. What holds for every provider, and is tested for every one:
//
//   - An object is there whole or not at all. A write that fails, is cut off or whose process dies leaves nothing under its
//     key (or what was there before), and Write says so. What a store keeps besides (parts of an upload, temporary files)
//     is removed by the writer if it lives, and never listed.
//   - WriteNew writes an object only if there is none, even if two do it at the same moment.
//   - A written object is durable, and seen at once by Reader and List.
//   - Memory is bounded by Options, however large an object is.
//   - Only the credentials of the wire.Store are used: never those of the process, its environment, its files or the
//     machine it runs on, for a store belongs to a user and the process does not.
//   - Errors are those that begin with Err by errors.Is, the caller's own, or the context's; their text names bucket and
//     endpoint, never a credential.
//
// Objects of buckets and containers are read, listed, deleted and, when they are small, written by the drivers of
// gocloud.dev/blob, on clients that this package makes. What those drivers cannot promise the clients do themselves: objects
// of several parts in S3 and Azure, what is left of them, and deletions in S3. A comment at each says why.
//
// A Bucket may be used by any number of goroutines.
package store
