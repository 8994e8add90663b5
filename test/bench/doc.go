// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bench measures the product on the local cluster. Every measurement is a distribution with its n, never a single
// number; what depends on the machine is set against a hand-made twin in the same run. make bench runs it. An aim that is
// missed is printed, not failed: a busy machine must not break a build.
package bench
