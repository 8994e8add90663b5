// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/manifest"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// StreamName is how a stream is called in a store: {epoch}-{id}.
type StreamName struct {
	Epoch int64
	ID    string
}

// String is the epoch in 16 hexadecimal digits, a hyphen and the id, so that streams are listed in their order.
func (n StreamName) String() string { return fmt.Sprintf("%016x-%s", n.Epoch, n.ID) }

var namePattern = regexp.MustCompile(`^([0-9a-f]{16})-([0-9a-z]{8,64})$`)

// ParseStreamName reads what String gives.
func ParseStreamName(text string) (StreamName, error) {
	match := namePattern.FindStringSubmatch(text)
	if match == nil {
		return StreamName{}, fmt.Errorf("%q is not the name of a stream", text)
	}
	epoch, err := strconv.ParseInt(match[1], 16, 64)
	if err != nil || epoch < 1 {
		return StreamName{}, fmt.Errorf("%q is not the name of a stream", text)
	}
	return StreamName{Epoch: epoch, ID: match[2]}, nil
}

// Folder is the key below which all streams of a cluster lie; it ends with a slash.
func Folder(cluster wire.ClusterKey) string { return path.Join(cluster.Root(), "archive") + "/" }

// StreamFolder is the key below which one stream lies; it ends with a slash.
func StreamFolder(cluster wire.ClusterKey, name StreamName) string {
	return Folder(cluster) + name.String() + "/"
}

// PageKey is the key of a page.
func PageKey(cluster wire.ClusterKey, name StreamName, number int) string {
	return fmt.Sprintf("%spage-%08d.json", StreamFolder(cluster, name), number)
}

// SegmentKey is the key of a segment as an entry describes it: Number and Encrypted are used.
func SegmentKey(cluster wire.ClusterKey, name StreamName, s Segment) string {
	key := fmt.Sprintf("%sseg-%08d.binlog.zst", StreamFolder(cluster, name), s.Number)
	if s.Encrypted {
		key += manifest.EncryptedSuffix
	}
	return key
}

var pagePattern = regexp.MustCompile(`^page-([0-9]{8})\.json$`)

// ParsePageKey reads the stream and the number from the key of a page below Folder; ok is false for any other key.
func ParsePageKey(cluster wire.ClusterKey, key string) (name StreamName, number int, ok bool) {
	rest, below := strings.CutPrefix(key, Folder(cluster))
	folder, file, nested := strings.Cut(rest, "/")
	match := pagePattern.FindStringSubmatch(file)
	if !below || !nested || match == nil {
		return StreamName{}, 0, false
	}
	name, err := ParseStreamName(folder)
	if err != nil {
		return StreamName{}, 0, false
	}
	number, err = strconv.Atoi(match[1])
	return name, number, err == nil
}

// Name of the stream the page belongs to.
func (p *Page) Name() StreamName { return StreamName{Epoch: p.Epoch, ID: p.StreamID} }

// Key of the page.
func (p *Page) Key() string { return PageKey(p.Cluster, p.Name(), p.Number) }

// SegmentKeyOf is the key of one of the page's segments.
func (p *Page) SegmentKeyOf(s Segment) string { return SegmentKey(p.Cluster, p.Name(), s) }

// Stream is a whole stream, or the rest of one whose first pages were deleted.
type Stream struct {
	Cluster    wire.ClusterKey
	Name       StreamName
	ServerUUID string
	StartedAt  time.Time
	// Base is what the first page presumes, Gap what the writer found nowhere.
	Base, Gap gtid.Set
	// Pages in their order, at least one; those that a Window leaves out are missing at both ends.
	Pages []*Page
	// CaughtUpAt of the last page, whether it is in Pages or not.
	CaughtUpAt time.Time
}

// Join checks stored pages, in the order of their numbers, and makes a stream of them. Errors wrap what ParsePage gives, or
// ErrChain. A reader that lists before it reads never sees a broken chain because somebody writes.
func Join(cluster wire.ClusterKey, name StreamName, stored ...[]byte) (*Stream, error) {
	joiner := NewJoiner(cluster, name, nil)
	for _, data := range stored {
		if err := joiner.Add(data); err != nil {
			return nil, err
		}
	}
	return joiner.Stream()
}

