// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package topology decides what a cluster does next. It is pure: it reads no clock, opens no connection and keeps no
// state. A coordinator observes, calls Decide, carries out the plan, and observes again.
//
// # Words
//
//   - instance: one Pod, its volume and its mysqld. It is identified by its incarnation, a random id that lives with the
//     data, never by its name alone.
//   - voter: an instance whose acknowledgement counts. learner: one that is being cloned or catches up; it never
//     acknowledges and is never promoted.
//   - n: the number of voters, the primary included. k: how many replicas must have a transaction before its commit
//     returns, half of n rounded down (AckCount).
//   - epoch: an integer that grows by one with every change of primary or of voters. Never a clock.
//   - record: the one register that says who leads, changed by compare-and-set only (v1beta1.ReplicationRecord).
//   - claim: the random id of the attempt that owns an epoch. A coordinator continues only an epoch it claimed itself;
//     otherwise it claims the next.
//   - promise: the highest epoch an agent has accepted, durable before it answers. It is never undone.
//   - marker: the empty transaction `<cluster uuid>:moco_e<epoch>:<attempt>` with which an epoch begins. When k voters
//     have it, they have everything before it, too.
//   - Recv: what an instance has executed or holds complete in its relay log.
//   - closed: super_read_only and offline_mode are on; no client is served. open: the opposite, for a primary.
//   - reopen: a primary that is closed although the record says it leads proves itself with a fresh marker, then opens.
//   - replaced: an instance that goes on with other data. Removable says from when on its Pod and its volume may be given up;
//     a retired volume is one that was, and never counts again.
//
// # The states of a record
//
//	(none) ──first volume chosen──▶ Chosen(1) ──marker──▶ Opened(1)
//	Opened(e) ──a learner is ready──▶ Chosen(e+1, pending) ──marker in k voters and the joiner──▶ Opened(e+1)
//	Chosen(e) of another claim ──▶ Chosen(e+1)          (the next epoch, never a continued one)
//	(lost) ──every volume read──▶ Chosen(highest promise + 1)
//
// # Execution contract
//
// Actions of a plan that name different instances may run at the same time; those of one instance run in order and stop
// at the first failure. WriteRecord is always the only action of its plan. Every action is decided from one observation
// and carries what the agent needs to refuse it if the world moved on: epoch, claim, incarnation and state counter.
// Decide is total (waiting is a plan with a reason) and deterministic (same observation, same plan). Purges, which says whose
// binary logs may go, is apart from it: nothing waits for them.
package topology
