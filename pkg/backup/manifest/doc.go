// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package manifest is the format of what describes one backup in a store: manifest.json, which is written last and makes a
// backup exist. It is pure: it knows no store and reads no file.
//
// A store is not trusted: Parse refuses whatever Encode would not have written, above all paths that leave the data
// directory, files with holes and sums that do not add up. Who has a manifest from Parse may create its files without
// looking at the paths again.
//
// docs/backup-format.md describes the format for people.
package manifest
