// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wire holds what controllers, agents and the Jobs of backups tell each other about stores, backups and restores.
// It imports neither a store's library nor a client of Kubernetes, so that everybody may import it.
package wire
