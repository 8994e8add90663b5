// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stores turns a store as a user describes it, and the Secrets it names, into what agents and Jobs are handed. It
// opens no store and keeps nothing; the controllers of clusters, backups and schedules call it. Functions are safe for
// concurrent use.
//
// What must hold:
//   - Secrets are read one by one, by name, in the namespace of the object that names them: an object never makes the
//     controller read a Secret of another namespace.
//   - Only the keys that a store needs are passed on.
//   - What is wrong with a Secret is a *Problem, which names the field, the Secret and the key, but never a value. Every
//     other error means that a Secret could not be read, so nothing is known.
package stores
