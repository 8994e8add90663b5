// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/backup/document"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

var update = flag.Bool("update", false, "write the golden files anew")

const (
	uuidA = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	uuidB = "4e11fa47-71ca-11e1-9e33-c80aa9429562"
)

var (
	cluster = wire.ClusterKey{Namespace: "shop", Name: "db", UID: "0e6d0c2e-6a36-4f53-9a5c-111111111111"}
	began   = time.Date(2026, 11, 21, 16, 5, 0, 123_456_789, time.UTC)
)

// entry is the segment with one transaction of its number.
func entry(number int64) Segment {
	return Segment{
		Number: number, StoredBytes: 200, SHA256: strings.Repeat("a", 64), RawBytes: 350, RawSHA256: strings.Repeat("b", 64),
		File: fmt.Sprintf("binlog.%06d", 1+number/100), Start: 200 + number*100, End: 300 + number*100,
		GTIDs: fmt.Sprintf("%s:%d", uuidB, number+1), Transactions: 1,
		FirstCommit: began.UnixMicro() + number, LastCommit: began.UnixMicro() + number,
	}
}

func first(t testing.TB, segments int64) *Page {
	t.Helper()
	p := NewPage(Header{
		Cluster: cluster, Epoch: 31, StreamID: "k3x9q7w2", ServerUUID: uuidB, StartedAt: began,
		Base: parsed(uuidA + ":1-77:moco_e2:1"), Gap: parsed(uuidA + ":70-71"),
	})
	fill(t, p, segments)
	p.CaughtUpAt = began.Add(time.Second)
	return p
}

func fill(t testing.TB, p *Page, segments int64) {
	t.Helper()
	for range segments {
		if err := p.Add(entry(p.NextNumber())); err != nil {
			t.Fatal(err)
		}
	}
}

func encode(t testing.TB, p *Page) []byte {
	t.Helper()
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// stored is a stream of three pages.
func stored(t testing.TB) [][]byte {
	t.Helper()
	one := encode(t, first(t, MaxSegments))
	page, err := ParsePage(one)
	if err != nil {
		t.Fatal(err)
	}
	second := page.Next(one)
	fill(t, second, MaxSegments)
	two := encode(t, second)
	third := second.Next(two)
	fill(t, third, 3)
	third.CaughtUpAt = began.Add(time.Minute)
	return [][]byte{one, two, encode(t, third)}
}

func TestPagesAreWrittenAsEver(t *testing.T) {
	for name, segments := range map[string]int64{"empty": 0, "page": 2} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".json")
			data := encode(t, first(t, segments))
			if *update {
				if err := os.WriteFile(file, data, 0o644); err != nil { //nolint:gosec // for everybody to read
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(data)); diff != "" {
				t.Error(diff)
			}
			read, err := ParsePage(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(data), string(encode(t, read))); diff != "" {
				t.Errorf("read and written again:\n%s", diff)
			}
			if read.CaughtUpAt.After(began.Add(time.Second)) {
				t.Errorf("caught up at %v, later than it was", read.CaughtUpAt)
			}
		})
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	data := encode(t, first(t, 2))
	for n := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[n] ^= 1 << bit
			if _, err := ParsePage(flipped); !errors.Is(err, document.ErrDamaged) {
				t.Fatalf("bit %d of byte %d: %v", bit, n, err)
			}
		}
		if _, err := ParsePage(data[:n]); !errors.Is(err, document.ErrDamaged) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
}

