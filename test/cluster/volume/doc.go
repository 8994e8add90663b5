// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package volume serves the local cluster's volumes: each is a sparse XFS image
// on a loop device, so that it can be filled, runs out of space at its own size,
// and grows. It is mounted in its node's directory and offered as a local
// persistent volume with affinity to that node.
//
// XFS rather than ext4, because growing a mounted ext4 takes CAP_SYS_RESOURCE
// (ext4_ioctl, EXT4_IOC_RESIZE_FS), which root in a container or a sandbox often
// lacks; XFS asks for CAP_SYS_ADMIN, which the mount needs anyway.
package volume
