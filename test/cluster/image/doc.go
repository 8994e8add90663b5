// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package image makes container images without a container engine: a layer is a
// tar written here, the same input gives the same bytes and so the same digest,
// and the result is an OCI image that is loaded into containerd or pushed to a
// registry.
package image
