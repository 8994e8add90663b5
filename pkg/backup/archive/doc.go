// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package archive is the format of the index of a continuous archive of binary logs. It is pure: it knows no store and
// reads no binary log.
//
// An archive consists of streams. A stream is one run of the archiver on the open primary of one epoch: nobody else writes
// to it. It consists of segments, whole transactions of one binary log file each, and of pages, each of which lists up to
// MaxSegments segments. A page is written after its segments; the last page of a stream is written again as it grows, and
// never again once the next one exists. Segments that no page lists do not count.
//
// Pages form a chain: each holds the sum of the one before, and each segment's entry the sum over all entries before. So a
// page or an entry that is missing, or is of another stream, is found. A stream whose first pages were deleted because no
// backup needs them begins with a later page: every page says itself what it presumes.
//
// docs/backup-format.md describes the format for people.
package archive
