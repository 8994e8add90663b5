// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package network lays the cables of the local cluster: a bridge on the host, a
// network namespace per node joined to it by a pair of virtual links, and the
// routes between the nodes' Pods.
package network
