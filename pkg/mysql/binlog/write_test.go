// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// timed is the body of the event of an untagged GTID with the given times, 7 bytes each.
func timed(length byte, times ...uint64) []byte {
	body := make([]byte, 42, 64)
	body[17] = 7 // the number
	for _, at := range times {
		for n := range 7 {
			body = append(body, byte(at>>(8*n)))
		}
	}
	return append(body, length)
}

func TestTheOriginalTimeOfCommit(t *testing.T) {
	const immediate, original = 1_795_276_800_123_456, 1_795_276_799_000_001
	// variable is a number of mysql::serialization in nine bytes.
	variable := func(n uint64) []byte {
		whole := []byte{0xff}
		for i := range 8 {
			whole = append(whole, byte(n>>(8*i)))
		}
		return whole
	}
	// message is the tagged event: flags, UUID, number 3, tag "a", the times, length 120.
	message := func(times ...[]byte) []byte {
		body := append(append([]byte{2, 100, 0, 0, 0, 2}, make([]byte, 16)...), 4, 12, 6, 2, 'a')
		for n, at := range times {
			body = append(append(body, byte(12+2*n)), at...)
		}
		return append(body, 16, 240)
	}
	cases := map[string]struct {
		decode func([]byte) (identity, error)
		body   []byte
		want   int64
	}{
		"an untagged transaction of this server":  {decodeGTID, timed(102, immediate), immediate},
		"an untagged one of another server":       {decodeGTID, timed(102, immediate|1<<55, original), original},
		"an untagged one whose time is not known": {decodeGTID, timed(102, immediate|1<<55, 0), immediate},
		"a tagged transaction of this server":     {decodeTagged, message(variable(immediate)), immediate},
		"a tagged one of another server":          {decodeTagged, message(variable(immediate), variable(original)), original},
		"a tagged one whose time is not known":    {decodeTagged, message(variable(immediate), variable(0)), immediate},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			id, err := c.decode(c.body)
			if err != nil || id.committed() != c.want {
				t.Errorf("got %d and %v, want %d", id.committed(), err, c.want)
			}
			if one := (Transaction{OriginalCommit: id.committed()}); one.Committed().UnixMicro() != c.want {
				t.Errorf("as a time: %v", one.Committed())
			}
		})
	}
}

func TestPreviousGTIDsAreWrittenAsTheyAreRead(t *testing.T) {
	const a, b = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	cases := map[string]string{
		"the empty set":            "",
		"untagged intervals":       a + ":1-5:7:9-9223372036854775806," + b + ":3",
		"tags beside untagged":     a + ":1-5:moco_e7:1:z:2-3," + b + ":a_tag_of_thirty_two_characters__:9",
		"one tagged transaction":   a + ":t:1",
		"only one of two has tags": a + ":1," + b + ":t:1",
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			set, err := gtid.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decodePrevious(encodePrevious(set))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(text, again.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPieceOfAFileIsABinaryLog(t *testing.T) {
	one := append(encode(typeGTID, untagged(115)), encode(typeQuery, begin)...)
	whole := append(append(preamble(noSources), one...), one...)
	whole[len(magic)+17] |= flagInUse // mysqld is writing it; the checksum stays
	reader, err := NewReader(bytes.NewReader(whole))
	if err != nil || !reader.InUse() {
		t.Fatalf("in use %t, %v", reader.InUse(), err)
	}
	if diff := cmp.Diff(preamble(noSources), reader.Preamble()); diff != "" {
		t.Errorf("the preamble with the flag cleared:\n%s", diff)
	}
	before, err := gtid.Parse("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-6:t:4")
	if err != nil {
		t.Fatal(err)
	}
	start := int64(len(whole) - len(one))
	piece, err := NewReader(bytes.NewReader(append(reader.PreambleAt(before), whole[start:]...)))
	if err != nil {
		t.Fatal(err)
	}
	if piece.InUse() || !piece.Previous().Equal(before) {
		t.Errorf("in use %t, previous %s", piece.InUse(), piece.Previous())
	}
	found, err := piece.Next()
	if err != nil || found.End-found.Start != int64(len(one)) || found.Start != int64(len(piece.Preamble())) {
		t.Errorf("got %+v and %v", found, err)
	}
	if _, err := piece.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}
