// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mycnf makes the my.cnf of an instance.
//
// It knows three kinds of option. Forced ones are what the replication
// protocol, the layout of the Pod or the separation of tenants rests on: a
// user may not name them, by any spelling that mysqld would accept. Derived
// ones are sizes that follow from the memory and the cores of the container,
// by the formulas in sizes.go; a user may override each. Defaults are chosen
// for production; a user may override each of them, too. Whatever is in no
// list is the user's, and mysqld itself judges it (mysqld --validate-config).
//
// The forced options come last in the text. mysqld takes the last of several
// occurrences, so even a spelling that Check does not know cannot win over
// them.
//
// The package is pure: no file, no clock, no network, no state. It is called by
// the controller (to refuse bad options early and to publish the text) and by
// the agent (to write the file and to compare the running server with it). All
// functions may be called concurrently; maps handed in are never changed.
package mycnf
