// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package supervise is PID 1 of the container that runs mysqld. It starts, stops, kills and reaps one mysqld and
// short-lived runs of the same program for the agent, which sits in another container and talks to it over a unix
// socket. It knows nothing of replication and changes rarely: an upgrade of the agent must not restart mysqld.
//
// What must hold:
//   - Nothing on the volume is read or written before the exclusive lock (flock) of the lock file is held. The descriptor
//     is passed on to every process started and, over the socket, to the agent: the lock lives until the last of them is
//     gone, so a second Pod on the same volume waits for a mysqld that outlived its supervisor, too.
//   - A process is gone when waitpid said so, never before. Its end is pushed to every connection at once.
//   - TERM, INT, QUIT and HUP are reported, never passed on: a graceful stop of mysqld answers OK to sessions that wait
//     for an acknowledgement although no replica has their write. Only the agent knows whether that is safe. When it is
//     gone for Config.Abandoned while the Pod terminates, mysqld is killed, never stopped.
//   - mysqld is started only by the agent's order. A mysqld that ended stays down until the next order.
//
// The protocol is JSON, one value a line, both ways. A connection first receives a Message with the State, whose lock
// descriptor comes with it (SCM_RIGHTS) when the lock is held; then a Message with the State on every change, and one
// with the Reply to each Request. A connection made while the lock was not held is closed when it is acquired, so that
// the client comes back for the descriptor. Unknown fields are ignored; Version grows when that is not enough, and a
// supervisor and an agent understand each other over two versions of difference.
package supervise
