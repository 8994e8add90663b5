// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the end-to-end tests: every user story and every fault once, on real Kubernetes with real mysqld.
// The controller runs in its Pod, under the roles that are shipped.
//
// The cluster is the one of KUBECONFIG or, without it, the local one of hack/local-cluster.sh. Scenarios that send signals
// to processes in containers, and those that dial Pod addresses, need the local one.
//
// Nothing here sleeps: a scenario waits for a condition with a deadline and, when that passes, prints what a person would
// look at. The parts are in world (the cluster under test) and workload (a writer that records what it was told, and the
// checker that reads everything back).
package e2e
