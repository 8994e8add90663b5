// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package local brings the local cluster up and down: real Kubernetes with three
// nodes on this machine, without a container engine and without a registry.
package local
