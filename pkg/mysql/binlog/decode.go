// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// identity is what the first event of a transaction says of it.
type identity struct {
	source gtid.Source
	number int64
	length int64 // of the whole transaction in bytes
	// immediate is when the server committed it that wrote the file, original when it was committed first; 0 when that is
	// not written. Both are in microseconds.
	immediate, original int64
}

// committed is when it was committed first, as far as that is known.
func (i identity) committed() int64 {
	if i.original > 0 {
		return i.original
	}
	return i.immediate
}

// differs is the bit of the immediate time which says that the original one follows.
const differs = 1 << 55

// maxTransaction bounds the length a transaction may claim: far above what the server's caches hold.
const maxTransaction = 1 << 40

func (i identity) check() (identity, error) {
	if i.number < 1 || i.number > gtid.MaxNumber || i.length < headerSize || i.length > maxTransaction {
		return identity{}, fmt.Errorf("%w: number %d, length %d of a transaction", ErrFormat, i.number, i.length)
	}
	return i, nil
}

// decodeGTID reads the event of an untagged GTID: flags (1), UUID (16), number (8), logical clock (17), then the times
// (7 bytes each, the second only if the top bit of the first is set) and the length of the transaction.
func decodeGTID(body []byte) (identity, error) {
	in := cursor{rest: body}
	in.skip(1)
	uuid := in.take(16)
	number := int64(in.fixed(8))
	in.skip(17)
	immediate, original := in.fixed(7), uint64(0)
	if immediate&differs != 0 {
		original = in.fixed(7)
	}
	length := in.lengthEncoded()
	if in.short {
		return identity{}, fmt.Errorf("%w: a GTID event of %d bytes", ErrFormat, len(body))
	}
	return identity{
		source: gtid.Source{UUID: uuidText(uuid)}, number: number, length: int64(length),
		immediate: int64(immediate &^ differs), original: int64(original),
	}.check()
}

// Fields of the event of a tagged GTID, by their numbers.
const (
	fieldUUID      = 1
	fieldNumber    = 2
	fieldTag       = 3
	fieldImmediate = 6
	fieldOriginal  = 7 // absent when it is the same
	fieldLength    = 8
)

// decodeTagged reads the event of a tagged GTID: a message of mysql::serialization, which is a version, a size, the last
// field that must be understood, and fields with their numbers in ascending order. Fields behind the length of the
// transaction are not needed.
func decodeTagged(body []byte) (identity, error) {
	in := cursor{rest: body}
	version := in.variable()
	in.variable()
	in.variable()
	var id identity
	seen := map[uint64]bool{}
	for last := -1; !seen[fieldLength] && !in.short; {
		field := in.variable()
		if version != 1 || int64(field) <= int64(last) || field > fieldLength {
			return identity{}, fmt.Errorf("%w: field %d of version %d in a GTID event", ErrFormat, field, version)
		}
		last, seen[field] = int(field), true
		switch field {
		case fieldUUID:
			id.source.UUID = uuidText(in.smallNumbers(16))
		case fieldNumber:
			id.number = signed(in.variable())
		case fieldTag:
			id.source.Tag = string(in.take(int(min(in.variable(), 64))))
		case fieldImmediate:
			id.immediate = int64(in.variable() &^ (1 << 63))
		case fieldOriginal:
			id.original = int64(in.variable() &^ (1 << 63))
		case fieldLength:
			id.length = int64(in.variable())
		default:
			in.variable()
		}
	}
	if in.short || !seen[fieldUUID] || !seen[fieldNumber] {
		return identity{}, fmt.Errorf("%w: a tagged GTID event of %d bytes", ErrFormat, len(body))
	}
	if tag := id.source.Tag; tag != "" {
		if _, err := gtid.Parse(id.source.UUID + ":" + tag + ":1"); err != nil {
			return identity{}, fmt.Errorf("%w: the tag of a GTID event: %w", ErrFormat, err)
		}
	}
	return id.check()
}

// decodePrevious reads a set of GTIDs: the number of sources (8), then of each the UUID (16), in the tagged format the
// tag, the number of intervals (8) and their bounds (8 each, the second not included). The tagged format has a 1 in the
// first and in the last byte of the number of sources.
func decodePrevious(body []byte) (gtid.Set, error) {
	in := cursor{rest: body}
	sources := in.fixed(8)
	tagged := sources>>56 == 1
	if tagged {
		sources = sources << 8 >> 16
	}
	var text strings.Builder
	for ; sources > 0 && !in.short; sources-- {
		text.WriteString("," + uuidText(in.take(16)))
		if tagged {
			if tag := in.take(int(min(in.variable(), 64))); len(tag) > 0 {
				text.WriteString(":" + string(tag))
			}
		}
		for intervals := in.fixed(8); intervals > 0 && !in.short; intervals-- {
			first, behind := in.fixed(8), in.fixed(8)
			fmt.Fprintf(&text, ":%d-%d", first, behind-1)
		}
	}
	if in.short {
		return gtid.Set{}, fmt.Errorf("%w: previous GTIDs of %d bytes", ErrFormat, len(body))
	}
	set, err := gtid.Parse(text.String())
	if err != nil {
		return gtid.Set{}, fmt.Errorf("%w: previous GTIDs: %w", ErrFormat, err)
	}
	return set, nil
}

