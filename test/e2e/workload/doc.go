// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package workload writes to a cluster and remembers what it was told: which rows were acknowledged, which were refused
// and which are unknown. Its checker reads everything back from every instance. A Writer runs one goroutine, which ends
// with Stop or with its context.
package workload
