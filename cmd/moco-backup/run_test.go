// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/engine"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

func TestEncodeFitsIntoTheTerminationMessage(t *testing.T) {
	t.Parallel()
	tests := map[string]wire.JobResult{
		"a short result":                    {Succeeded: true, Location: "p/ns/db/uid/backups/id/manifest.json", ConsistentAt: time.Unix(1, 0).UTC()},
		"a long message":                    {Reason: wire.ReasonStore, Message: strings.Repeat("why ", 5000)},
		"a message that JSON makes longer":  {Reason: wire.ReasonStore, Message: strings.Repeat("<\x01>", 3000)},
		"a message of no valid characters":  {Reason: wire.ReasonStore, Message: strings.Repeat("\xff\xfe", 5000)},
		"a message of long characters":      {Reason: wire.ReasonStore, Message: strings.Repeat("é€", 4000)},
		"everything long at the same time":  {Message: strings.Repeat("m", 9000), GTIDExecuted: strings.Repeat("g", 9000), Location: strings.Repeat("l", 9000)},
		"a long set beside a short message": {Message: "no", GTIDExecuted: strings.Repeat("g", 9000)},
	}
	for name, result := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := encode(result)
			var read wire.JobResult
			if err := json.Unmarshal(text, &read); err != nil || len(text) > 4096 {
				t.Fatalf("%d bytes, %v", len(text), err)
			}
			if read.Reason != result.Reason || read.Succeeded != result.Succeeded || (read.Message == "") != (result.Message == "") {
				t.Errorf("read %+v", read)
			}
		})
	}
	want := tests["a short result"]
	var got wire.JobResult
	if err := json.Unmarshal(encode(want), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a short result changed (-want +got):\n%s", diff)
	}
}

func TestRunLeavesAResultForAnyInput(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"no JSON":                   "nonsense",
		"a field that is not known": `{"operation":"Delete","secret":"do not print me"}`,
		"nothing":                   "",
		"an operation of no kind":   `{"operation":"Nonsense","store":{"provider":"Memory","bucket":"b"}}`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := runFlags{job: filepath.Join(dir, "job.json"), terminationLog: filepath.Join(dir, "log"), bind: "127.0.0.1"}
			if err := os.WriteFile(f.job, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run(t.Context(), engine.Config{WorkDir: dir, RunDir: "/tmp"}, f)
			message, readErr := os.ReadFile(f.terminationLog)
			if err == nil || readErr != nil {
				t.Fatalf("run %v, reading the message %v", err, readErr)
			}
			var result wire.JobResult
			if err := json.Unmarshal(message, &result); err != nil {
				t.Fatal(err)
			}
			if result.Succeeded || result.Reason != wire.ReasonRefused || strings.Contains(string(message), "do not print me") {
				t.Errorf("message %s", message)
			}
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name, limit string
		want        int64
	}{
		"version 2":                     {"memory.max", "536870912\n", 512 << 20},
		"version 2 without a limit":     {"memory.max", "max\n", 1 << 30},
		"version 1":                     {"memory/memory.limit_in_bytes", "268435456\n", 256 << 20},
		"version 1 without a limit":     {"memory/memory.limit_in_bytes", "9223372036854771712\n", 1 << 30},
		"more than the machine has":     {"memory.max", "99999999999999\n", 1 << 30},
		"no control group that is read": {"other", "1\n", 1 << 30},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file, meminfo := filepath.Join(dir, "cgroup", tc.name), filepath.Join(dir, "meminfo")
			for path, text := range map[string]string{file: tc.limit, meminfo: "MemFree: 1 kB\nMemTotal:        1048576 kB\n"} {
				if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := memoryLimit(filepath.Join(dir, "cgroup"), meminfo)
			if err != nil || got != tc.want {
				t.Errorf("%d, %v, want %d", got, err, tc.want)
			}
		})
	}
}

func TestInstallReplacesTheTargetWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, programName)
	for _, content := range []string{"first", "second, longer", "3"} {
		if err := os.WriteFile(source, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := install(source, target); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(target); err != nil || string(got) != content {
			t.Errorf("installed %q, %v, want %q", got, err, content)
		}
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}
