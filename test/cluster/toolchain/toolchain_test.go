// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package toolchain

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVersionIsReadFromTheRequirement(t *testing.T) {
	const module = "example.com/x/v2"
	tests := map[string]struct {
		gomod, want string
		fails       bool
	}{
		"alone on its line":                 {gomod: "module m\n\nrequire example.com/x/v2 v2.1.0 // indirect\n", want: "v2.1.0"},
		"in a block":                        {gomod: "require (\n\texample.com/x v1.0.0\n\texample.com/x/v2 v2.3.4 // indirect\n)\n", want: "v2.3.4"},
		"not the path that a tool line has": {gomod: "tool (\n\texample.com/x/v2\n)\n", fails: true},
		"not that of a longer path":         {gomod: "require example.com/x/v2/y v2.0.0\n", fails: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "go.mod")
			if err := os.WriteFile(file, []byte(tt.gomod), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := version(file, module)
			if (err != nil) != tt.fails {
				t.Fatalf("error: %v", err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("version (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryToolHasAVersionInThisCheckout(t *testing.T) {
	for _, tool := range Tools() {
		if _, err := version(filepath.Join("../tools", tool.Name, "go.mod"), tool.Module); err != nil {
			t.Error(err)
		}
	}
}

func TestASingleProgramIsBuiltUnderItsNameAndSeveralIntoADirectory(t *testing.T) {
	one := Tool{Programs: map[string]string{"etcd": "example.com/server/v3"}}
	if diff := cmp.Diff([]string{"-o", "/d/etcd", "example.com/server/v3"}, one.packages("/d")); diff != "" {
		t.Errorf("one (-want +got):\n%s", diff)
	}
	two := Tool{Programs: map[string]string{"b": "example.com/b", "a": "example.com/a"}}
	if diff := cmp.Diff([]string{"-o", "/d/", "example.com/a", "example.com/b"}, two.packages("/d")); diff != "" {
		t.Errorf("two (-want +got):\n%s", diff)
	}
}
