// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package restore makes a MySQL data directory from a backup and from the transactions archived after it.
//
// Open reads what the stores hold and decides (pkg/backup/plan) which backup and which segments of the archive lead to the
// target; what can never succeed is a *Refusal, and no data have been fetched by then. Fetch unpacks the backup into a
// directory. Replay starts a private mysqld on it and lets the server's own parallel applier read the segments as relay
// logs; afterwards the server has executed exactly what the plan says, or Replay has failed.
//
// The agent calls it to begin a cluster, the Job of a trial to prove that a backup can be restored. They differ in how they
// run mysqld, which is why Server is an interface. Everything is streamed: no segment and no file is held in memory. A
// directory counts only when all has succeeded; after a failure the caller throws it away.
package restore
