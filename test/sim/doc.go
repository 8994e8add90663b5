// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sim is a deterministic simulator of a whole cluster. It drives the real decisions (topology.Decide) and the real
// rules of admission (pkg/agent/admission on state.Durable) over a model of everything else, breaks whatever can break, and
// checks the invariants of the protocol after every event.
//
// One seed decides everything: there is one random generator, no goroutine, no clock, and no map is walked where the order
// matters. `go test ./test/sim -v -run Invariant -args -seed N -trace` replays a run (with `-bug "…"` a planted one), and
// `go test ./test/sim -timeout 0 -run Invariant -args -seeds 1000000` runs many.
//
// # What is modelled
//
//   - mysqld: the binary log (flushed with every commit; a new file with every start), what is committed in the engine,
//     transactions that wait for acknowledgements after their flush (AFTER_SYNC), k distinct server ids, acknowledgements
//     by position, the relay log with a tail that is not flushed or is torn, Retrieved_Gtid_Set, the applier, the receiver's
//     states No, Connecting and Yes with a STOP that takes time, repointing with and without a running applier, the source's
//     refusal of replicas that have more of its own line or need what was purged, account locks, graceful stop (it answers OK
//     to everybody who waits), recovery after a crash, the choice of GTIDs.
//   - agents: promises, fences, closing, leading, markers, following, giving up a doubtful relay log, vouching, lock-out,
//     rewind, divergence, discarding and cloning, in steps between which anything happens; a restart forgets what is not
//     durable.
//   - coordinators, one or two at once, each with statuses and a record as old as its messages: they carry plans out as the
//     controller does, give up, crash and start again anywhere. The record's store compares and sets.
//   - the network: messages take time, are lost, overtake each other, commands arrive twice or after their epoch; ways are
//     cut, in one direction too.
//   - clients, who write to whatever is open, and are told OK.
//   - nodes that are gone for good: the instance is replaced as the controller does it, first without its vote, then by another
//     Pod with an empty volume. What is left on the old node goes on, comes back, and tries to acknowledge.
//   - faults: mysqld dies or hangs for a while, agents and coordinators restart, hosts go down, volumes are lost or set
//     back, Pods are deleted or replaced while their mysqld goes on, acknowledgements are lost, a switchover is asked for.
//
// # Invariants
//
// I1 nothing acknowledged is missing from a primary that is opened or serves, nor from anybody in the end; what a primary
// serves was held by k others. I2 no other primary can get an acknowledgement outside the history that opens; a fenced
// instance receives nothing. I3 epochs grow, one primary each. I4 nothing below a promise is carried out. I5 what a voter
// holds never shrinks while its vote counts, and it does not get the vote back with a gap. I6 an open primary waits for k.
// I7 only voters acknowledge. I8 clients are never routed back to an older epoch. I9 after everything is mended a primary is
// open, everybody votes, follows and holds the same, also after further switchovers. I10 the same observation leads to the
// same plan. I11 no GTID is given twice.
//
// # Planted bugs
//
// Each switch of Bug breaks one rule, and a test shows that it is found. Where the rule is one of Decide, which has no
// switches, what Decide is shown is falsified instead: a promise is made up (the quorum n-k-1), the configuration last tried stands in for
// the one last opened, the floor is left out, a candidate seems to have applied everything. Skipping the check of the promise skips
// that of the state counter, too, which alone would refuse nearly everything that is stale. The floor matters only where
// volumes are set back, which happens in one run of a hundred. Routing (I8) is a rule of the controller, modelled here.
//
// # What is not modelled
//
// The agent's and the controller's own code around Decide and admission: its steps are written down here a second time, and
// routing (I8) entirely. The slots of the state file: a Save is whole or has not happened. SQL, rows and DDL, long transactions
// and locks, XA, purged binary logs but for those of a clone, full disks, semi-sync that ends by itself (but as a planted
// bug), how statements about accounts travel, statements that go on after they were given up, an agent that resumes by itself without a coordinator, bootstrap
// and the loss of the record, changes of the number of replicas but for a learner at the start and lost volumes, spec.failover.mode
// Manual, fenced instances and accepted losses. Time passes the same on every node.
//
// I9 is not demanded of a run in which a volume was lost: too few that can be believed may be left then, and a person has
// to decide. Such runs are counted and the number is printed.
package sim
