// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInstallReplacesTheTargetWhole(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	for _, content := range []string{"first", "second, longer", "3"} {
		if err := os.WriteFile(source, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := install(source, target); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(target)
		if err != nil || string(got) != content {
			t.Errorf("installed %q, %v, want %q", got, err, content)
		}
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(target + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestInstallWithoutASourceChangesNothing(t *testing.T) {
	target := filepath.Join(t.TempDir(), "target")
	if err := install(filepath.Join(t.TempDir(), "missing"), target); err == nil {
		t.Error("installed a file that is not there")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("the target was made")
	}
}
