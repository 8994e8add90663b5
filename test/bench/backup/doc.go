// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backup measures backups, restores and the archive on mysqlds that are plain processes of this machine, without
// Kubernetes. Each is set against what a person does by hand with MySQL's own tools and the same data, in turns in the same
// run. make bench-backup runs it; the tables are in _output/bench. Everything shares the machine's cores: primary, replica,
// writers, Job and store.
package backup
