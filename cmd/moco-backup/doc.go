// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Moco-backup is the program in the Jobs of backups: `install` copies it into a volume, from which `run` is started in a
// container of the cluster's own MySQL image. Flags and wiring only; the work is in pkg/backup/engine.
package main
