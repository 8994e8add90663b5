// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package api holds the wire types of the agent's control API: what an agent pushes (Status) and what a coordinator
// may tell it (the commands). JSON over HTTPS with mutual TLS, port 5002; the plain port 5001 carries only the role
// and the probes.
//
// Contract:
//   - GET StatusStreamPath answers one JSON Status per line: at once, on every change, and at least every second.
//   - POST CommandPath(name) takes the request type of that command and answers a Reply with status 200, or an Error
//     with a 4xx or 5xx status.
//   - Every command embeds Envelope. An agent refuses a command whose epoch is below its promise, whose claim differs
//     from the promised claim of the same epoch, or whose state counter is not the agent's current one (0 in the
//     envelope means: not checked, allowed only for Configure and ValidateConfig).
//   - Commands are idempotent: repeating one that is already in effect is OK and changes nothing.
//   - A command ends at its deadline; work that takes longer (initialise, clone, marker) is started by the command and
//     observed in Status.
package api
