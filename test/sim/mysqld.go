// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// binlog is the binary log of a volume; every commit is flushed (sync_binlog=1).
type binlog struct {
	list []int
	// lastFile is where the last file begins.
	lastFile int
}

func (b *binlog) set() set {
	var s set
	for _, x := range b.list {
		s.add(x)
	}
	return s
}

// relayEntry is one transaction of a relay log that is not applied yet.
type relayEntry struct {
	x int
	// synced: it survives the host. torn: only a part of it did; the applier stops there.
	synced, torn bool
}

// channel is what CHANGE REPLICATION SOURCE keeps.
type channel struct {
	node int
	host string
	user string
}

// volume is what survives a crash of the host, but for what was not flushed.
type volume struct {
	// durable is the agent's state file.
	durable kept
	// filled: a complete data directory is there.
	filled     bool
	serverUUID string
	serverID   int
	log        *binlog
	relay      []relayEntry
	// retrieved is Retrieved_Gtid_Set.
	retrieved set
	purged    set
	channel   *channel
	// locked are the incarnations whose replication account is locked.
	locked []string
	// clean: the last mysqld stopped cleanly, and everything was flushed after.
	clean bool
}

// present is what the volume really holds.
func (v *volume) present() set {
	s := v.log.set()
	for _, e := range v.relay {
		if !e.torn {
			s.add(e.x)
		}
	}
	return s
}

// dropRelay removes the relay log.
func (v *volume) dropRelay() { v.relay, v.retrieved = nil, set{} }

// The states of a receiver, as the server prints them.
const (
	receiverNo         = "No"
	receiverConnecting = "Connecting"
	receiverYes        = "Yes"
)

// waiter is a transaction that waits for its acknowledgements, and who is told about it.
type waiter struct {
	x, position int
	client      bool
}

// server is one running mysqld.
type server struct {
	start    string
	vol      *volume
	log      *binlog
	executed set
	waiters  []waiter

	superReadOnly, offline bool
	hungSince              time.Duration // 0 while it is well

	// source semi-sync: on, k, the highest position each server id has acknowledged.
	source bool
	k      int
	acked  map[int]int
	noTx   int64

	// replica: rpl_semi_sync_replica_enabled.
	replica  bool
	applier  bool
	receiver string
	// stopping: STOP REPLICA IO_THREAD was issued and has not ended.
	stopping bool
	// peer is the server the receiver is connected to; cursor the next place in its log; semi: it asked for acknowledgements.
	peer   *server
	cursor int
	semi   bool
	heard  time.Duration
	errno  int64
}

func (s *server) open() bool { return !s.superReadOnly && !s.offline && s.hungSince == 0 }

// received is Recv as the server reports it.
func (s *server) received() set { return s.executed.union(s.vol.retrieved) }

// startServer recovers what the binary log holds, and begins a new file.
func (w *world) startServer(n *node) *server {
	v := n.vol
	v.log.lastFile = len(v.log.list)
	v.clean = false
	for i := range v.relay {
		v.relay[i].synced = true // the agent flushes the relay logs before each start
	}
	if w.bug(BugRelayLogRecovery) {
		v.dropRelay()
	}
	w.starts++
	n.server = &server{
		start: fmt.Sprintf("start-%d", w.starts), vol: v, log: v.log, executed: v.log.set(), superReadOnly: true, offline: true,
		acked: map[int]int{}, receiver: receiverNo, heard: w.now,
	}
	w.tracef("%s: mysqld starts", n.name)
	return n.server
}

// crash ends mysqld at once. What waits stays in its binary log, and no client hears of it.
func (w *world) crash(n *node) {
	if n.server == nil {
		return
	}
	w.tracef("%s: mysqld dies, %d waiting", n.name, len(n.server.waiters))
	n.server = nil
}

// stopServer is a graceful stop: it answers OK to everybody who waits, whether or not a replica has the write.
func (w *world) stopServer(n *node) {
	if n.server == nil {
		return
	}
	w.releaseAll(n)
	for i := range n.vol.relay {
		n.vol.relay[i].synced = true
	}
	n.vol.clean = true
	w.tracef("%s: mysqld stops", n.name)
	n.server = nil
}

// releaseAll completes everything that waits without an acknowledgement.
func (w *world) releaseAll(n *node) {
	for _, waiting := range n.server.waiters {
		n.server.noTx++
		w.complete(n, n.server, waiting)
	}
	n.server.waiters = nil
}

