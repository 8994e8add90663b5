// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package daemon starts the cluster's long-running programs, finds them again
// and stops them. A program is known by a pid file that holds its start time,
// too, so that a process that was given the same number later is left alone;
// and everything that it starts is in a control group of the cluster's own, so
// that teardown ends exactly that.
package daemon
