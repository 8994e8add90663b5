// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Options choose a run.
type Options struct {
	// Seed decides everything that happens.
	Seed uint64
	// Bug that is planted, or "".
	Bug Bug
	// Trace records what happens.
	Trace bool
}

// Result is how a run ended.
type Result struct {
	// Violation says which invariant was broken and how; "" when none was.
	Violation string
	// Held says why the cluster did not come back after the loss of a volume; "" when it did.
	Held string
	// Trace is what happened, if it was asked for.
	Trace []string
	// Events is how many were executed; Acknowledged how many writes clients were told of; Epochs the last epoch of the record.
	Events, Acknowledged int
	// Replaced is how many instances were given up with their node and made anew.
	Replaced int
	Epochs   int64
	// Rules counts the rules that plans followed.
	Rules map[string]int
}

// clusterUUID is the source of the markers.
const clusterUUID = "0d3aeb4e-0000-41ef-8a00-0242ac110002"

// message is something on its way.
type message struct {
	from, to int
	kind     string
	deliver  func()
	prompt   bool
	ack      *ack
}

// broken ends a run.
type broken struct{ what string }

// world is everything.
type world struct {
	Options
	rng     *rand.Rand
	now     time.Duration
	events  int
	history *history
	nodes   []*node
	// gone is the instance whose node is gone, until another takes its place; zombies are those that were replaced.
	gone    *node
	zombies []*node
	coords  []*coordinator
	store   *store
	// messages are on their way; cut says which ways are cut.
	messages []*message
	cut      [16][16]bool
	timers   []timer
	// prompt is how probable it is, in percent, that a message takes no time.
	prompt int
	// acked are the writes that clients were told of.
	acked  set
	starts int
	serial int
	// calm: no more faults.
	calm  bool
	trace []string
	rules map[string]int

	// lost counts the volumes that were lost; held says why the run did not settle, although it breaks no rule.
	lost int
	held string
	// lastDecision is the reason of the last plan, for people.
	lastDecision string

	profile profile
	watch   watch
}

// Run runs one seed.
func Run(o Options) (result Result) {
	w := newWorld(o)
	defer func() {
		switch ended := recover().(type) {
		case nil:
		case broken:
			result = w.result(ended.what)
		default:
			panic(fmt.Sprintf("seed %d: %v\n%s", o.Seed, ended, debug.Stack()))
		}
	}()
	for w.events < w.profile.events {
		w.event()
	}
	w.settle()
	return w.result("")
}

func (w *world) result(violation string) Result {
	return Result{violation, w.held, w.trace, w.events, w.acked.count(), len(w.zombies), w.store.record.Epoch, w.rules}
}

// bug reports whether a bug is planted.
func (w *world) bug(b Bug) bool { return w.Bug == b }

// fail ends the run.
func (w *world) fail(format string, args ...any) {
	what := fmt.Sprintf(format, args...)
	w.tracef("VIOLATION %s", what)
	panic(broken{what})
}

func (w *world) tracef(format string, args ...any) {
	if w.Trace {
		w.trace = append(w.trace, fmt.Sprintf("%4d %8s ", w.events, w.now)+fmt.Sprintf(format, args...))
	}
}

// percent is true in p of 100 cases.
func (w *world) percent(p int) bool { return w.rng.IntN(100) < p }

// uuid makes an id in the form of a UUID.
func (w *world) uuid() string {
	w.serial++
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", w.serial, w.rng.Uint64()&0xffffffffffff)
}

// newWorld makes a cluster that is open in epoch 1.
func newWorld(o Options) *world {
	w := &world{
		Options: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6d6f636f)), now: time.Minute, history: newHistory(), rules: map[string]int{}, store: &store{},
	}
	w.profile = w.newProfile()
	w.prompt = 20 + w.rng.IntN(75)
	var voters []v1beta1.Member
	for n := range w.profile.instances {
		node := w.newNode(n)
		w.nodes = append(w.nodes, node)
		if n < w.profile.voters {
			voters = append(voters, v1beta1.Member{Name: node.name, Ordinal: int32(n), Incarnation: node.vol.durable.Incarnation})
		}
	}
	k := int32(len(voters) / 2)
	marker := transaction{source: gtid.Source{UUID: clusterUUID, Tag: gtid.MarkerTagPrefix + "1"}, number: 1}
	record := &v1beta1.ReplicationRecord{
		Version: v1beta1.RecordVersion, Epoch: 1, Phase: v1beta1.RecordOpened, Claim: "claim-0", ClusterUUID: clusterUUID, Primary: &voters[0],
		LastOpened: &v1beta1.OpenedEpoch{
			Configuration: v1beta1.Configuration{Voters: voters, AckCount: k}, Epoch: 1, Primary: voters[0], MarkerGTID: marker.String(),
			ServerUUID: w.nodes[0].vol.serverUUID,
		},
	}
	w.store.record = record
	w.watch.begin(w)
	x := w.history.begin(marker.source, marker.number)
	for n := range w.profile.voters {
		w.beginAs(w.nodes[n], record, x)
	}
	for _, n := range w.nodes[w.profile.voters:] {
		w.boot(n)
	}
	for n := range w.profile.coordinators {
		w.coords = append(w.coords, w.newCoordinator(n))
	}
	return w
}

