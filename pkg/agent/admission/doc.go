// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admission decides, from the durable state of an instance alone, which commands its agent carries out, what a
// command makes it promise, and when a promise fences it. It is pure: no clock, no disk, no server. The agent keeps what
// it decides on disk before it acts on it, and the simulator of test/sim drives the same code.
//
// What must hold:
//   - Nothing of an epoch below the promise, or of another claim of the promised epoch, is ever admitted.
//   - The promised epoch never goes back, and the kept record never falls behind within an epoch.
//   - Every record that takes the lead from the primary the agent knew fences the instance before it can count.
//
// All functions are safe for concurrent use; none changes its arguments.
package admission
