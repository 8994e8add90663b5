// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

func TestWhatOfTheBinaryLogCanGo(t *testing.T) {
	const uuid = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
	now := time.Unix(1_000_000, 0)
	parse := func(text string) gtid.Set {
		set, err := gtid.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	// Each file begins behind one more transaction than the one before.
	log := func(ages ...time.Duration) []binlogFile {
		var files []binlogFile
		previous := gtid.Set{}
		for n, age := range ages {
			files = append(files, binlogFile{previous: previous, changed: now.Add(-age)})
			previous = parse(uuid + ":1-" + string(rune('1'+n)))
		}
		return files
	}
	const old = time.Hour
	cases := map[string]struct {
		files            []binlogFile
		set              string
		old, dispensable int
		held             string
	}{
		"no file":                        {},
		"only the newest":                {files: log(old, old, old), set: uuid + ":1-9"},
		"all but the newest":             {files: log(old, old, old, old, old), set: uuid + ":1-9", old: 2, dispensable: 2, held: uuid + ":1-2"},
		"a young one keeps those behind": {files: log(old, time.Minute, old, old, old, old), set: uuid + ":1-9", old: 1, dispensable: 1, held: uuid + ":1"},
		"one that is needed does, too":   {files: log(old, old, old, old, old, old), set: uuid + ":1:3", old: 3, dispensable: 1, held: uuid + ":1-3"},
		"an empty one is never needed": {
			files: []binlogFile{{}, {}, {}, {}}, old: 1, dispensable: 1,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			n := oldBinlogs(c.files, now)
			got := []any{n, dispensable(c.files, n, parse(c.set)), held(c.files, n).String()}
			if diff := cmp.Diff([]any{c.old, c.dispensable, c.held}, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