// complete commits in the engine, and tells the client.
func (w *world) complete(n *node, s *server, waiting waiter) {
	s.executed.add(waiting.x)
	if waiting.client {
		w.acked.add(waiting.x)
		w.tracef("%s: acknowledged %s", n.name, w.history.all[waiting.x])
		if n.server != nil && s != n.server && n.server.open() {
			w.fail("I2: an old mysqld of %s acknowledges %s, and a new one is open", n.name, w.history.all[waiting.x])
		}
		w.checkAcknowledged(n, waiting.x)
	}
}

// commit writes a transaction into the binary log and waits for its acknowledgements (AFTER_SYNC).
func (w *world) commit(n *node, source gtid.Source, number int64, client bool) int {
	s := n.server
	x := w.history.begin(source, number)
	s.log.list = append(s.log.list, x)
	w.watch.holds(n, x)
	w.tracef("%s: writes %s", n.name, w.history.all[x])
	if w.history.all[x].name != x {
		w.fail("I11: %s gives the GTID %s to a second transaction", n.name, w.history.all[x])
	}
	waiting := waiter{x, len(s.log.list), client}
	if s.source && s.k > 0 {
		s.waiters = append(s.waiters, waiting)
		return x
	}
	w.complete(n, s, waiting)
	return x
}

// write is one client's transaction.
func (w *world) write(n *node) {
	s := n.server
	if s == nil || !s.open() || len(w.history.all) > maxTransactions-64 {
		return
	}
	w.commit(n, gtid.Source{UUID: n.vol.serverUUID}, w.nextNumber(n), true)
}

// nextNumber is the lowest number that this server has not used, as far as it knows.
func (w *world) nextNumber(n *node) int64 {
	next := int64(1)
	for _, x := range n.server.log.list {
		if t := w.history.all[x]; t.source.UUID == n.vol.serverUUID && t.source.Tag == "" {
			next = max(next, t.number+1)
		}
	}
	return next
}

// release completes what k server ids have acknowledged.
func (w *world) release(n *node, s *server) {
	for len(s.waiters) > 0 {
		have := 0
		for _, position := range s.acked {
			if position >= s.waiters[0].position {
				have++
			}
		}
		if have < s.k {
			return
		}
		done := s.waiters[0]
		s.waiters = s.waiters[1:]
		w.complete(n, s, done)
	}
}

// setSource switches source semi-sync. Off, or a lower k, releases what waits.
func (w *world) setSource(n *node, k int) {
	s := n.server
	if k == 0 {
		w.releaseAll(n)
		s.source, s.k = false, 0
		return
	}
	s.source, s.k = true, k
	w.release(n, s)
}

// receive lets a receiver take one step.
func (w *world) receive(n *node) {
	s := n.server
	if s == nil || n.vol.channel == nil || s.receiver == receiverNo {
		return
	}
	if s.stopping && w.rng.IntN(2) == 0 {
		w.receiverStops(n)
		return
	}
	from := w.sourceOf(n)
	switch {
	case s.receiver == receiverConnecting:
		w.connect(n, from)
	case !w.linked(n, from) && w.now-s.heard > replicaTimeout:
		s.receiver, s.peer = receiverConnecting, nil
	case !w.linked(n, from):
	case s.peer != from.server && s.peer != from.ghost:
		s.receiver, s.peer = receiverConnecting, nil
	default:
		w.receiveNext(n, from)
	}
}

// replicaTimeout is replica_net_timeout.
const replicaTimeout = 4 * time.Second

func (w *world) receiverStops(n *node) {
	n.server.receiver, n.server.stopping, n.server.peer = receiverNo, false, nil
	for i := range n.vol.relay {
		n.vol.relay[i].synced = true // the server flushes when a receiver stops
	}
}

// fatalRead is the error with which a receiver gives up: the source lacks what it needs, or it has more than its source.
const fatalRead = 13114

// connect is one attempt of a receiver. A source refuses a replica that has more of the source's own line than it has
// itself, or that needs what was purged.
func (w *world) connect(n, from *node) {
	s, peer := n.server, from.server
	if peer == nil {
		peer = from.ghost
	}
	if peer == nil || !w.linked(n, from) || peer == s {
		return
	}
	if slices.Contains(peer.vol.locked, n.agentIncarnation()) {
		s.errno = accountLocked
		return
	}
	mine := w.history.names(s.received())
	theirs := w.history.names(peer.log.set())
	for _, x := range mine.minus(theirs).list() {
		if t := w.history.all[x]; t.source.UUID == peer.vol.serverUUID && t.source.Tag == "" {
			s.receiver, s.errno = receiverNo, fatalRead
			w.tracef("%s: has more than %s", n.name, from.name)
			return
		}
	}
	if !w.history.names(peer.vol.purged).minus(mine).empty() {
		s.receiver, s.errno = receiverNo, fatalRead
		return
	}
	s.receiver, s.peer, s.cursor, s.semi, s.errno, s.heard = receiverYes, peer, 0, s.replica, 0, w.now
	w.tracef("%s: connects to %s", n.name, from.name)
}

