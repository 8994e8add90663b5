// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Moco-agent is the one binary in a MySQL Pod: `supervise` is PID 1 of the container that runs mysqld, `serve` is the
// agent beside it, and `install` copies the binary into the volume from which the first is started. Flags and wiring
// only; the work is in pkg/agent and pkg/agent/supervise.
package main
