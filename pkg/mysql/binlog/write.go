// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package binlog

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

// Preamble is how the file begins: what marks a binary log, the description of the format and the previous GTIDs. The flag
// that says that mysqld is writing is cleared. The caller must not change it.
func (r *Reader) Preamble() []byte { return r.preamble }

// PreambleAt makes a preamble for transactions from the middle of the file: with them behind it, it is a binary log of its
// own. before is what was executed before the first of them.
func (r *Reader) PreambleAt(before gtid.Set) []byte {
	preamble := append([]byte(magic), r.format...)
	return append(preamble, previousEvent(before, r.format, int64(len(preamble)))...)
}

// previousEvent makes an event of previous GTIDs that stands at an offset, with the time and the server of another event.
func previousEvent(set gtid.Set, like []byte, offset int64) []byte {
	body := encodePrevious(set)
	size := headerSize + len(body) + checksumSize
	event := make([]byte, 0, size)
	event = append(event, like[:4]...) // time
	event = append(event, typePrevious)
	event = append(event, like[5:9]...) // server id
	event = binary.LittleEndian.AppendUint32(event, uint32(size))
	event = binary.LittleEndian.AppendUint32(event, uint32(offset+int64(size)))
	event = binary.LittleEndian.AppendUint16(event, flagIgnorable)
	event = append(event, body...)
	return binary.LittleEndian.AppendUint32(event, crc32.ChecksumIEEE(event))
}

// encodePrevious is what decodePrevious reads. As the server does, it takes the tagged format only for a set with tags.
func encodePrevious(set gtid.Set) []byte {
	sources := set.Sources()
	tagged := slices.ContainsFunc(sources, func(s gtid.Source) bool { return s.Tag != "" })
	count := uint64(len(sources))
	if tagged {
		count = 1 | count<<8 | 1<<56
	}
	body := binary.LittleEndian.AppendUint64(nil, count)
	for _, source := range sources {
		uuid, _ := hex.DecodeString(strings.ReplaceAll(source.UUID, "-", "")) // a set holds none that is not one
		body = append(body, uuid...)
		if tagged {
			body = append(body, byte(len(source.Tag)<<1)) // a short number of mysql::serialization; a tag has 32 bytes at most
			body = append(body, source.Tag...)
		}
		intervals := set.Intervals(source)
		body = binary.LittleEndian.AppendUint64(body, uint64(len(intervals)))
		for _, i := range intervals {
			body = binary.LittleEndian.AppendUint64(body, uint64(i.First))
			body = binary.LittleEndian.AppendUint64(body, uint64(i.Last+1))
		}
	}
	return body
}
