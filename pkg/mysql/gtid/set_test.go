// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package gtid

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	uuidA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidB = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
)

func must(t *testing.T, text string) Set {
	t.Helper()
	s, err := Parse(text)
	if err != nil {
		t.Fatalf("parsing %q: %v", text, err)
	}
	return s
}

func TestParseAndPrint(t *testing.T) {
	cases := map[string]struct{ text, want string }{
		"the empty set":                               {"", ""},
		"white space and empty parts":                 {" ,\n, ", ""},
		"one transaction":                             {uuidA + ":23", uuidA + ":23"},
		"intervals are sorted and joined":             {uuidA + ":7-9:1-3:4:10", uuidA + ":1-4:7-10"},
		"the parts of one UUID are joined":            {uuidA + ":1," + uuidB + ":5," + uuidA + ":2", uuidA + ":1-2," + uuidB + ":5"},
		"large letters":                               {strings.ToUpper(uuidA) + ":1", uuidA + ":1"},
		"a tag":                                       {uuidA + ":moco_e7:1", uuidA + ":moco_e7:1"},
		"tags behind untagged intervals":              {uuidA + ":1-3:b:5:a:1-2", uuidA + ":1-3:a:1-2:b:5"},
		"line breaks as the server prints them":       {uuidA + ":1-5,\n" + uuidB + ":1", uuidA + ":1-5," + uuidB + ":1"},
		"the largest number":                          {uuidA + ":9223372036854775806", uuidA + ":9223372036854775806"},
		"overlapping intervals":                       {uuidA + ":1-10:5-20", uuidA + ":1-20"},
		"a tag that is given twice is joined":         {uuidA + ":a:1:b:1:a:2", uuidA + ":a:1-2:b:1"},
		"intervals with white space around the signs": {uuidA + " : 1 - 3 : 5", uuidA + ":1-3:5"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, must(t, c.text).String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	cases := map[string]string{
		"no UUID":                  "1-5",
		"a short UUID":             "3e11fa47:1",
		"no interval":              uuidA,
		"an empty interval":        uuidA + ":",
		"zero":                     uuidA + ":0",
		"a number that is too big": uuidA + ":9223372036854775807",
		"a reversed interval":      uuidA + ":5-4",
		"a sign":                   uuidA + ":+5",
		"a tag without intervals":  uuidA + ":tag",
		"two tags in a row":        uuidA + ":a:b:1",
		"a tag that is too long":   uuidA + ":" + strings.Repeat("a", 33) + ":1",
		"text that is too long":    strings.Repeat(" ", MaxText+1),
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			if s, err := Parse(text); !errors.Is(err, ErrSyntax) {
				t.Errorf("got %q and %v, want an error", s, err)
			}
		})
	}
}

func TestHighestMarkerEpoch(t *testing.T) {
	s := must(t, uuidA+":1-9:moco_e2:5:moco_e11:6:other:1,"+uuidB+":moco_e99:1")
	if got := s.HighestMarkerEpoch(strings.ToUpper(uuidA)); got != 11 {
		t.Errorf("got %d, want 11", got)
	}
	if got := s.HighestMarkerEpoch("5e11fa47-71ca-11e1-9e33-c80aa9429562"); got != 0 {
		t.Errorf("a cluster without markers: got %d, want 0", got)
	}
	if got := s.WithoutTagPrefix("moco_").String(); got != uuidA+":1-9:other:1" {
		t.Errorf("without markers: %s", got)
	}
}

func TestShortenKeepsTheLimit(t *testing.T) {
	s := must(t, uuidA+":1:3:5:7:9:11:13:15:17:19:21:23:25:27:29:31:33:35:37:39,"+uuidB+":1-1000")
	got := s.Shorten(80)
	if len(got) > 80 || !strings.Contains(got, "1020 transactions") {
		t.Errorf("got %q (%d bytes)", got, len(got))
	}
}

// naive is a set as a plain map, the model the real one is compared with.
type naive map[string]bool

func random(r *rand.Rand) (Set, naive) {
	model := naive{}
	var parts []string
	for range r.IntN(8) {
		source := []string{uuidA, uuidB, uuidA + ":tag"}[r.IntN(3)]
		first := 1 + r.IntN(30)
		last := first + r.IntN(8)
		parts = append(parts, fmt.Sprintf("%s:%d-%d", source, first, last))
		for n := first; n <= last; n++ {
			model[fmt.Sprintf("%s:%d", source, n)] = true
		}
	}
	s, err := Parse(strings.Join(parts, ","))
	if err != nil {
		panic(err)
	}
	return s, model
}

func (n naive) equals(s Set) bool {
	if s.Count() != int64(len(n)) {
		return false
	}
	for text := range n {
		one, err := Parse(text)
		if err != nil || !s.Contains(one) {
			return false
		}
	}
	return true
}

func TestArithmeticIsThatOfPlainSets(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 5000 {
		a, modelA := random(r)
		b, modelB := random(r)
		union, minus, both := naive{}, naive{}, naive{}
		for k := range modelA {
			union[k] = true
			minus[k], both[k] = !modelB[k], modelB[k]
		}
		for k := range modelB {
			union[k] = true
		}
		for _, m := range []naive{minus, both} {
			for k, in := range m {
				if !in {
					delete(m, k)
				}
			}
		}
		if !union.equals(a.Union(b)) || !minus.equals(a.Subtract(b)) || !both.equals(a.Intersect(b)) {
			t.Fatalf("round %d: %s and %s", n, a, b)
		}
		if a.Contains(b) != (len(both) == len(modelB)) || !must(t, a.String()).Equal(a) {
			t.Fatalf("round %d: containment or round trip of %s and %s", n, a, b)
		}
	}
}

func TestArgumentsAreNotChanged(t *testing.T) {
	a, b := must(t, uuidA+":1-5:9"), must(t, uuidA+":4-8")
	_, _, _ = a.Union(b), a.Subtract(b), b.Union(a)
	if a.String() != uuidA+":1-5:9" || b.String() != uuidA+":4-8" {
		t.Errorf("changed to %s and %s", a, b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(uuidA + ":1-5:tag:7," + uuidB + ":1")
	f.Add(" , " + uuidA + ":a:1:b:2-3")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || !again.Equal(s) || !s.Contains(again) {
			t.Errorf("%q reads as %s, which reads as %s (%v)", text, s, again, err)
		}
	})
}
