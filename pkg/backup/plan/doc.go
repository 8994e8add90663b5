// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plan decides from which backup and which segments of an archive a point is restored. It is pure.
//
// A plan reaches exactly the point that was asked for, or there is none and a Refusal says why. What a segment presumes must
// be there before it is used (else there is a gap), and everything that is there must be something that its stream presumes
// or holds (else histories differ: an accepted loss, or a restore in place). So every state on the way is one that the
// cluster was in.
//
// The index says what a segment holds, not in which order: where to cut within a segment is found by Cut.Find, which reads
// the binary log itself.
package plan