// beginAs puts an instance into the open epoch 1.
func (w *world) beginAs(n *node, record *v1beta1.ReplicationRecord, marker int) {
	d := &n.vol.durable
	d.PromisedEpoch, d.PromisedClaim, d.Record, d.Counter = 1, "claim-0", record, 1
	n.vol.filled = true
	n.vol.log.list = []int{marker}
	w.watch.holds(n, marker)
	s := w.startServer(n)
	d.StartedID, d.BootID = s.start, n.bootID()
	if n.n == 0 {
		k := record.LastOpened.AckCount
		d.AckCount, d.LedStart, d.OpenStart, d.OpenEpoch, d.OpenPrimary = k, s.start, s.start, 1, true
		s.source, s.k, s.superReadOnly, s.offline = k > 0, int(k), false, false
	} else {
		s.offline, s.replica, s.applier, s.receiver = false, true, true, receiverConnecting
		n.vol.channel = &channel{0, w.nodes[0].ip, n.replicationUser()}
		d.ChannelHash = w.nodes[0].ip
		w.connect(n, w.nodes[0])
	}
	w.boot(n)
}

// send puts a message on its way.
func (w *world) send(from, to int, kind string, deliver func()) *message {
	m := &message{from: from, to: to, kind: kind, deliver: deliver, prompt: w.percent(w.prompt)}
	w.messages = append(w.messages, m)
	return m
}

// deliverPrompt delivers what takes no time.
func (w *world) deliverPrompt() {
	for range 64 {
		at := slices.IndexFunc(w.messages, func(m *message) bool { return m.prompt && !w.cut[m.from][m.to] })
		if at < 0 {
			return
		}
		w.deliver(at)
	}
}

// deliver hands over a message.
func (w *world) deliver(at int) {
	m := w.messages[at]
	w.messages = slices.Delete(w.messages, at, at+1)
	m.deliver()
}

// linked reports whether two instances reach each other.
func (w *world) linked(a, b *node) bool {
	return !w.cut[a.n][b.n] && !w.cut[b.n][a.n] && a.up && b.up
}

// store is the register that holds the record, and beside it what the controller keeps in the status.
type store struct {
	record *v1beta1.ReplicationRecord
	// floor is the highest gtid_executed an open primary has reported, and the epoch in which it did.
	floor      set
	floorEpoch int64
	// routed is the primary Service's epoch and target.
	routedEpoch int64
	routed      string
}

// write replaces the record if it still is what the writer saw.
func (w *world) writeRecord(seen, next *v1beta1.ReplicationRecord) bool {
	if w.store.record != seen && !w.bug(BugNoCompare) {
		return false
	}
	w.checkRecord(w.store.record, next)
	w.store.record = next
	w.tracef("RECORD %s", describeRecord(next))
	w.watch.recorded(w, next)
	return true
}

func describeRecord(r *v1beta1.ReplicationRecord) string {
	if r == nil {
		return "none"
	}
	primary := "nobody"
	if r.Primary != nil {
		primary = r.Primary.Name
	}
	var text strings.Builder
	fmt.Fprintf(&text, "epoch %d %s %s primary=%s opened=%d%s", r.Epoch, r.Phase, r.Claim, primary, r.LastOpened.Epoch, voterNames(&r.LastOpened.Configuration))
	if r.Pending != nil {
		text.WriteString(" pending=" + voterNames(r.Pending))
	}
	for _, c := range r.Earlier {
		text.WriteString(" earlier=" + voterNames(&c))
	}
	return text.String()
}

func voterNames(c *v1beta1.Configuration) string {
	var names []string
	for _, v := range c.Voters {
		names = append(names, fmt.Sprintf("%s/%.4s", v.Name, v.Incarnation[8:]))
	}
	return fmt.Sprintf("{%s k=%d}", strings.Join(names, " "), c.AckCount)
}