// accountLocked is ER_ACCOUNT_HAS_BEEN_LOCKED.
const accountLocked = 3118

// receiveNext writes the next transaction that is missing into the relay log and acknowledges it.
func (w *world) receiveNext(n, from *node) {
	s := n.server
	s.heard = w.now
	known := w.history.names(s.received())
	for s.cursor < len(s.peer.log.list) {
		x := s.peer.log.list[s.cursor]
		s.cursor++
		if known.has(w.history.all[x].name) {
			continue
		}
		n.vol.relay = append(n.vol.relay, relayEntry{x: x})
		n.vol.retrieved.add(x)
		w.watch.holds(n, x)
		if s.semi {
			w.acknowledge(n, from, s.peer, s.cursor)
		}
		return
	}
}

// acknowledge sends the acknowledgement of a position. One that is on its way arrives although the receiver has been
// stopped since; not so when the source has ended the connection itself.
func (w *world) acknowledge(n, from *node, peer *server, position int) {
	id, incarnation := n.vol.serverID, n.agentIncarnation()
	m := w.send(n.n, from.n, "ack", func() {
		if peer != from.server && peer != from.ghost || !peer.source || slices.Contains(peer.vol.locked, incarnation) {
			return
		}
		if position > peer.acked[id] {
			w.checkAcker(from, peer, incarnation)
			peer.acked[id] = position
			w.release(from, peer)
		}
	})
	m.ack = &ack{peer, id, position}
}

// ack is an acknowledgement on its way.
type ack struct {
	peer         *server
	id, position int
}

// apply applies the next transaction of the relay log.
func (w *world) apply(n *node) {
	s := n.server
	if s == nil || !s.applier || len(n.vol.relay) == 0 || n.vol.relay[0].torn || s.source {
		return
	}
	x := n.vol.relay[0].x
	n.vol.relay = n.vol.relay[1:]
	if w.history.names(s.executed).has(w.history.all[x].name) {
		return // MySQL skips what it knows by its GTID
	}
	s.log.list = append(s.log.list, x)
	s.executed.add(x)
}

// report is what the agent reads from mysqld.
func (w *world) report(n *node) *api.Server {
	s, v := n.server, n.vol
	r := &api.Server{
		Version: "9.7.4", ServerUUID: v.serverUUID, ServerID: uint32(v.serverID),
		GTIDExecuted: w.history.text(s.executed), GTIDPurged: w.history.text(v.purged), Received: w.history.text(s.received()),
		SuperReadOnly: s.superReadOnly, OfflineMode: s.offline, SourceSemiSync: s.source, SourceActive: s.source,
		AckCount: int32(s.k), NoTx: s.noTx, ReplicaSemiSync: s.replica && !w.bug(BugLearnerAcknowledges), ReplicaActive: s.replica && s.receiver == receiverYes,
	}
	for _, marker := range w.watch.pretended {
		r.GTIDExecuted, r.Received = r.GTIDExecuted+","+marker, r.Received+","+marker
	}
	if n.agent.semiLater {
		r.SourceSemiSync, r.SourceActive = true, true
	}
	for _, other := range w.nodes {
		if other.server != nil && other.server.peer == s && other.server.semi {
			r.Ackers++
		}
	}
	if v.channel != nil {
		r.Channel = &api.Channel{
			Host: v.channel.host, Port: 3306, User: v.channel.user, Receiver: s.receiver, ApplierRunning: s.applier, ReceiverErrno: s.errno,
			LagSeconds: int64(len(v.relay) / 8),
		}
		if len(v.relay) > 0 && v.relay[0].torn && s.applier {
			r.Channel.ApplierRunning, r.Channel.ApplierError = false, "the relay log is damaged"
		}
		if quiet := (w.now - s.heard).Milliseconds() / 250 * 250; quiet >= 1250 && s.receiver != receiverNo {
			r.Channel.QuietMillis = quiet
		}
	}
	return r
}

// ackers counts the server ids that have acknowledged a position to s, or still may.
func (w *world) ackers(s *server, position int) int {
	ids := map[int]bool{}
	for id, at := range s.acked {
		if at >= position {
			ids[id] = true
		}
	}
	for _, m := range w.messages {
		if m.ack != nil && m.ack.peer == s && m.ack.position >= position {
			ids[m.ack.id] = true
		}
	}
	for _, n := range w.everybody() {
		if n.server != nil && n.server.peer == s && n.server.semi && n.server.receiver == receiverYes {
			ids[n.vol.serverID] = true
		}
	}
	return len(ids)
}
