// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden are the instances whose option files are kept in testdata. Their
// names are those of the files.
func golden() map[string]mycnf.Input {
	inputs := map[string]mycnf.Input{}
	for _, version := range []mycnf.Version{{Major: 8, Minor: 4}, {Major: 9, Minor: 7, Patch: 4}} {
		for size, container := range map[string]struct{ memory, milliCPU int64 }{
			"256MiB": {256 << 20, 250}, "1GiB": {1 << 30, 0}, "8GiB": {8 << 30, 4000}, "64GiB": {64 << 30, 16000},
		} {
			in := mycnf.DefaultInput()
			in.ServerID, in.ReportHost, in.Version = 1001, "db-mysql-1.db-mysql-headless.default.svc", version
			in.MemoryBytes, in.MilliCPU = container.memory, container.milliCPU
			in.User = map[string]string{"Max-Connections": "123", "sql_mode": "ANSI,TRADITIONAL", "init_connect": `SET @a = '#"\'`}
			inputs[fmt.Sprintf("%s-%s.cnf", version, size)] = in
		}
	}
	return inputs
}

func TestGoldenFiles(t *testing.T) {
	for name, in := range golden() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			got := mycnf.Render(in)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // a test's expectation
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("run the test with -update if this is right (-want +got):\n%s", diff)
			}
		})
	}
}
