// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes the keys, certificates and kubeconfigs of the local cluster.
// They live as long as the cluster and are good for nothing else.
package pki
