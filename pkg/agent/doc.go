// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package agent is the agent of one MySQL instance: it owns everything in the Pod but the process mysqld itself, which
// its supervisor (package supervise) starts and ends on its orders. A coordinator drives it over the control API
// (package api) and sees it through its stream of Status values; the agent never calls the Kubernetes API.
//
// The structure: an Agent serves HTTP and reconnects to its supervisor. For as long as a supervisor that holds the
// volume is connected there is one instance, which owns the volume's state, the poller, the running task and the command
// being carried out; all of that ends before the agent gives its duplicate of the volume's lock back.
//
// What must hold:
//   - Nothing with an epoch below the promise is carried out, and a promise is on disk before it is answered.
//   - An instance that is fenced for an epoch acknowledges nothing, and serves no write, of an earlier one; an open primary
//     is killed for it unless it is verified that nobody is connected, nothing waits and nothing was committed.
//   - Commands that change anything are carried out one at a time, and each within its deadline.
//   - At boot an agent does nothing to replication until a coordinator tells it to, or none has listened for a while: then
//     it resumes what it was last shown to be, in the same epoch, and never beyond its promise.
//   - mysqld starts closed: super_read_only, offline_mode, no replication threads, semi-sync off, no events.
//   - A graceful stop of mysqld is ordered only where no session can be waiting for an acknowledgement.
//   - Nothing that was never acknowledged is destroyed before a copy is in the volume's quarantine, and mysqld does not
//     start as long as the intent of a rewind is on the volume.
//   - An instance that may have lost what it acknowledged says so, and its vote comes back only with a marker that the open
//     primary began after the instance had connected without its old relay log.
//   - Only what an open primary has in gtid_executed is archived (package archiver), and a binary log is purged only when it is
//     told to, and never before the archive has it.
//   - A password is in no log line and in no error.
//
// Everything is safe for concurrent use unless it says otherwise.
package agent
