// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mysql talks to one mysqld on behalf of its agent: it opens sessions, reads a Report, and carries out the few
// statements that change replication. It decides nothing; pkg/agent does.
//
// What must hold of every statement:
//   - It has a deadline. Closing a connection ends nothing in MySQL: a statement that waits for a lock runs when the lock
//     comes free, however long ago its client gave up. So a Session whose context ends kills its own connection from a
//     second one.
//   - It never waits long for metadata or row locks: every session sets lock_wait_timeout and innodb_lock_wait_timeout
//     to one second. The agent must not queue up behind, nor in front of, a tenant's transaction.
//   - No password is in a statement that the server logs, and none in an error or a log line of this package.
//
// A Session is one connection and is not safe for concurrent use; an Endpoint is immutable and is.
package mysql
