// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package gtid_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/server"
)

// rounds is how many random pairs of sets the server is asked about.
const rounds = 1000

// uuids and tags are few, so that sets often overlap.
var (
	uuids = []string{
		"3e11fa47-71ca-11e1-9e33-c80aa9429562", "3E11FA47-71CA-11E1-9E33-C80AA9429563", "00000000-0000-0000-0000-000000000001",
	}
	tags = []string{"", "", "moco_e7", "moco_e11", "_a", "Tag"}
)

// randomText is a set as a person might write it: unordered, overlapping, with
// repeated UUIDs and tags.
func randomText(r *rand.Rand) string {
	var parts []string
	for range r.IntN(6) {
		part := uuids[r.IntN(len(uuids))]
		for range 1 + r.IntN(3) {
			if tag := tags[r.IntN(len(tags))]; tag != "" {
				part += ":" + tag
			}
			for range 1 + r.IntN(3) {
				part += ":" + randomInterval(r)
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, []string{",", ", ", ",\n"}[r.IntN(3)])
}

func randomInterval(r *rand.Rand) string {
	first := 1 + r.Int64N(40)
	if r.IntN(10) == 0 {
		first = gtid.MaxNumber - r.Int64N(10)
	}
	if r.IntN(2) == 0 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, first+min(r.Int64N(9), gtid.MaxNumber-first))
}

func TestAgainstARealServer(t *testing.T) {
	s := server.Start(t, "[mysqld]\n")
	t.Run("every operation gives what the server's functions give", func(t *testing.T) { testOperations(t, s) })
	t.Run("Parse takes and refuses what the server does", func(t *testing.T) { testSyntax(t, s) })
}

// testOperations compares every operation with the functions of the server,
// and the text of every result with the server's own.
func testOperations(t *testing.T, s *server.Server) {
	r := rand.New(rand.NewPCG(7, 11))
	for round := range rounds {
		a, b := randomText(r), randomText(r)
		setA, setB := parse(t, a), parse(t, b)
		var union, minus string
		var contains bool
		row := s.DB.QueryRowContext(t.Context(),
			`SELECT GTID_SUBTRACT(CONCAT(?, ',', ?), ''), GTID_SUBTRACT(?, ?), GTID_SUBSET(?, ?)`, a, b, a, b, b, a)
		if err := row.Scan(&union, &minus, &contains); err != nil {
			t.Fatalf("asking the server about %q and %q: %v", a, b, err)
		}
		compare(t, a, b, "union", union, setA.Union(setB))
		compare(t, a, b, "difference", minus, setA.Subtract(setB))
		compare(t, a, b, "intersection", subtract(t, s, a, minus), setA.Intersect(setB))
		if got := setA.Contains(setB); got != contains {
			t.Errorf("round %d: does %q contain %q: got %t, the server says %t", round, a, b, got, contains)
		}
		if t.Failed() {
			return
		}
	}
}

// compare demands that the server's text is what String prints but for the
// line breaks, and that it reads as the same set.
func compare(t *testing.T, a, b, what, server string, got gtid.Set) {
	t.Helper()
	if want := strings.ReplaceAll(server, "\n", ""); got.String() != want {
		t.Errorf("%s of %q and %q: got %s, the server says %s", what, a, b, got, want)
	}
	if !parse(t, server).Equal(got) {
		t.Errorf("%s of %q and %q: the server's text reads as another set than %s", what, a, b, got)
	}
}

func subtract(t *testing.T, s *server.Server, a, b string) string {
	t.Helper()
	var left string
	if err := s.DB.QueryRowContext(t.Context(), "SELECT GTID_SUBTRACT(?, ?)", a, b).Scan(&left); err != nil {
		t.Fatalf("asking the server for %q without %q: %v", a, b, err)
	}
	return left
}

func parse(t *testing.T, text string) gtid.Set {
	t.Helper()
	set, err := gtid.Parse(text)
	if err != nil {
		t.Fatalf("parsing %q: %v", text, err)
	}
	return set
}

// testSyntax keeps Parse from reading text otherwise than the server does. It
// refuses some text that a server takes but never prints, in which something
// was most probably left out.
func testSyntax(t *testing.T, s *server.Server) {
	u := uuids[0]
	texts := map[string]struct {
		text     string
		stricter bool // the server takes it as an empty set
	}{
		"the empty set":                          {text: ""},
		"a plain set":                            {text: u + ":1-5"},
		"white space everywhere":                 {text: " " + u + " : 1 - 5 : tag : 7 , "},
		"no intervals":                           {text: u, stricter: true},
		"an empty interval":                      {text: u + ":"},
		"the number zero":                        {text: u + ":0"},
		"an interval from zero":                  {text: u + ":0-4"},
		"the largest number":                     {text: u + ":9223372036854775806"},
		"a number that is too large":             {text: u + ":9223372036854775807"},
		"a number beyond 64 bits":                {text: u + ":99999999999999999999"},
		"an interval in reverse":                 {text: u + ":5-4", stricter: true},
		"a sign":                                 {text: u + ":+5"},
		"hexadecimal digits":                     {text: u + ":0x5"},
		"a tag of 32 bytes":                      {text: u + ":" + strings.Repeat("a", 32) + ":1"},
		"a tag of 33 bytes":                      {text: u + ":" + strings.Repeat("a", 33) + ":1"},
		"a tag that begins with a digit":         {text: u + ":7a:1"},
		"a tag with a dash":                      {text: u + ":a-b:1"},
		"a tag without intervals":                {text: u + ":a", stricter: true},
		"two tags in a row":                      {text: u + ":a:b:1", stricter: true},
		"a short UUID":                           {text: u[:20] + ":1"},
		"leading zeros":                          {text: u + ":007"},
		"intervals after a tag and more of them": {text: u + ":1:a:2:3:b:4"},
		"a semicolon":                            {text: u + ":1;2"},
	}
	for name, tt := range texts {
		t.Run(name, func(t *testing.T) {
			var got string
			serverErr := s.DB.QueryRowContext(t.Context(), "SELECT GTID_SUBTRACT(?, '')", tt.text).Scan(&got)
			set, err := gtid.Parse(tt.text)
			if wantErr := serverErr != nil || tt.stricter; (err != nil) != wantErr {
				t.Fatalf("Parse says %v, the server %v", err, serverErr)
			}
			if err == nil && set.String() != strings.ReplaceAll(got, "\n", "") {
				t.Errorf("Parse reads %q, the server %q", set, got)
			}
		})
	}
}
