// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gtid does arithmetic on sets of global transaction identifiers, tagged ones included (manual, section "GTID
// Format and Storage"; tags since 8.3). It is pure. A Set is a value: no function changes one it was given, so Sets may
// be shared between goroutines.
//
// It is called by pkg/topology and pkg/controller to compare histories, and by the agents. It does not talk to a server;
// that its results are those of GTID_SUBSET and GTID_SUBTRACT is shown against a real one in the tests.
package gtid
