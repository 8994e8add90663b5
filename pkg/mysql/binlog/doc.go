// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package binlog reads one binary log file of MySQL (version 4 of the format, with CRC32 checksums, not encrypted) as a
// sequence of transactions with their places in the file. It does not read rows, it knows no server, and it opens no
// file.
//
// The agent calls it while mysqld is down, to find what a former primary wrote and nobody acknowledged. A file that
// mysqld was writing when it was killed may end anywhere: that is no error of the file, but the Reader says where the
// last whole transaction ends. What is not understood is never called Transactional.
//
// The layout of events is in the manual of the server's source code, "Binary Log Event Structure"; the one of tagged GTIDs
// in libs/mysql/serialization. A Reader is for one goroutine.
package binlog
