// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package document writes and reads JSON that carries its own sum, so that any changed byte of it is found: the manifests
// of backups and the index pages of archives. It is pure.
//
// A document is the JSON of a value, indented by one space, with a last member "sha256" on a line of its own: the sum of
// all lines before that one. A person checks it with
//
//	head -n -2 manifest.json | sha256sum
//
// There is only one way to write a value: a document that is not byte for byte what Encode makes of it is refused.
package document
