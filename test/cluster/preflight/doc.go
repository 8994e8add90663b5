// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package preflight tells at once all that a machine lacks for the local cluster,
// without changing anything.
package preflight
