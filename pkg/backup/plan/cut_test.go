// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/mysql/binlog"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// event makes one of a binary log, with a right checksum.
func event(kind byte, body []byte) []byte {
	made := make([]byte, 19, 19+len(body)+4)
	made[4] = kind
	binary.LittleEndian.PutUint32(made[9:], uint32(cap(made)))
	made = append(made, body...)
	return binary.LittleEndian.AppendUint32(made, crc32.ChecksumIEEE(made))
}

const uuid = "00000000-0000-0000-0000-000000000000"

// transaction has a number and a time of commit, in microseconds, and no content.
func transaction(number byte, at uint64) []byte {
	end := event(16, make([]byte, 8))
	body := make([]byte, 42, 50)
	body[17] = number
	body = append(body, binary.LittleEndian.AppendUint64(nil, at)[:7]...)
	body = append(body, byte(19+len(body)+1+4+len(end)))
	return append(event(33, body), end...)
}

// sample is a binary log with transactions 1 to 5, and the offsets behind each, from that of the preamble.
func sample() (content []byte, ends []int64) {
	format := make([]byte, 60)
	format[len(format)-1] = 1
	content = append([]byte("\xfebin"), event(15, format)...)
	content = append(content, event(35, make([]byte, 8))...)
	ends = append(ends, int64(len(content)))
	for n, at := range []uint64{100, 200, 190, 300, 150} {
		content = append(content, transaction(byte(n+1), at)...)
		ends = append(ends, int64(len(content)))
	}
	return content, ends
}

func TestACutIsFoundWhereItBelongs(t *testing.T) {
	_, ends := sample()
	at := func(micros int64) Cut { return Cut{Kind: CutTime, Time: time.UnixMicro(micros)} }
	id := func(kind CutKind, number string) Cut { return Cut{Kind: kind, GTID: parsed(uuid + ":" + number)} }
	kept := func(count int, gtids string, last int64) Kept {
		k := Kept{End: ends[count], Transactions: int64(count), GTIDs: parsed(gtids)}
		if count > 0 {
			k.Last = time.UnixMicro(last).UTC()
		}
		return k
	}
	cases := map[string]struct {
		cut  Cut
		held string
		want Kept
		err  error
	}{
		"a time at which one commits keeps it":                     {cut: at(100), want: kept(1, uuid+":1", 100)},
		"a time just before keeps it not":                          {cut: at(99), want: kept(0, "", 0)},
		"a later one that committed earlier is behind the cut":     {cut: at(199), want: kept(1, uuid+":1", 100)},
		"the latest of what is kept need not be the last":          {cut: at(299), want: kept(3, uuid+":1-3", 200)},
		"a time that none exceeds is not what the index says":      {cut: at(300), err: ErrNoCut},
		"a transaction is kept":                                    {cut: id(CutGTID, "3"), want: kept(3, uuid+":1-3", 200)},
		"the last transaction is kept":                             {cut: id(CutGTID, "5"), want: kept(5, uuid+":1-5", 300)},
		"a transaction is left out":                                {cut: id(CutBeforeGTID, "3"), want: kept(2, uuid+":1-2", 200)},
		"the first transaction is left out":                        {cut: id(CutBeforeGTID, "1"), want: kept(0, "", 0)},
		"a transaction that is not there":                          {cut: id(CutGTID, "6"), err: ErrNoCut},
		"a transaction with a tag is another one":                  {cut: id(CutBeforeGTID, "tag:3"), err: ErrNoCut},
		"without a cut all is kept":                                {want: kept(5, uuid+":1-5", 300)},
		"a backup that holds what is kept is old enough":           {cut: id(CutGTID, "3"), held: uuid + ":1-3", want: kept(3, uuid+":1-3", 200)},
		"a backup that holds the transaction to undo is too young": {cut: id(CutBeforeGTID, "3"), held: uuid + ":1-3", err: ErrTooYoung},
		"a backup that holds one behind a time is too young":       {cut: at(199), held: uuid + ":5", err: ErrTooYoung},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			content, _ := sample()
			got, err := c.cut.Find(bytes.NewReader(content), parsed(c.held))
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if diff := cmp.Diff(c.want, got, cmp.Comparer(gtid.Set.Equal)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestACutOfADamagedFileIsRefused(t *testing.T) {
	content, ends := sample()
	cut := Cut{Kind: CutGTID, GTID: parsed(uuid + ":1")}
	for n := range content {
		flipped := bytes.Clone(content)
		flipped[n] ^= 1
		_, err := cut.Find(bytes.NewReader(flipped), gtid.Set{})
		if inUse := n == 4+17; (err == nil) != inUse { // the flag that a file is being written has no checksum
			t.Fatalf("a flipped byte at %d: %v", n, err)
		}
	}
	if _, err := cut.Find(bytes.NewReader(content[:ends[3]+5]), gtid.Set{}); !errors.Is(err, binlog.ErrTorn) {
		t.Errorf("a torn file: %v", err)
	}
}

func TestManyTransactionsMakeOneSet(t *testing.T) {
	c := collection{}
	for n := int64(1); n < 400_000; n += 2 {
		c.add(binlog.Transaction{Source: gtid.Source{UUID: uuid, Tag: "t"}, Number: n})
	}
	if got := c.set().Count(); got != 200_000 {
		t.Errorf("got %d transactions", got)
	}
}
