// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package server starts one bare mysqld for the tests of packages that only
// want to know what a real server says: about a GTID set, an option file, a
// time zone. There is no supervisor, no agent and no replication; for those see
// test/mysqld.
//
// mysqld comes from the root file system that hack/mysql-rootfs.sh prints and
// runs through that root's own dynamic loader, so it sees the paths of the
// host. It listens on a socket only, keeps everything below a directory of the
// test, and is killed, by its pid, when the test ends.
package server
