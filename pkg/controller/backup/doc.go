// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backup is the controller of MySQLBackups. One sync reads in this order:
//
//	key → the Jobs of the backup (cache) → attend the newest, or begin an attempt → publish (status)
//	deleted: stop attempts → a Job that deletes from the store → let the object go
//
// It opens no store and runs no SQL: Jobs do (pkg/controller/job makes them, cmd/moco-backup is in them). It is called by
// cmd/moco-controller, on the leader only.
//
// Concurrency: the queue hands a key to one worker at a time; the memory of progress has a lock.
//
// Invariants:
//   - A backup has succeeded only when the termination message of an attempt of its own says so.
//   - Nothing is remembered that is not in an object: a controller that starts anew goes on from status, Jobs and Pods.
//   - The status names the cluster and the id before the first Job exists, so that what is stored can always be found.
//   - The end of an attempt is in the status before its Job is deleted, and an attempt begins only after the Job before it
//     is noted.
package backup
