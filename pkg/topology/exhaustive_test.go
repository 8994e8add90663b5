// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// minObservations is how many observations the exhaustive check must make: a generator that was narrowed by mistake shall
// not go unnoticed.
const minObservations = 100_000

// The cluster of the exhaustive check: db-mysql-0 is the primary of the last opened epoch 5, db-mysql-1 and db-mysql-2
// acknowledge, db-mysql-3 is a joiner that is there in some scenarios only. When an epoch 6 is under way and has another
// candidate, that is db-mysql-1.
const (
	roleA = iota
	roleB
	roleC
	roleD
)

const (
	worldUUID   = "0d3aeb4e-0000-11ef-8a00-0242ac110002"
	worldLine   = "3e11fa47-71ca-11e1-9e33-c80aa9429560" // the line of the last opened primary
	worldAlien  = "3e11fa47-71ca-11e1-9e33-c80aa94295ff" // executed by somebody by itself
	worldBefore = "1e11fa47-71ca-11e1-9e33-c80aa9429560:1-9"
	markerFive  = worldUUID + ":moco_e5:1"
	markerSix   = worldUUID + ":moco_e6:7"
)

// The levels say how much of the last epoch an instance holds. The acknowledged line is complete at levelAll.
const (
	levelOld    = iota // not even the marker, but transactions of a primary before
	levelMarker        // the marker
	levelHalf          // and the first part of the line
	levelAll           // and all of it
	levelBeyond        // more than anybody here has; only a floor can be that high
)

// levelSets are the levels as GTID sets.
var levelSets = map[int]string{
	levelOld:    worldBefore + "," + worldAlien + ":50-52",
	levelMarker: worldBefore + "," + markerFive + "," + worldLine + ":1-10",
	levelHalf:   worldBefore + "," + markerFive + "," + worldLine + ":1-25",
	levelAll:    worldBefore + "," + markerFive + "," + worldLine + ":1-40",
	levelBeyond: worldBefore + "," + markerFive + "," + worldLine + ":1-60",
}

type life int

const (
	running life = iota
	silent       // for longer than the detection time
	hiccup       // silent for less
	gone         // the Pod does not exist
	lostVolume
	down
	unjudged // down, and it led
	mute     // mysqld runs and does not answer yet
	hung     // and has not for longer than the detection time
)

type fencing int

const (
	unfenced fencing = iota
	fencedHere
	fencedForOther // another claim of the epoch
	killedLeader
	sparedLeader
)

type hearing int

const (
	hears hearing = iota
	quietSource
	connecting
	stoppedReceiver
	noChannel
)

type marking6 int

const (
	noMarker marking6 = iota
	waitingMarker
	committedMarker
	foreignMarker // committed, of another claim
)

// part is one instance of a scenario, in the words of the protocol. What it says nothing of is as in a healthy replica, or
// in a healthy closed primary.
type part struct {
	life                life
	stopping, unknowing bool // unknowing: it has promised nothing of the present epoch
	unvouched, diverged bool
	fence               fencing
	recv, exec          int
	alien               bool // executed something by itself
	hearing             hearing
	toB                 bool // its channel leads to db-mysql-1, not to db-mysql-0
	broken              bool // its applier met an error
	open, stalled       bool
	closed              bool // by a command, completely
	leads               bool
	marker              marking6
	marked              bool // it holds the marker of epoch 6
}

type stage int

const (
	stageOpened stage = iota
	stageClaimed
	stageClaimedForeign
	stageChosenA
	stageChosenB
	stageChosenAForeign
	stageChosenBForeign
)

type side int

const (
	noSide     side = iota
	sideShrink      // db-mysql-2 is to lose its vote
	sideGrow        // db-mysql-3 is to get one
	sideAlone       // db-mysql-1 is to go on alone: a person gave the others up, and took that back
)

type wish int

const (
	wishNothing wish = iota
	wishManual
	wishAny
	wishC
	wishFencedA
	wishFencedC
	wishLossA
	wishLossAC
)