// query is what matters of a logged statement.
type query struct {
	text string // its beginning
	// atomic: the statement carries the number under which the engine has prepared it (Q_DDL_LOGGED_WITH_XID).
	atomic bool
}

// decodeQuery reads a statement: thread, time (4 each), length of the schema's name (1), error (2), length of the
// variables (2), variables, name and a zero, text.
func decodeQuery(body []byte) query {
	in := cursor{rest: body}
	in.skip(8)
	schema := in.fixed(1)
	in.skip(2)
	variables := cursor{rest: in.take(int(in.fixed(2)))}
	in.skip(int(schema) + 1)
	if in.short {
		return query{}
	}
	text := string(in.rest[:min(len(in.rest), 16)])
	return query{text: strings.ToUpper(text), atomic: hasXID(&variables)}
}

// Variables of a statement (Query_event::Query_event_status_vars), of those whose size varies or that are looked for.
const (
	variableCatalog   = 2
	variableTimeZone  = 5
	variableCatalogNZ = 6
	variableInvoker   = 11
	variableSchemas   = 12
	variableXID       = 17
)

// variableSizes are the sizes of the others.
var variableSizes = map[uint64]int{
	0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3, 16: 1, 18: 2, 19: 1, 20: 1,
}

// hasXID looks for the number of the engine's transaction. What is behind an unknown variable is not found.
func hasXID(in *cursor) bool {
	for len(in.rest) > 0 && !in.short {
		switch variable := in.fixed(1); variable {
		case variableXID:
			return len(in.rest) >= 8
		case variableCatalog:
			in.skip(int(in.fixed(1)) + 1)
		case variableTimeZone, variableCatalogNZ:
			in.skip(int(in.fixed(1)))
		case variableInvoker:
			in.skip(int(in.fixed(1)))
			in.skip(int(in.fixed(1)))
		case variableSchemas:
			in.names(in.fixed(1))
		default:
			size, known := variableSizes[variable]
			if !known {
				return false
			}
			in.skip(size)
		}
	}
	return false
}

// cursor takes values off the beginning of a slice. Once it is short everything it gives is zero.
type cursor struct {
	rest  []byte
	short bool
}

func (c *cursor) take(n int) []byte {
	if c.short || n < 0 || n > len(c.rest) {
		c.short = true
		return nil
	}
	taken := c.rest[:n]
	c.rest = c.rest[n:]
	return taken
}

func (c *cursor) skip(n int) { c.take(n) }

// fixed is a number of n bytes, at most 8, the lowest first.
func (c *cursor) fixed(n int) uint64 {
	var whole [8]byte
	copy(whole[:], c.take(n))
	return binary.LittleEndian.Uint64(whole[:])
}

// lengthEncoded is a number below 251 in one byte, or the size of one in the first.
func (c *cursor) lengthEncoded() uint64 {
	switch first := c.fixed(1); first {
	case 252:
		return c.fixed(2)
	case 253:
		return c.fixed(3)
	case 254:
		return c.fixed(8)
	default:
		return first
	}
}

// variable is a number of mysql::serialization: as many ones as the first byte has at its low end, so many bytes follow;
// the ones, and the zero behind them if there is room for it, are no part of the number.
func (c *cursor) variable() uint64 {
	if c.short || len(c.rest) == 0 {
		c.short = true
		return 0
	}
	more := bits.TrailingZeros8(^c.rest[0])
	if more >= 8 {
		c.skip(1)
		return c.fixed(8)
	}
	return c.fixed(more+1) >> (more + 1)
}

// signed undoes the encoding of numbers with a sign, which is their lowest bit.
func signed(n uint64) int64 {
	if n&1 != 0 {
		return ^int64(n >> 1)
	}
	return int64(n >> 1)
}

// smallNumbers are n bytes, each encoded as a number of its own.
func (c *cursor) smallNumbers(n int) []byte {
	numbers := make([]byte, n)
	for i := range numbers {
		numbers[i] = byte(c.variable())
	}
	return numbers
}

// names skips so many names that each end with a zero; 254 stands for more than were logged.
func (c *cursor) names(count uint64) {
	if count == 254 {
		return
	}
	for ; count > 0 && !c.short; count-- {
		c.skip(bytes.IndexByte(c.rest, 0) + 1)
	}
}

func uuidText(b []byte) string {
	if len(b) != 16 {
		return ""
	}
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
