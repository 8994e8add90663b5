// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"iter"
	"os"

	"github.com/moco-mysql/moco/pkg/mysql/tzinfo"
)

// timeZones yields the statements for the zones in a zip file; nil for no file.
func timeZones(path string) func() iter.Seq2[string, error] {
	if path == "" {
		return nil
	}
	return func() iter.Seq2[string, error] {
		content, err := os.ReadFile(path)
		if err != nil {
			return func(yield func(string, error) bool) { yield("", fmt.Errorf("reading time zones: %w", err)) }
		}
		return tzinfo.Statements(content)
	}
}