// TestImpossiblePagesAreRefused checks what Encode refuses: ParsePage makes the same checks.
func TestImpossiblePagesAreRefused(t *testing.T) {
	// relinked makes the chain right again after a change.
	relinked := func(change func(p *Page)) func(p *Page) {
		return func(p *Page) {
			change(p)
			before := p.PreviousChain
			for n := range p.Segments {
				before = link(before, &p.Segments[n])
				p.Segments[n].Chain = before
			}
		}
	}
	segment := func(change func(s *Segment)) func(p *Page) { return relinked(func(p *Page) { change(&p.Segments[1]) }) }
	cases := map[string]struct {
		field  string
		change func(p *Page)
	}{
		"another version":                        {"version", func(p *Page) { p.Version = 2 }},
		"a cluster that leads upwards":           {"cluster", func(p *Page) { p.Cluster.Name = ".." }},
		"no epoch":                               {"epoch", func(p *Page) { p.Epoch = 0 }},
		"a stream that leads upwards":            {"streamID", func(p *Page) { p.StreamID = "../../../x" }},
		"no server":                              {"serverUUID", func(p *Page) { p.ServerUUID = "" }},
		"a negative number":                      {"number", func(p *Page) { p.Number = -1 }},
		"a first page with a page before":        {"previousSHA256", func(p *Page) { p.PreviousSHA256 = strings.Repeat("a", 64) }},
		"a later page without one":               {"previousSHA256", func(p *Page) { p.Number = 1 }},
		"a first page with a chain before":       {"previousChain", func(p *Page) { p.PreviousChain = strings.Repeat("a", 64) }},
		"no begin":                               {"startedAt", func(p *Page) { p.StartedAt = time.Time{} }},
		"a base that is no set":                  {"base", func(p *Page) { p.Base = "x" }},
		"a base written in another way":          {"base", func(p *Page) { p.Base = strings.ToUpper(p.Base) }},
		"a gap that is no part of the base":      {"gap", func(p *Page) { p.Gap = uuidA + ":78" }},
		"too many segments":                      {"segments", func(p *Page) { p.Segments = append(p.Segments, make([]Segment, MaxSegments)...) }},
		"a segment with the number of another":   {"segments[1].number", segment(func(s *Segment) { s.Number = 0 })},
		"a segment without bytes":                {"segments[1].storedBytes", segment(func(s *Segment) { s.StoredBytes = 0 })},
		"a segment without a sum":                {"segments[1].storedBytes", segment(func(s *Segment) { s.SHA256 = "" })},
		"a segment without a sum of what it is":  {"segments[1].rawBytes", segment(func(s *Segment) { s.RawSHA256 = "" })},
		"a file with a path":                     {"segments[1].file", segment(func(s *Segment) { s.File = "../binlog.000001" })},
		"a segment that ends before it begins":   {"segments[1]", segment(func(s *Segment) { s.End = s.Start })},
		"a segment without a preamble":           {"segments[1]", segment(func(s *Segment) { s.RawBytes = 100 })},
		"a segment before the one before":        {"segments[1]", segment(func(s *Segment) { s.Start, s.End = 250, 350 })},
		"a segment that commits backwards":       {"segments[1]", segment(func(s *Segment) { s.FirstCommit = s.LastCommit + 1 })},
		"a segment without transactions":         {"segments[1].transactions", segment(func(s *Segment) { s.GTIDs, s.Transactions = "", 0 })},
		"a wrong number of transactions":         {"segments[1].transactions", segment(func(s *Segment) { s.Transactions = 2 })},
		"transactions that were there before":    {"segments[1].gtids", segment(func(s *Segment) { s.GTIDs = uuidB + ":1" })},
		"transactions of the base":               {"segments[1].gtids", segment(func(s *Segment) { s.GTIDs = uuidA + ":77" })},
		"an entry changed behind the chain":      {"segments[1].chain", func(p *Page) { p.Segments[1].StoredBytes++ }},
		"an entry that is of another chain":      {"segments[0].chain", func(p *Page) { p.Segments[0].Chain = strings.Repeat("a", 64) }},
		"a first page that begins in the middle": {"segments[0].number", relinked(func(p *Page) { p.Segments = p.Segments[1:] })},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := first(t, 2)
			c.change(p)
			_, err := p.Encode()
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.field) {
				t.Errorf("got %v, want an error that names %s", err, c.field)
			}
		})
	}
}

func TestASegmentIsAddedOnlyWhereItBelongs(t *testing.T) {
	p := first(t, 2)
	if err := p.Add(entry(1)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a number that is taken: %v", err)
	}
	full := first(t, MaxSegments)
	if err := full.Add(entry(MaxSegments)); !errors.Is(err, ErrInvalid) || !full.Full() {
		t.Errorf("a full page: %v", err)
	}
}

func TestPagesMakeAStream(t *testing.T) {
	pages := stored(t)
	name := StreamName{Epoch: 31, ID: "k3x9q7w2"}
	cases := map[string]struct {
		pages [][]byte
		// base that the stream presumes
		base string
	}{
		"all of them":                     {pages, uuidA + ":1-77:moco_e2:1"},
		"the rest after the first is cut": {pages[1:], uuidA + ":1-77:moco_e2:1," + uuidB + ":1-256"},
		"the last one alone":              {pages[2:], uuidA + ":1-77:moco_e2:1," + uuidB + ":1-512"},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			s, err := Join(cluster, name, c.pages...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.base, s.Base.String()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(uuidA+":1-77:moco_e2:1,"+uuidB+":1-515", s.Covered().String()); diff != "" {
				t.Error(diff)
			}
			if s.Name != name || s.ServerUUID != uuidB || !s.CaughtUpAt.Equal(began.Add(time.Minute).Truncate(time.Microsecond)) {
				t.Errorf("got %+v", s)
			}
		})
	}
}

