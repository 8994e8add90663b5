// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

// space is a product of dimensions of scenarios.
type space struct {
	name    string
	stage   stage
	a, b, c []part
	sides   []side
	floors  []int
	wishes  []wish
}

// each calls f with every scenario of the space that has this db-mysql-0, until f returns false.
func (sp *space) each(a part, f func(*scenario) bool) {
	for _, b := range sp.b {
		for _, c := range sp.c {
			for _, w := range sp.wishes {
				if !sp.around(scenario{stage: sp.stage, wish: w, parts: [4]part{a, b, c}}, f) {
					return
				}
			}
		}
	}
}

// around varies what is not an instance. An own log that is required, other configurations and the floor are not combined
// with each other, and other configurations not with every wish: nothing depends on two of them.
func (sp *space) around(s scenario, f func(*scenario) bool) bool {
	for _, other := range sp.sides {
		if s.side = other; other != noSide && s.wish != wishNothing && (s.wish != wishLossA || other == sideAlone) {
			continue
		}
		joiners := []part{{}}
		if other == sideGrow {
			joiners = joinersOf(sp.stage)
		}
		for _, s.parts[roleD] = range joiners {
			if !f(&s) {
				return false
			}
		}
	}
	s.side, s.parts[roleD] = noSide, part{}
	for _, s.floor = range sp.floors {
		if !f(&s) {
			return false
		}
	}
	s.floor, s.ownLog = levelOld, true
	return f(&s)
}

// joinersOf is what the joiner of a growth may look like.
func joinersOf(in stage) []part {
	whole := part{recv: levelAll, exec: levelAll}
	if in == stageClaimed || in == stageChosenB {
		whole.fence, whole.hearing = fencedHere, stoppedReceiver
	}
	marked := whole
	marked.marked = true
	return []part{{life: silent}, whole, marked}
}

// missingStates are every way not to be there, or not to be running.
func missingStates() []part {
	return []part{{life: silent}, {life: hiccup}, {life: gone}, {life: lostVolume}, {life: down}, {life: unjudged}, {life: mute}, {life: hung}}
}

// spaces lists what is enumerated, phase by phase.
func spaces() []space {
	all := []wish{wishNothing, wishManual, wishAny, wishC, wishFencedA, wishFencedC, wishLossA, wishLossAC}
	some := []wish{wishNothing, wishManual, wishC, wishLossA, wishLossAC}
	sides := []side{noSide, sideShrink, sideGrow}
	floors := []int{levelHalf, levelBeyond}
	coarse := append(missingStates()[:6:6], fencedReplicas()[:8]...)
	return []space{
		{"opened", stageOpened, openedPrimaries(), openedReplicas(), openedReplicas(), []side{noSide}, nil, all},
		{"claimed", stageClaimed, claimedPrimaries(), fencedReplicas(), fencedReplicas(), append(sides[:3:3], sideAlone), floors, some},
		{"claimed by another", stageClaimedForeign, claimedPrimaries(), coarse, coarse, sides, nil, some},
		{"chosen again", stageChosenA, preparedPrimaries(), followersOfA(), followersOfA(), sides, floors, some[:3]},
		{"chosen", stageChosenB, claimedPrimaries(), candidates(), followersOfB(), sides, floors[:1], some},
		{"chosen again by another", stageChosenAForeign, claimedPrimaries(), coarse, coarse, sides, nil, some},
		{"chosen by another", stageChosenBForeign, claimedPrimaries(), candidates(), followersOfB(), sides[:1], nil, some},
	}
}

// openedPrimaries are the states of the primary of an opened epoch.
func openedPrimaries() []part {
	whole := part{recv: levelAll, exec: levelAll, hearing: noChannel}
	made := missingStates()
	for _, change := range []func(*part){
		func(p *part) { p.open, p.leads = true, true },
		func(p *part) { p.open, p.leads, p.stalled = true, true, true },
		func(p *part) { p.open, p.leads, p.stopping = true, true, true },
		func(*part) {},
		func(p *part) { p.leads = true },
		func(p *part) { p.leads, p.closed = true, true },
		func(p *part) { p.leads, p.closed, p.stopping = true, true, true },
		func(p *part) { p.stopping = true },
	} {
		p := whole
		change(&p)
		made = append(made, p)
	}
	return made
}

