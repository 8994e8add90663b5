// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package engine does what the Job of a backup does: it makes a physical or a logical backup, restores one for trial,
// deletes one, and prunes a store. It runs in a Pod of the cluster's own MySQL image, has no rights in Kubernetes and never
// touches an instance but as a client: it clones from one and asks the primary.
//
// A physical backup is a clone that was booted: recovered, read in full, checked, found to be part of what the primary has,
// and ended cleanly. Only then it is sent to the store, and its manifest last.
//
// What must hold:
//   - A manifest is written only when everything else has succeeded, and never replaces another: a backup that can be found
//     is whole, and two attempts of one backup leave one.
//   - Nothing counts that a failover may have cut off: the open primary must have every transaction of the copy.
//   - What may be lost of a failed attempt lies below the attempt's own key; the next one removes it.
//   - Pruning deletes an index page before its segments, and only from the begin of a stream, so that whoever reads
//     meanwhile finds a whole rest.
//
// Run is called once in a process: it owns the work directory and empties it.
package engine