// scenario is one observation in the words of the protocol.
type scenario struct {
	stage  stage
	side   side
	floor  int // a level; levelOld is none
	ownLog bool
	wish   wish
	parts  [4]part
}

func (s *scenario) String() string {
	return strings.ReplaceAll(fmt.Sprintf("stage %d side %d floor %d ownLog %t wish %d\n A %+v\n B %+v\n C %+v\n D %+v",
		s.stage, s.side, s.floor, s.ownLog, s.wish, s.parts[roleA], s.parts[roleB], s.parts[roleC], s.parts[roleD]), ":false", "-")
}

// foreign reports whether the epoch under way is somebody else's.
func (s *scenario) foreign() bool {
	return s.stage == stageClaimedForeign || s.stage == stageChosenAForeign || s.stage == stageChosenBForeign
}

func worldName(role int) string { return fmt.Sprintf("db-mysql-%d", role) }

func worldMember(role int) Member {
	return Member{Name: worldName(role), Ordinal: int32(role), Incarnation: fmt.Sprintf("incarnation-%d", role)}
}

func worldVoters(k int32, roles ...int) Configuration {
	c := Configuration{AckCount: k}
	for _, role := range roles {
		c.Voters = append(c.Voters, worldMember(role))
	}
	return c
}

// sideConfiguration is the other configuration of the scenario, nil when there is none.
func (s *scenario) sideConfiguration() *Configuration {
	c := Configuration{}
	switch s.side {
	case sideShrink:
		c = worldVoters(1, roleA, roleB)
	case sideGrow:
		c = worldVoters(2, roleA, roleB, roleC, roleD)
	case sideAlone:
		c = worldVoters(0, roleB)
	default:
		return nil
	}
	return &c
}

// record makes the record of a scenario.
func (s *scenario) record() *Record {
	a, b := worldMember(roleA), worldMember(roleB)
	r := &Record{
		Version: v1beta1.RecordVersion, Epoch: 6, Phase: v1beta1.RecordChosen, Claim: "own", ClusterUUID: worldUUID,
		LastOpened: &v1beta1.OpenedEpoch{
			Configuration: worldVoters(1, roleA, roleB, roleC), Epoch: 5, Primary: a, MarkerGTID: markerFive, ServerUUID: worldLine,
		},
	}
	if s.foreign() {
		r.Claim = "foreign"
	}
	other := s.sideConfiguration()
	switch s.stage {
	case stageOpened:
		r.Epoch, r.Phase, r.Claim, r.Primary = 5, v1beta1.RecordOpened, "five", &a
		return r
	case stageChosenA, stageChosenAForeign:
		r.Primary, r.Pending = &a, other
		return r
	case stageClaimed, stageClaimedForeign:
		r.Phase = v1beta1.RecordClaimed
	default:
		r.Primary = &b
	}
	switch {
	case s.side == sideAlone:
		r.Pending = other
	case other != nil:
		r.Earlier = []Configuration{*other}
	}
	switch s.wish {
	case wishLossA:
		c := worldVoters(1, roleB, roleC)
		r.Pending = &c
	case wishLossAC:
		c := worldVoters(0, roleB)
		r.Pending = &c
	default:
	}
	return r
}

// desired makes what the user wants in a scenario.
func (s *scenario) desired() Desired {
	d := Desired{Replicas: 3, Detection: 2 * time.Second, RemoveAbsent: time.Minute}
	switch s.wish {
	case wishManual:
		d.Manual = true
	case wishAny:
		d.Switchover = &Switchover{}
	case wishC:
		d.Switchover = &Switchover{Target: worldName(roleC)}
	case wishFencedA:
		d.Fenced = []string{worldName(roleA)}
	case wishFencedC:
		d.Fenced = []string{worldName(roleC)}
	case wishLossA:
		d.AcceptLoss = []string{worldName(roleA)}
	case wishLossAC:
		d.AcceptLoss = []string{worldName(roleA), worldName(roleC)}
	default:
	}
	return d
}