func TestPagesThatDoNotBelongTogetherAreRefused(t *testing.T) {
	pages := stored(t)
	name := StreamName{Epoch: 31, ID: "k3x9q7w2"}
	grown := first(t, MaxSegments)
	grown.CaughtUpAt = began.Add(time.Hour)
	other := first(t, 2)
	other.StreamID = "anotherone"
	foreign := first(t, 2)
	foreign.Cluster.Name = "db2"
	short := first(t, 2)
	shortData := encode(t, short)
	cases := map[string][][]byte{
		"none":                         nil,
		"one is missing":               {pages[0], pages[2]},
		"in another order":             {pages[1], pages[0]},
		"one twice":                    {pages[0], pages[0]},
		"the first was written again":  {encode(t, grown), pages[1]},
		"one of another stream":        {encode(t, other)},
		"one of another cluster":       {encode(t, foreign)},
		"one behind a page with room":  {shortData, encode(t, short.Next(shortData))},
		"one that is of another chain": {pages[0], encode(t, relabelled(t, pages[1], func(p *Page) { p.PreviousChain = strings.Repeat("c", 64) }))},
		"one that presumes more":       {pages[0], encode(t, relabelled(t, pages[1], func(p *Page) { p.Base += ",5e11fa47-71ca-11e1-9e33-c80aa9429562:1" }))},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			if s, err := Join(cluster, name, c...); !errors.Is(err, ErrChain) {
				t.Errorf("got %+v and %v", s, err)
			}
		})
	}
	if _, err := Join(cluster, name, pages[0][1:]); !errors.Is(err, document.ErrDamaged) {
		t.Errorf("a damaged page: %v", err)
	}
}

