// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package state keeps what an agent must never forget: the identity of its data, its promise and the record it was last
// shown. It is one small file outside of mysqld's data directory, so it survives a clone.
//
// The file holds two slots of fixed size, each with a checksum over all of its bytes, allocated in full when the file is
// made. Save overwrites the first slot, flushes it, then overwrites the second and flushes that. So
//   - it can be written on a full volume, because nothing is allocated;
//   - a write torn by a crash leaves the other slot whole: the state before or after the Save, never a mixture;
//   - once Save has returned, both slots hold the same state, and the loss of either loses nothing.
//
// The caller holds the lock of the volume for as long as it uses a File. A File is safe for concurrent use. The package
// knows nothing of what the values mean: pkg/agent does.
package state
