// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/moco-mysql/moco/pkg/agent/state"
)

// TestResumeRewind finds an intent in every state in which it may have been left.
func TestResumeRewind(t *testing.T) {
	cases := map[string]struct {
		log     string // as it is found
		full    bool   // there is no room for a copy
		want    string
		refused bool
		lost    string // why the vote is lost
	}{
		"nothing was done yet":          {log: "0123456789", want: "0123", lost: unvouchedRewound},
		"the tail is cut off":           {log: "0123", want: "0123", lost: unvouchedRewound},
		"the log is not what it was":    {log: "01234567", want: "01234567", refused: true},
		"there is no room for the tail": {log: "0123456789", full: true, want: "0123456789", lost: unvouchedJudged},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := instanceOn(t, state.Durable{LedStart: "s", StartedID: "s"})
			log := filepath.Join(in.cfg.dataDir(), "binlog.000001")
			entry := filepath.Join(in.cfg.quarantineDir(), "00000001-rewind")
			text, err := json.Marshal(intent{quarantined: quarantined{File: "binlog.000001", Offset: 4, GTIDs: testCluster + ":1"}, Size: 10, Entry: entry})
			must(t, err)
			must(t, os.WriteFile(log, []byte(c.log), 0o600))
			must(t, os.WriteFile(in.cfg.own(fileIntent), text, 0o600))
			if c.full {
				must(t, os.MkdirAll(entry, 0o700))
				must(t, os.Symlink("/dev/full", filepath.Join(entry, "binlog.000001.tail")))
			}
			if err := in.resumeRewind(context.Background()); (err != nil) != c.refused {
				t.Fatalf("got error %v", err)
			}
			got, err := os.ReadFile(log)
			must(t, err)
			left, err := exists(in.cfg.own(fileIntent))
			must(t, err)
			d := in.snapshot()
			if string(got) != c.want || left != c.refused || d.Unvouched != c.lost || (d.LedStart == "") == c.refused {
				t.Errorf("log %q, intent there %t, state %+v", got, left, d)
			}
			if (d.Rewound != "") != (c.lost == unvouchedRewound) {
				t.Errorf("cut off: %q", d.Rewound)
			}
		})
	}
}

// instanceOn is an instance on a volume of its own, without a supervisor.
func instanceOn(t *testing.T, d state.Durable) *instance {
	t.Helper()
	in := &instance{agent: &Agent{changed: make(chan struct{})}, cfg: &Config{DataRoot: t.TempDir(), BootID: "boot-1"}, durable: d}
	for _, dir := range []string{in.cfg.ownDir(), in.cfg.dataDir()} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	file, err := state.Create(in.cfg.own(fileState), d)
	must(t, err)
	in.file = file
	t.Cleanup(func() { must(t, file.Close()) })
	return in
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
