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
//   - Commands that change anything are carried out one at a time, and each within its deadline.
//   - At boot an agent does nothing to replication until a coordinator tells it to.
//   - mysqld starts closed: super_read_only, offline_mode, no replication threads, semi-sync off, no events.
//   - A graceful stop of mysqld is ordered only where no session can be waiting for an acknowledgement.
//   - A password is in no log line and in no error.
//
// Everything is safe for concurrent use unless it says otherwise.
package agent