// observed puts a scenario into the words of Decide.
func (s *scenario) observed() Observed {
	o := Observed{Record: s.record(), Initialized: true, OwnClaim: "own", FreshClaim: "fresh", FreshUUID: "unused", OwnLog: s.ownLog}
	if s.floor != levelOld {
		o.Floor = levelSets[s.floor]
	}
	last := roleC
	if s.side == sideGrow {
		last = roleD
	}
	for role := roleA; role <= last; role++ {
		o.Instances = append(o.Instances, s.instance(role, o.Record))
	}
	return o
}

// instance puts one part into the words of Decide.
func (s *scenario) instance(role int, r *Record) Instance {
	p, m := &s.parts[role], worldMember(role)
	i := Instance{
		Name: m.Name, Ordinal: m.Ordinal, IP: fmt.Sprintf("10.0.0.%d", role), HasVolume: true, Configured: true, Stopping: p.stopping, Cause: "its agent is silent",
	}
	switch p.life {
	case silent:
		i.Silent = time.Minute
		return i
	case hiccup:
		i.Silent = time.Second
		return i
	case gone:
		i.Gone, i.IP = true, ""
		return i
	default:
	}
	i.Agent = &api.Status{
		Volume: api.VolumeReady, Incarnation: m.Incarnation, Mysqld: api.MysqldRunning, StateCounter: 77,
		PromisedEpoch: r.Epoch, PromisedClaim: r.Claim, Record: r, NeedsReturn: p.life == unjudged,
	}
	if p.unknowing {
		before := *r
		before.Epoch, before.Claim, before.Phase, before.Primary = r.Epoch-1, "before", v1beta1.RecordOpened, &r.LastOpened.Primary
		i.Agent.PromisedEpoch, i.Agent.PromisedClaim, i.Agent.Record = before.Epoch, before.Claim, &before
	}
	switch p.life {
	case lostVolume:
		i.Agent.Volume, i.Agent.Incarnation, i.Agent.Mysqld = api.VolumeEmpty, "another", api.MysqldDown
	case down, unjudged:
		i.Agent.Mysqld = api.MysqldDown
	case hung:
		i.Unanswered = time.Minute
	case running:
		i.Agent.Server = p.server(role, s.ackCount(p))
	default:
	}
	p.describe(i.Agent, r)
	return i
}

// ackCount is the k with which a part leads: that of its epoch once it has begun a marker, and before that of a lone one.
func (s *scenario) ackCount(p *part) int32 {
	switch {
	case s.stage == stageChosenA && s.side == sideGrow && p.marker != noMarker:
		return 2
	case s.stage == stageChosenB && s.wish == wishLossAC:
		return 0
	}
	return 1
}

// describe fills in what an agent knows beside its mysqld's own report.
func (p *part) describe(a *api.Status, r *Record) {
	switch f := (api.Fence{Epoch: r.Epoch, Claim: r.Claim, Received: levelSets[p.recv]}); p.fence {
	case fencedHere:
		a.Fence = &f
	case fencedForOther:
		f.Claim = "other"
		a.Fence = &f
	case sparedLeader:
		f.Spared = true
		a.Fence = &f
	case killedLeader:
		f.Killed, f.Received = true, ""
		a.Fence = &f
	default:
	}
	if p.unvouched {
		a.Unvouched = "its host was started again"
	}
	if p.diverged {
		a.Diverged = &api.Divergence{GTIDs: worldAlien + ":1"}
	}
	if p.stalled {
		a.StalledMillis = 5000
	}
	if p.closed {
		a.Closed = &api.Closed{GTIDExecuted: levelSets[levelAll]}
	}
	switch p.marker {
	case waitingMarker:
		a.Marker = &api.Marker{GTID: markerSix, Epoch: r.Epoch, Claim: r.Claim, State: api.MarkerWaiting}
	case committedMarker:
		a.Marker = &api.Marker{GTID: markerSix, Epoch: r.Epoch, Claim: r.Claim, State: api.MarkerCommitted}
	case foreignMarker:
		a.Marker = &api.Marker{GTID: markerSix, Epoch: r.Epoch, Claim: "other", State: api.MarkerCommitted}
	default:
	}
}