// openedReplicas are the states of a replica of an opened epoch.
func openedReplicas() []part {
	made := missingStates()
	for _, h := range []hearing{hears, quietSource, connecting, stoppedReceiver, noChannel} {
		for n, held := range [][2]int{{levelAll, levelAll}, {levelHalf, levelMarker}, {levelOld, levelOld}, {levelMarker, levelMarker}, {levelAll, levelHalf}} {
			if h == hears || h == stoppedReceiver || n < 2 {
				made = append(made, part{hearing: h, recv: held[0], exec: held[1]})
			}
		}
	}
	whole := part{recv: levelAll, exec: levelAll}
	for _, change := range []func(*part){
		func(p *part) { p.unvouched = true },
		func(p *part) { p.unvouched, p.hearing = true, stoppedReceiver },
		func(p *part) { p.diverged, p.hearing = true, stoppedReceiver },
		func(p *part) { p.alien = true },
		func(p *part) { p.alien, p.hearing = true, stoppedReceiver },
		func(p *part) { p.stopping = true },
		func(p *part) { p.unknowing = true },
		func(p *part) { p.toB = true },
	} {
		p := whole
		change(&p)
		made = append(made, p)
	}
	return made
}

// claimedPrimaries are the states of the old primary while another takes over.
func claimedPrimaries() []part {
	whole := part{recv: levelAll, exec: levelAll, hearing: noChannel}
	made := missingStates()
	for _, change := range []func(*part){
		func(p *part) { p.open, p.leads, p.unknowing = true, true, true },
		func(p *part) { p.leads, p.closed, p.unknowing = true, true, true },
		func(p *part) { p.life, p.fence = down, killedLeader },
		func(p *part) { p.life, p.fence = unjudged, killedLeader },
		func(p *part) { p.life, p.unknowing = unjudged, true },
		func(p *part) { p.fence = fencedHere },
		func(p *part) { p.fence = sparedLeader },
		func(p *part) { p.fence, p.stopping = sparedLeader, true },
		func(p *part) { p.fence, p.life = sparedLeader, mute },
	} {
		p := whole
		change(&p)
		made = append(made, p)
	}
	return made
}

// fencedReplicas are the states of a replica of a claimed epoch. The first eight are those of a coarse look.
func fencedReplicas() []part {
	fenced := part{fence: fencedHere, hearing: stoppedReceiver, recv: levelAll, exec: levelAll}
	var made []part
	for _, change := range []func(*part){
		func(*part) {},
		func(p *part) { p.exec = levelHalf },
		func(p *part) { p.recv, p.exec = levelHalf, levelHalf },
		func(p *part) { p.fence, p.hearing, p.unknowing = unfenced, hears, true },
		func(p *part) { p.fence, p.hearing, p.unknowing = unfenced, connecting, true },
		func(p *part) { p.recv, p.exec = levelOld, levelOld },
		func(p *part) { p.unvouched = true },
		func(p *part) { p.alien = true },
		func(p *part) { p.recv, p.exec = levelMarker, levelMarker },
		func(p *part) { p.exec, p.broken = levelHalf, true },
		func(p *part) { p.stopping = true },
		func(p *part) { p.diverged = true },
		func(p *part) { p.fence = fencedForOther },
		func(p *part) { p.fence = unfenced },
		func(p *part) { p.fence, p.unvouched = unfenced, true },
		func(p *part) {
			p.fence, p.hearing, p.recv, p.exec, p.unknowing = unfenced, quietSource, levelMarker, levelOld, true
		},
	} {
		p := fenced
		change(&p)
		made = append(made, p)
	}
	return append(made, missingStates()...)
}

