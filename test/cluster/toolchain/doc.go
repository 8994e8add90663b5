// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package toolchain builds the programs that the local cluster is made of from
// their Go modules, once per version, into a cache outside the checkout.
package toolchain
