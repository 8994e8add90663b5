// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config says what the local cluster consists of: its addresses, its
// files and the configuration of every daemon. Everything in it is pure: it
// renders text and argument lists and touches neither disk nor network, so that
// golden tests can show each daemon's configuration as it is.
package config
