// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package volume serves the local cluster's volumes: each is a sparse ext4 image
// on a loop device, so that it can be filled, runs out of space at its own size,
// and grows. It is mounted in its node's directory and offered as a local
// persistent volume with affinity to that node.
package volume