// Window says what somebody wants to know of a stream.
type Window interface {
	// Before reports whether the stream may begin behind a page.
	Before(*Page) bool
	// Ends reports whether nothing is asked about pages behind one.
	Ends(*Page) bool
}

// Joiner does as Join, one page after the other. Only what is in its Window stays in memory: the index of a whole archive may
// be large.
type Joiner struct {
	window Window
	stream *Stream
	// last is the last page, stored what it was read from. ended says that it and those to come are behind the window.
	last   *Page
	stored []byte
	ended  bool
}

// NewJoiner makes a Joiner of one stream; a nil window is for all of it.
func NewJoiner(cluster wire.ClusterKey, name StreamName, window Window) *Joiner {
	return &Joiner{window: window, stream: &Stream{Cluster: cluster, Name: name}}
}

// Add checks the next page. The data must not be changed afterwards. Errors are those of Join.
func (j *Joiner) Add(data []byte) error {
	stream := j.stream
	page, err := ParsePage(data)
	if err != nil {
		return fmt.Errorf("a page of stream %s as stored: %w", stream.Name, err)
	}
	if page.Cluster != stream.Cluster || page.Name() != stream.Name {
		return fmt.Errorf("%w: stream %s of %s holds a page of %s of %s", ErrChain, stream.Name, stream.Cluster.Root(), page.Name(), page.Cluster.Root())
	}
	if j.last != nil {
		if err := follows(j.last, j.stored, page); err != nil {
			return err
		}
	}
	j.last, j.stored = page, data
	stream.ServerUUID, stream.StartedAt, stream.CaughtUpAt = page.ServerUUID, page.StartedAt, page.CaughtUpAt
	if j.ended {
		return nil
	}
	if j.window != nil {
		if len(stream.Pages) == 1 && j.window.Before(stream.Pages[0]) {
			stream.Pages = nil
		}
		j.ended = j.window.Ends(page)
	}
	stream.Pages = append(stream.Pages, page)
	return nil
}

// Stream is the stream of all pages that were added. The error wraps ErrChain if there were none.
func (j *Joiner) Stream() (*Stream, error) {
	if len(j.stream.Pages) == 0 {
		return nil, fmt.Errorf("%w: stream %s has no pages", ErrChain, j.stream.Name)
	}
	first := j.stream.Pages[0]
	j.stream.Base, j.stream.Gap = parsed(first.Base), parsed(first.Gap)
	return j.stream, nil
}

// follows checks that a page is the next one.
func follows(before *Page, stored []byte, page *Page) error {
	sum := sha256.Sum256(stored)
	want := before.Next(stored)
	switch {
	case page.Number != before.Number+1 || !before.Full():
		return fmt.Errorf("%w: page %d of stream %s follows page %d", ErrChain, page.Number, page.Name(), before.Number)
	case page.PreviousSHA256 != hex.EncodeToString(sum[:]) || page.PreviousChain != before.lastChain():
		return fmt.Errorf("%w: page %d of stream %s does not follow from page %d", ErrChain, page.Number, page.Name(), before.Number)
	case page.Base != want.Base || page.Gap != want.Gap || page.ServerUUID != want.ServerUUID || !page.StartedAt.Equal(want.StartedAt):
		return fmt.Errorf("%w: page %d of stream %s presumes something else than page %d leaves", ErrChain, page.Number, page.Name(), before.Number)
	}
	if len(page.Segments) > 0 && !behind(&page.Segments[0], &before.Segments[MaxSegments-1]) {
		return fmt.Errorf("%w: page %d of stream %s begins before page %d ends", ErrChain, page.Number, page.Name(), before.Number)
	}
	return nil
}

// Covered is what the stream presumes and what Pages hold.
func (s *Stream) Covered() gtid.Set { return s.Pages[len(s.Pages)-1].Covered() }

// Sort puts streams in the order of history: by epoch, then by when they began.
func Sort(streams []*Stream) {
	slices.SortStableFunc(streams, func(a, b *Stream) int {
		return cmp.Or(cmp.Compare(a.Name.Epoch, b.Name.Epoch), a.StartedAt.Compare(b.StartedAt), strings.Compare(a.Name.ID, b.Name.ID))
	})
}
