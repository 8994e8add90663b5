// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import "time"

// Bounds of Envelope.DeadlineMillis.
const (
	MinDeadlineMillis = 1
	MaxDeadlineMillis = 60_000
)

// Request is any command's request: all embed Envelope, which gives them Header.
type Request interface {
	// Header returns the envelope of the request, to read it or to fill it in.
	Header() *Envelope
}

// Header implements Request for every type that embeds an Envelope.
func (e *Envelope) Header() *Envelope { return e }

// Deadline is DeadlineMillis as a duration, brought into its bounds.
func (e *Envelope) Deadline() time.Duration {
	millis := max(MinDeadlineMillis, min(e.DeadlineMillis, MaxDeadlineMillis))
	return time.Duration(millis) * time.Millisecond
}