// relabelled changes a page and makes the chain within it right again.
func relabelled(t *testing.T, data []byte, change func(p *Page)) *Page {
	t.Helper()
	p, err := ParsePage(data)
	if err != nil {
		t.Fatal(err)
	}
	change(p)
	segments := p.Segments
	p.Segments = []Segment{}
	for _, s := range segments {
		if err := p.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestKeysAreReadAsTheyAreWritten(t *testing.T) {
	p := first(t, 2)
	root := "shop/db/0e6d0c2e-6a36-4f53-9a5c-111111111111/archive/000000000000001f-k3x9q7w2/"
	sealed := p.Segments[1]
	sealed.Encrypted = true
	want := []string{root + "page-00000000.json", root + "seg-00000000.binlog.zst", root + "seg-00000001.binlog.zst.age"}
	if diff := cmp.Diff(want, []string{p.Key(), p.SegmentKeyOf(p.Segments[0]), p.SegmentKeyOf(sealed)}); diff != "" {
		t.Error(diff)
	}
	name, number, ok := ParsePageKey(cluster, PageKey(cluster, p.Name(), 12))
	if name != p.Name() || number != 12 || !ok {
		t.Errorf("got %v, %d, %t", name, number, ok)
	}
	for what, key := range map[string]string{
		"a segment": root + "seg-00000000.binlog.zst", "another cluster": "shop/db2/x/archive/000000000000001f-k3x9q7w2/page-00000000.json",
		"a stream without an epoch": strings.Replace(root, "1f", "00", 1) + "page-00000000.json", "a backup": "shop/db/x/backups/page-00000000.json",
		"a negative epoch": strings.Replace(root, "000000000000001f", "ffffffffffffffff", 1) + "page-00000000.json",
		"something deeper": root + "x/page-00000000.json", "a longer number": root + "page-000000000.json",
	} {
		if name, number, ok := ParsePageKey(cluster, key); ok {
			t.Errorf("%s: got %v, %d", what, name, number)
		}
	}
}

func TestStreamsAreSortedByHistory(t *testing.T) {
	at := func(epoch int64, seconds int, id string) *Stream {
		return &Stream{Name: StreamName{Epoch: epoch, ID: id}, StartedAt: began.Add(time.Duration(seconds) * time.Second)}
	}
	streams := []*Stream{at(3, 1, "a"), at(2, 9, "b"), at(2, 5, "d"), at(2, 5, "c")}
	Sort(streams)
	var got []string
	for _, s := range streams {
		got = append(got, s.Name.ID)
	}
	if diff := cmp.Diff([]string{"c", "d", "b", "a"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestEveryFieldIsInTheChain changes one field after the other, this one and those that are added later.
func TestEveryFieldIsInTheChain(t *testing.T) {
	whole := entry(1)
	want := link("before", &whole)
	fields := reflect.TypeFor[Segment]()
	for n := range fields.NumField() {
		changed := whole
		switch field := reflect.ValueOf(&changed).Elem().Field(n); field.Kind() {
		case reflect.Int64:
			field.SetInt(field.Int() + 1)
		case reflect.Bool:
			field.SetBool(!field.Bool())
		default:
			field.SetString(field.String() + "x")
		}
		if name := fields.Field(n).Name; (link("before", &changed) == want) != (name == "Chain") {
			t.Errorf("the chain does not depend on %s as it should", name)
		}
	}
	if link("other", &whole) == want {
		t.Error("the chain does not depend on the one before")
	}
}

// FuzzParsePage reads any bytes, also with a right sum: what is read is written again as it was.
func FuzzParsePage(f *testing.F) {
	for _, n := range []int64{0, 2} {
		data := encode(f, first(f, n))
		f.Add(data)
		f.Add(data[:len(data)-90])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lines := data
		if at := bytes.LastIndex(data, []byte(" \"sha256\": \"")); at >= 0 {
			lines = data[:at]
		}
		for _, tried := range [][]byte{data, document.Seal(bytes.Clone(lines))} {
			p, err := ParsePage(tried)
			if err != nil {
				if !errors.Is(err, document.ErrDamaged) && !errors.Is(err, ErrInvalid) {
					t.Fatalf("an error of another kind: %v", err)
				}
				continue
			}
			if !bytes.Equal(encode(t, p), tried) {
				t.Fatal("read, but written in another way")
			}
			if name, number, ok := ParsePageKey(p.Cluster, p.Key()); name != p.Name() || number != p.Number || !ok {
				t.Fatalf("the key %s", p.Key())
			}
			p.Covered()
		}
	})
}

// numbers is a window of pages from one number to another.
type numbers struct{ first, last int }

func (w numbers) Before(p *Page) bool { return p.Number < w.first }
func (w numbers) Ends(p *Page) bool   { return p.Number >= w.last }

func TestAStreamIsJoinedWithinAWindow(t *testing.T) {
	pages := stored(t)
	whole, err := Join(cluster, StreamName{Epoch: 31, ID: "k3x9q7w2"}, pages...)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		window Window
		want   []int
	}{
		"no window":                           {nil, []int{0, 1, 2}},
		"all of it":                           {numbers{0, 2}, []int{0, 1, 2}},
		"what comes first is left out":        {numbers{1, 2}, []int{1, 2}},
		"what comes last is left out":         {numbers{0, 0}, []int{0}},
		"one in the middle":                   {numbers{1, 1}, []int{1}},
		"behind the end nothing is asked for": {numbers{9, 9}, []int{2}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			joiner := NewJoiner(cluster, whole.Name, c.window)
			for _, data := range pages {
				if err := joiner.Add(data); err != nil {
					t.Fatal(err)
				}
			}
			got, err := joiner.Stream()
			if err != nil {
				t.Fatal(err)
			}
			want := *whole
			want.Pages = nil
			for _, n := range c.want {
				want.Pages = append(want.Pages, whole.Pages[n])
			}
			want.Base = parsed(want.Pages[0].Base)
			if diff := cmp.Diff(&want, got, cmp.Comparer(gtid.Set.Equal)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := NewJoiner(cluster, whole.Name, nil).Stream(); !errors.Is(err, ErrChain) {
		t.Errorf("a stream without pages: %v", err)
	}
	joiner := NewJoiner(cluster, whole.Name, numbers{0, 0})
	if err := errors.Join(joiner.Add(pages[0]), joiner.Add(pages[1])); err != nil {
		t.Fatal(err)
	}
	if err := joiner.Add(pages[0]); !errors.Is(err, ErrChain) {
		t.Errorf("a page behind the window that does not belong there: %v", err)
	}
}
