// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package restore is the controller of MySQLRestores: it brings tables of a backup into a cluster that runs. One sync reads
// in this order:
//
//	key → the Jobs of the restore (cache) → attend the newest, or begin an attempt → publish (status)
//	decided: a Job that removes what the attempts made in the cluster → Succeeded or Failed
//
// It opens no store and runs no SQL: Jobs do (pkg/controller/job makes them, pkg/backup/engine is in them). To a cluster it is
// a client like others; it changes no object of one. It is called by cmd/moco-controller, on the leader only.
//
// Concurrency: the queue hands a key to one worker at a time; the memory of progress has a lock.
//
// Invariants:
//   - A restore has succeeded only when the termination message of an attempt of its own says so.
//   - Nothing is remembered that is not in an object: a controller that starts anew goes on from status, Jobs and Pods.
//   - The end of an attempt is in the status before its Job is deleted, and an attempt begins only after the Job before it
//     is noted. The Jobs see to it that two attempts never work at the same time.
//   - What tells an attempt that an earlier one has succeeded is removed only after the success is in the status.
package restore
