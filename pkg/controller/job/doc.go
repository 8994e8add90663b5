// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package job makes and reads the Jobs that work on stores: backups, trials, deletions and prunes. The controllers of
// MySQLBackups and MySQLBackupSchedules call it. It decides neither when a Job is made nor what follows from its result.
//
// What must hold:
//   - A Job is one attempt: its Pod is started once. Its input is in a Secret that belongs to the Job, so that whatever
//     deletes the Job deletes the credentials in it, too, and the controller needs no right to delete Secrets.
//   - A result is what the container of that Job's own Pod left in its termination message, and nothing else. A Pod that is
//     gone, was killed or left anything but a result has failed.
//   - Pods of Jobs carry no label by which those of a cluster are selected: they are no instances.
//
// Everything here is safe for concurrent use.
package job
