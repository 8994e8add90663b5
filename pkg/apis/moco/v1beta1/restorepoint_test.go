// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTimesOfRestorePoints(t *testing.T) {
	at := func(micros int) time.Time { return time.Date(2026, 11, 21, 16, 5, 0, micros*1000, time.UTC) }
	cases := map[string]struct {
		text string
		want time.Time
	}{
		"whole seconds":       {"2026-11-21T16:05:00Z", at(0)},
		"a tenth":             {"2026-11-21T16:05:00.5Z", at(500_000)},
		"microseconds":        {"2026-11-21T16:05:00.123456Z", at(123_456)},
		"what is finer falls": {"2026-11-21T16:05:00.123456789Z", at(123_456)},
		"another time zone":   {"2026-11-21T18:05:00+02:00", at(0)},
	}
	pattern := timePattern(t)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var source RestoreSource
			if err := json.Unmarshal([]byte(`{"backupName":"b","at":{"time":"`+c.text+`"}}`), &source); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, source.At.Time.UTC()); diff != "" || !pattern.MatchString(c.text) {
				t.Errorf("the API server takes it: %t (-want +got):\n%s", pattern.MatchString(c.text), diff)
			}
			text, err := json.Marshal(source)
			var again RestoreSource
			if err == nil {
				err = json.Unmarshal(text, &again)
			}
			if diff := cmp.Diff(source, again); err != nil || diff != "" {
				t.Errorf("%v (-want +again):\n%s", err, diff)
			}
		})
	}
	// The format by itself lets these pass.
	for _, text := range []string{"2026-11-21t16:05:00z", "2026-11-21T16:05:00+99:00", "2026-11-21T16:05:00+02:99", "2026-11-21T16:05:00,5Z"} {
		if pattern.MatchString(text) {
			t.Errorf("the API server takes %q", text)
		}
	}
}

func TestPointsThatAreNoTimes(t *testing.T) {
	var got RestorePoint
	if err := json.Unmarshal([]byte(`{"beforeGTID":"u:1"}`), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(RestorePoint{BeforeGTID: "u:1"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// timePattern is what the API server demands of the time, beside that it is one.
func timePattern(t *testing.T) *regexp.Regexp {
	t.Helper()
	crd, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "manifests", "10-crd-mysqlclusters.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, behind, found := strings.Cut(string(crd), "Time: every transaction that committed")
	_, behind, named := strings.Cut(behind, "pattern: ")
	text, _, ended := strings.Cut(behind, "\n")
	if !found || !named || !ended {
		t.Fatal("the CRD has no pattern for the time")
	}
	return regexp.MustCompile(text)
}
