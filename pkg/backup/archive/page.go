// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/document"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Version is the only version of the format that is written and read.
const Version = 1

// MaxSegments is how many segments a page holds at most.
const MaxSegments = 256

// MaxSize bounds a page in bytes.
const MaxSize = 64 << 20

// Page lists segments of a stream. All sums are SHA-256 in small hexadecimal digits, all sets of GTIDs in the form of
// gtid.Set.String.
type Page struct {
	Version int             `json:"version"`
	Cluster wire.ClusterKey `json:"cluster"`
	// Epoch is at least 1. StreamID is random, made when the stream began.
	Epoch    int64  `json:"epoch"`
	StreamID string `json:"streamID"`
	// ServerUUID of the mysqld whose binary log it is.
	ServerUUID string `json:"serverUUID"`
	// Number of the page within the stream, from 0.
	Number int `json:"number"`
	// PreviousSHA256 is the sum of the whole page before, PreviousChain the chain of the last segment before; both are "" on
	// page 0.
	PreviousSHA256 string `json:"previousSHA256"`
	PreviousChain  string `json:"previousChain"`
	// StartedAt is when the stream began.
	StartedAt time.Time `json:"startedAt"`
	// Base is what the first segment of this page presumes: on page 0 everything the writer had executed and does not write
	// into this stream, because it was archived or is lost; on later pages also what the pages before hold.
	Base string `json:"base"`
	// Gap is the part of the first page's base that the writer found neither in the archive nor in its binary logs.
	Gap string `json:"gap"`
	// Segments are numbered through the whole stream.
	Segments []Segment `json:"segments"`
	// CaughtUpAt: every transaction that had committed by then is in Base or Segments. Zero when that was never so.
	CaughtUpAt time.Time `json:"caughtUpAt,omitzero"`
}

// Segment is one object with whole transactions that lie one behind the other in one binary log file.
type Segment struct {
	// Number within the stream, from 0.
	Number int64 `json:"number"`
	// Encrypted with age.
	Encrypted bool `json:"encrypted"`
	// StoredBytes and SHA256 of the object, RawBytes and RawSHA256 of the binary log in it.
	StoredBytes int64  `json:"storedBytes"`
	SHA256      string `json:"sha256"`
	RawBytes    int64  `json:"rawBytes"`
	RawSHA256   string `json:"rawSHA256"`
	// File is the name of the binary log file; the transactions lie from Start up to End in it. The binary log in the object
	// ends with them; what comes before is its preamble.
	File  string `json:"file"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
	// GTIDs of the transactions, and how many they are.
	GTIDs        string `json:"gtids"`
	Transactions int64  `json:"transactions"`
	// FirstCommit and LastCommit are the earliest and the latest original time of commit, in microseconds since 1970.
	FirstCommit int64 `json:"firstCommit"`
	LastCommit  int64 `json:"lastCommit"`
	// Chain is the sum of lines: the chain of the segment before, then each of the fields above.
	Chain string `json:"chain"`
}

// Preamble is the number of bytes of the binary log in the object before its first transaction.
func (s *Segment) Preamble() int64 { return s.RawBytes - (s.End - s.Start) }

// Header is what a new stream is made with.
type Header struct {
	Cluster    wire.ClusterKey
	Epoch      int64
	StreamID   string
	ServerUUID string
	StartedAt  time.Time
	// Base and Gap of the first page; Gap is a part of Base.
	Base, Gap gtid.Set
}

// NewPage is the first page of a stream, without segments.
func NewPage(h Header) *Page {
	return &Page{
		Version: Version, Cluster: h.Cluster, Epoch: h.Epoch, StreamID: h.StreamID, ServerUUID: h.ServerUUID,
		StartedAt: roundDown(h.StartedAt), Base: h.Base.String(), Gap: h.Gap.String(), Segments: []Segment{},
	}
}

func roundDown(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Full reports whether the next segment belongs on the next page.
func (p *Page) Full() bool { return len(p.Segments) >= MaxSegments }

// NextNumber is the number of the next segment of the stream, given that the page is its last one.
func (p *Page) NextNumber() int64 { return int64(p.Number)*MaxSegments + int64(len(p.Segments)) }

// Add lists a segment, whose Number is NextNumber; its Chain is filled in. The page must not be full.
func (p *Page) Add(s Segment) error {
	if p.Full() || s.Number != p.NextNumber() {
		return invalid("segments: number %d behind %d segments of page %d", s.Number, len(p.Segments), p.Number)
	}
	s.Chain = link(p.lastChain(), &s)
	p.Segments = append(p.Segments, s)
	return nil
}

// Next is the page behind this one, without segments, given this one as it is stored for good. This one must be full.
func (p *Page) Next(stored []byte) *Page {
	sum := sha256.Sum256(stored)
	next := *p
	next.Number++
	next.PreviousSHA256, next.PreviousChain = hex.EncodeToString(sum[:]), p.lastChain()
	next.Base, next.Segments = p.Covered().String(), []Segment{}
	return &next
}

// lastChain is the chain behind which the next segment is linked.
func (p *Page) lastChain() string {
	if n := len(p.Segments); n > 0 {
		return p.Segments[n-1].Chain
	}
	return p.PreviousChain
}

// link is the chain of a segment behind another one: the sum of lines, the chain before and each field in its order.
func link(before string, s *Segment) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%t\n%d\n%s\n%d\n%s\n%s\n%d\n%d\n%s\n%d\n%d\n%d\n", before, s.Number, s.Encrypted,
		s.StoredBytes, s.SHA256, s.RawBytes, s.RawSHA256, s.File, s.Start, s.End, s.GTIDs, s.Transactions, s.FirstCommit, s.LastCommit))
	return hex.EncodeToString(sum[:])
}

// Covered is what the page presumes and what it lists: nothing of it is needed from elsewhere behind this page.
func (p *Page) Covered() gtid.Set {
	whole := parsed(p.Base)
	for _, s := range p.Segments {
		whole = whole.Union(parsed(s.GTIDs))
	}
	return whole
}

// parsed reads a set that was checked or made here.
func parsed(text string) gtid.Set {
	set, err := gtid.Parse(text)
	if err != nil {
		panic(fmt.Sprintf("a set that was not checked: %v", err))
	}
	return set
}

// Encode writes a page. It rounds CaughtUpAt down to microseconds. It refuses what ParsePage would refuse.
func (p *Page) Encode() ([]byte, error) {
	whole := *p
	if !whole.CaughtUpAt.IsZero() {
		whole.CaughtUpAt = roundDown(whole.CaughtUpAt)
	}
	if whole.Segments == nil {
		whole.Segments = []Segment{}
	}
	if err := whole.check(); err != nil {
		return nil, err
	}
	return document.Encode(&whole)
}

// ParsePage reads a page and checks all of it that can be checked without the others. Errors wrap document.ErrDamaged when
// the bytes are not what was written, and ErrInvalid, naming the field, when they say something that cannot be.
func ParsePage(data []byte) (*Page, error) {
	var p Page
	if err := document.Parse(data, MaxSize, &p); err != nil {
		return nil, fmt.Errorf("reading an index page: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &p, nil
}
