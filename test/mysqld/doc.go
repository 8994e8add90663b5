// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mysqld starts real mysqlds under real supervisors and agents for tests, without Kubernetes. mysqld comes from
// the root file system that hack/mysql-rootfs.sh prints; it runs through that root's own dynamic loader, so it sees the
// same paths as the agent does and needs no mounts. Every process is the test's own child and is killed, by its pid,
// when the test ends. Only root may make that root file system.
//
// A Lab holds what the tests of a package share: the built binary and the wrapper around mysqld. An Instance is one Pod:
// a volume, a supervisor process and an agent, either inside the test (StartAgent) or as a process (ServeAgent). A
// Cluster is the coordinator's side: accounts, certificates and the record.
package mysqld
