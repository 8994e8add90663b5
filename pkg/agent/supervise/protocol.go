// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import "time"

// Version of the protocol this package speaks.
const Version = 1

// maxLine bounds one message in bytes, both ways.
const maxLine = 1 << 20

// Op is an order of the agent.
type Op string

// The orders.
const (
	// OpStart starts mysqld with Args.
	OpStart Op = "start"
	// OpRun runs the program with Args until it exits, for at most TimeoutMillis; a few at a time. It is killed when
	// its connection breaks.
	OpRun Op = "run"
	// OpStop sends SIGTERM to mysqld: a clean stop. The Reply does not wait for the end.
	OpStop Op = "stop"
	// OpKill sends SIGKILL to mysqld. The Reply comes after waitpid.
	OpKill Op = "kill"
)

// Request is one order.
type Request struct {
	// ID is chosen by the client and repeated in the Reply.
	ID   int64    `json:"id"`
	Op   Op       `json:"op"`
	Args []string `json:"args,omitempty"`
	// StartID names the start of mysqld: chosen by the client for start (it notes it first, so that it knows its own
	// mysqld again), and for stop and kill the only one that may be ended. "" means: make one; whichever runs.
	StartID       string `json:"startID,omitempty"`
	TimeoutMillis int64  `json:"timeoutMillis,omitempty"`
}

// Reply answers one Request.
type Reply struct {
	ID int64 `json:"id"`
	// Error is empty when the order was carried out.
	Error string `json:"error,omitempty"`
	// StartID of the mysqld that was started.
	StartID string `json:"startID,omitempty"`
	// Exit and Output of a run; Output holds standard output and error together, cut after OutputLimit bytes.
	Exit   *Exit  `json:"exit,omitempty"`
	Output string `json:"output,omitempty"`
}

// Message is what the supervisor sends: one of its fields is set.
type Message struct {
	State *State `json:"state,omitempty"`
	Reply *Reply `json:"reply,omitempty"`
}

// Holder names who holds the lock of a volume.
type Holder struct {
	PodUID string `json:"podUID"`
	BootID string `json:"bootID"`
}

// State is all that a supervisor knows.
type State struct {
	Version int `json:"version"`
	// Locked says that this supervisor holds the volume; otherwise Holder names who does, as far as it is known.
	Locked bool    `json:"locked"`
	Holder *Holder `json:"holder,omitempty"`
	// Running says that a mysqld lives, started as StartID at Since.
	Running bool      `json:"running"`
	StartID string    `json:"startID,omitempty"`
	Since   time.Time `json:"since"`
	// Exit of the last mysqld that ended, or nil.
	Exit *Exit `json:"exit,omitempty"`
	// Terminating says that the container was told to stop.
	Terminating bool `json:"terminating,omitempty"`
}

// Exit is how a process ended, as waitpid told.
type Exit struct {
	// StartID of the process; empty for a run.
	StartID string `json:"startID,omitempty"`
	// Code it exited with, or -1 when Signal ended it.
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
	// Ordered is stop or kill when the agent ordered the end, empty when the process ended by itself.
	Ordered Op        `json:"ordered,omitempty"`
	At      time.Time `json:"at"`
}
