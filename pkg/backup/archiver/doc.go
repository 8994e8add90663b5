// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package archiver copies the binary log of an open primary into a store, as package archive describes it, while mysqld
// writes it.
//
// It takes only transactions that mysqld has in gtid_executed: those in the binary log whose acknowledgement is still
// waited for may be cut off by a failover, and must never be restored. So whatever is in the archive belongs to the history
// that survives, and an object that arrives late does no harm.
//
// One run writes one stream, which nobody else writes to. A run that cannot know whether an object was written ends, and the
// next one begins a new stream after reading in the store how far the archive is. Keep makes one run after the other; it is
// called by the agent for as long as its instance is the open primary, and ends with its context. It uses no clock, file or
// server but those it is given, waits for nobody else, and nobody waits for it.
//
// Memory is bounded however large a transaction is: a segment is read twice, once to find its end and what is in it, and
// once to send it.
package archiver