// candidates are the states of a chosen instance that takes over.
func candidates() []part {
	chosen := part{fence: fencedHere, hearing: stoppedReceiver, recv: levelAll, exec: levelAll}
	made := missingStates()
	for _, change := range []func(*part){
		func(*part) {},
		func(p *part) { p.exec = levelHalf },
		func(p *part) { p.exec, p.broken = levelHalf, true },
		func(p *part) { p.fence = unfenced },
		func(p *part) { p.unknowing, p.fence = true, unfenced },
		func(p *part) { p.stopping = true },
		func(p *part) { p.leads = true },
		func(p *part) { p.leads, p.fence = true, unfenced },
		func(p *part) { p.leads, p.marker = true, waitingMarker },
		func(p *part) { p.leads, p.marker = true, committedMarker },
		func(p *part) { p.leads, p.marker = true, foreignMarker },
		func(p *part) { p.leads, p.marker, p.stopping = true, committedMarker, true },
	} {
		p := chosen
		change(&p)
		made = append(made, p)
	}
	return made
}

// followersOfB are the states of another voter while db-mysql-1 takes over.
func followersOfB() []part {
	fenced := part{fence: fencedHere, hearing: stoppedReceiver, recv: levelAll, exec: levelAll}
	made := missingStates()
	for _, change := range []func(*part){
		func(*part) {},
		func(p *part) { p.recv, p.exec = levelHalf, levelHalf },
		func(p *part) { p.exec = levelHalf },
		func(p *part) { p.recv, p.exec = levelOld, levelOld },
		func(p *part) { p.alien = true },
		func(p *part) { p.unvouched = true },
		func(p *part) { p.diverged = true },
		func(p *part) { p.stopping = true },
		func(p *part) { p.hearing, p.toB = hears, true },
		func(p *part) { p.hearing, p.toB, p.marked = hears, true, true },
		func(p *part) { p.hearing, p.toB, p.marked, p.unknowing = hears, true, true, true },
		func(p *part) { p.hearing, p.toB = connecting, true },
		func(p *part) { p.fence, p.hearing, p.unknowing = unfenced, hears, true },
		func(p *part) { p.fence, p.leads = unfenced, true },
	} {
		p := fenced
		change(&p)
		made = append(made, p)
	}
	return made
}

// preparedPrimaries are the states of the last opened primary in an epoch that is its own again.
func preparedPrimaries() []part {
	whole := part{recv: levelAll, exec: levelAll, hearing: noChannel}
	made := append(missingStates(), part{life: unjudged, fence: killedLeader}, part{life: down, fence: killedLeader})
	for _, change := range []func(*part){
		func(p *part) { p.open, p.leads = true, true },
		func(p *part) { p.open, p.leads, p.unknowing = true, true, true },
		func(p *part) { p.open, p.leads, p.stalled = true, true, true },
		func(p *part) { p.open, p.leads, p.stopping = true, true, true },
		func(p *part) { p.open, p.leads, p.marker = true, true, waitingMarker },
		func(p *part) { p.open, p.leads, p.marker = true, true, committedMarker },
		func(p *part) { p.open, p.leads, p.marker = true, true, foreignMarker },
		func(*part) {},
		func(p *part) { p.leads = true },
		func(p *part) { p.leads, p.marker = true, waitingMarker },
		func(p *part) { p.leads, p.marker = true, committedMarker },
		func(p *part) { p.hearing, p.toB = stoppedReceiver, true },
	} {
		p := whole
		change(&p)
		made = append(made, p)
	}
	return made
}

// followersOfA are the states of a replica in an epoch of the last opened primary.
func followersOfA() []part {
	whole := part{recv: levelAll, exec: levelAll}
	made := missingStates()
	for _, change := range []func(*part){
		func(*part) {},
		func(p *part) { p.marked = true },
		func(p *part) { p.marked, p.unknowing = true, true },
		func(p *part) { p.hearing = quietSource },
		func(p *part) { p.hearing = connecting },
		func(p *part) { p.hearing, p.fence = stoppedReceiver, fencedHere },
		func(p *part) {
			p.hearing, p.fence, p.recv, p.exec = stoppedReceiver, fencedHere, levelHalf, levelMarker
		},
		func(p *part) { p.hearing, p.unvouched = stoppedReceiver, true },
		func(p *part) { p.hearing, p.diverged = stoppedReceiver, true },
		func(p *part) { p.hearing, p.alien = stoppedReceiver, true },
		func(p *part) { p.stopping = true },
		func(p *part) { p.leads = true },
	} {
		p := whole
		change(&p)
		made = append(made, p)
	}
	return made
}
