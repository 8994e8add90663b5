// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// encode makes an event with a right checksum.
func encode(kind byte, body []byte) []byte {
	event := make([]byte, headerSize, headerSize+len(body)+checksumSize)
	event[4] = kind
	binary.LittleEndian.PutUint32(event[9:], uint32(headerSize+len(body)+checksumSize))
	event = append(event, body...)
	return binary.LittleEndian.AppendUint32(event, crc32.ChecksumIEEE(event))
}

// preamble begins a file, after the given sources.
func preamble(previous []byte) []byte {
	format := make([]byte, 60)
	format[len(format)-1] = checksumAlgorithm
	return append(append([]byte(magic), encode(typeFormat, format)...), encode(typePrevious, previous)...)
}

// untagged is the body of the event of a GTID whose transaction has that length.
func untagged(length byte) []byte {
	body := make([]byte, 42, 50)
	body[17] = 7 // the number
	return append(append(body, make([]byte, 7)...), length)
}

var (
	noSources    = make([]byte, 8)
	taggedSource = append(append(append([]byte{1, 1, 0, 0, 0, 0, 0, 1}, make([]byte, 16)...), 2, 'a'),
		1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0)
	// tagged is a message of version 1 with the fields flags, UUID, number 3, tag "a" and length 120.
	tagged = append(append([]byte{2, 100, 0, 0, 0, 2}, make([]byte, 16)...), 4, 12, 6, 2, 'a', 16, 240)
	// begin is a statement without variables and schema.
	begin = append(append(make([]byte, 13), 0), "BEGIN"...)
)

func TestDecodeTagged(t *testing.T) {
	id, err := decodeTagged(tagged)
	want := identity{source: gtid.Source{UUID: "00000000-0000-0000-0000-000000000000", Tag: "a"}, number: 3, length: 120}
	if err != nil || id != want {
		t.Errorf("got %+v, %v, want %+v", id, err, want)
	}
	for name, body := range map[string][]byte{
		"nothing": nil, "another version": append([]byte{4}, tagged[1:]...), "a field too often": append(bytes.Clone(tagged[:24]), 4, 12),
		"no length": tagged[:len(tagged)-2], "a tag that is none": bytes.Replace(tagged, []byte{'a'}, []byte{'!'}, 1),
	} {
		if id, err := decodeTagged(body); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %+v, %v", name, id, err)
		}
	}
}

func TestDecodeNumbers(t *testing.T) {
	cases := map[string]struct {
		bytes []byte
		want  uint64
	}{
		"one byte":    {[]byte{0xfe}, 127},
		"two bytes":   {[]byte{0x01, 0x02}, 128},
		"eight bytes": {[]byte{0x7f, 0, 0, 0, 0, 0, 0, 0x80}, 1 << 55},
		"nine bytes":  {[]byte{0xff, 1, 0, 0, 0, 0, 0, 0, 0x80}, 1<<63 + 1},
	}
	for name, c := range cases {
		in := cursor{rest: c.bytes}
		if got := in.variable(); got != c.want || in.short || len(in.rest) > 0 {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

// FuzzReader reads files of two events with right checksums: whatever is in them, transactions lie one behind the other
// within the file, and their GTIDs are GTIDs.
func FuzzReader(f *testing.F) {
	f.Add(noSources, byte(typeGTID), untagged(102), byte(typeQuery), begin)
	f.Add(taggedSource, byte(typeGTIDTagged), tagged, byte(typePayload), []byte{2, 1, 0xfc, 0xff, 0, 0})
	f.Add(taggedSource, byte(typeGTIDTagged), tagged, byte(typeXID), []byte("12345678"))
	f.Fuzz(func(t *testing.T, previous []byte, kind byte, body []byte, second byte, more []byte) {
		if len(previous)+len(body)+len(more) > 1<<20 {
			return
		}
		content := append(append(preamble(previous), encode(kind, body)...), encode(second, more)...)
		reader, err := NewReader(bytes.NewReader(content))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("a whole preamble: %v", err)
			}
			return
		}
		for end := reader.End(); ; {
			one, err := reader.Next()
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, ErrTorn) && !errors.Is(err, ErrFormat) {
					t.Fatalf("an error of another kind: %v", err)
				}
				return
			}
			if one.Start < end || one.End <= one.Start || one.End > int64(len(content)) || reader.End() != one.End {
				t.Fatalf("transaction %+v behind %d in %d bytes", one, end, len(content))
			}
			if set, err := gtid.Parse(one.GTID()); err != nil || set.Count() != 1 {
				t.Fatalf("GTID %q: %v", one.GTID(), err)
			}
			end = one.End
		}
	})
}

// FuzzBytes reads anything.
func FuzzBytes(f *testing.F) {
	whole := append(append(preamble(noSources), encode(typeGTID, untagged(102))...), encode(typeQuery, begin)...)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Fuzz(func(t *testing.T, content []byte) {
		reader, err := NewReader(bytes.NewReader(content))
		for err == nil {
			_, err = reader.Next()
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, ErrTorn) && !errors.Is(err, ErrFormat) {
			t.Fatalf("an error of another kind: %v", err)
		}
	})
}