// server makes the report of a mysqld, one that leads with that k.
func (p *part) server(role int, k int32) *api.Server {
	extra := ""
	if p.alien {
		extra += "," + worldAlien + ":1"
	}
	if p.marked || p.marker == committedMarker || p.marker == foreignMarker {
		extra += "," + markerSix
	}
	s := &api.Server{
		ServerUUID: fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa942956%d", role), SuperReadOnly: !p.open, OfflineMode: !p.open,
		GTIDExecuted: levelSets[p.exec] + extra, Received: levelSets[p.recv] + extra,
		ReplicaSemiSync: !p.leads && role != roleA,
	}
	if p.leads {
		s.SourceSemiSync, s.SourceActive, s.AckCount = k > 0, k > 0, k
		return s
	}
	if p.hearing == noChannel {
		return s
	}
	source := roleA
	if p.toB {
		source = roleB
	}
	s.Channel = &api.Channel{
		Host: fmt.Sprintf("10.0.0.%d", source), SourceUUID: fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa942956%d", source),
		User: api.ReplicationUser(worldMember(role).Incarnation), Receiver: "Yes", ApplierRunning: !p.broken,
	}
	switch p.hearing {
	case quietSource:
		s.Channel.QuietMillis = 5000
	case connecting:
		s.Channel.Receiver, s.Channel.QuietMillis = "Connecting", 5000
	case stoppedReceiver:
		s.Channel.Receiver = "No"
	default:
	}
	if p.broken {
		s.Channel.ApplierError = "a row is missing"
	}
	return s
}

// TestEveryPlanIsSafe enumerates what three voters may look like in every phase of the protocol and judges every plan by
// an oracle of its own, written from the rules and not from the code.
func TestEveryPlanIsSafe(t *testing.T) {
	var count atomic.Int64
	t.Run("group", func(t *testing.T) {
		for _, sp := range spaces() {
			for n := range sp.a {
				t.Run(fmt.Sprintf("%s/%d", sp.name, n), func(t *testing.T) {
					t.Parallel()
					sp.each(sp.a[n], func(s *scenario) bool {
						return examine(t, s, count.Add(1))
					})
				})
			}
		}
	})
	t.Logf("%d observations", count.Load())
	if count.Load() < minObservations {
		t.Errorf("only %d observations, less than %d", count.Load(), minObservations)
	}
}

// repeatEvery says how often a plan is made twice, and the observation compared with a copy, to see that Decide is
// deterministic and changes nothing.
const repeatEvery = 5

// examine judges one scenario and reports whether the check shall go on.
func examine(t *testing.T, s *scenario, number int64) (goOn bool) {
	t.Helper()
	defer func() {
		if cause := recover(); cause != nil {
			t.Errorf("Decide panics: %v\n%s", cause, s)
			goOn = false
		}
	}()
	seen, want := s.observed(), s.desired()
	plan := Decide(want, seen)
	if number%repeatEvery == 0 {
		if !reflect.DeepEqual(plan, Decide(want, seen)) {
			t.Errorf("not deterministic\n%s", s)
		}
		if !reflect.DeepEqual(seen, s.observed()) {
			t.Errorf("the observation was changed\n%s", s)
		}
	}
	for _, wrong := range judgePlan(s, &seen, &plan) {
		t.Errorf("%s\n%s\n%s: %s; %s: %v", wrong, s, plan.Decision.Rule, plan.Decision.Reason, plan.Decision.WaitingFor, kinds(plan))
	}
	return !t.Failed()
}
