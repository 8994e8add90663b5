// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package schedule is the controller of MySQLBackupSchedules. One sync reads in this order:
//
//	key → backups of the schedule (cache) → make what is due, was asked for or closes a gap → delete what retention gives up
//	    → trial (Job) → prune (Job) → publish (status)
//
// It makes and deletes MySQLBackups; how one is made is pkg/controller/backup. When something is due, and what retention
// keeps, are pure functions (cron.go, retention.go). It is called by cmd/moco-controller, on the leader only.
//
// Concurrency: the queue hands a key to one worker at a time; there is no memory between syncs.
//
// Invariants:
//   - One cause makes one backup: each carries its cause in an annotation, and is looked for past the cache before another
//     is made.
//   - The newest successful backup is never deleted, nor the one with which a restore to the begin of the retention window
//     begins.
//   - Backups outlive their schedule: they carry its label, but it does not own them.
package schedule
