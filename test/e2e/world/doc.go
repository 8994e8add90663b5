// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package world is the Kubernetes cluster under test, as the end-to-end tests and the benchmarks use it: installing the
// product as shipped, applying MySQLClusters, waiting for conditions, logging in to MySQL and sending signals to the
// processes of a Pod. It decides nothing about what is right; the tests do. A World is safe for concurrent use.
package world
