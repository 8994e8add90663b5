// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// The layout of a slot, big endian: magic (8 bytes), sequence (8), length of the payload (4), checksum (32), payload,
// zeros up to SlotSize. The checksum covers the whole slot with its own place taken as zeros.
const (
	// SlotSize is the size of one slot in bytes. It bounds the encoded state.
	SlotSize    = 16 << 10
	slotCount   = 2
	headerSize  = 52
	checksumAt  = 20
	payloadRoom = SlotSize - headerSize
)

var magic = [8]byte{'M', 'O', 'C', 'O', 's', 't', '0', '1'}

// ErrTooLarge is wrapped by errors of Save when the encoded state does not fit a slot.
var ErrTooLarge = errors.New("state does not fit its slot")

// errDamaged says that a slot's bytes are not what a Save wrote.
var errDamaged = errors.New("slot is damaged")

func encodeSlot(sequence uint64, d Durable) ([]byte, error) {
	payload, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encoding the state: %w", err)
	}
	if len(payload) > payloadRoom {
		return nil, fmt.Errorf("encoding the state: %d bytes, the most is %d: %w", len(payload), payloadRoom, ErrTooLarge)
	}
	slot := make([]byte, SlotSize)
	copy(slot, magic[:])
	binary.BigEndian.PutUint64(slot[8:], sequence)
	binary.BigEndian.PutUint32(slot[16:], uint32(len(payload)))
	copy(slot[headerSize:], payload)
	sum := sha256.Sum256(slot)
	copy(slot[checksumAt:], sum[:])
	return slot, nil
}

func decodeSlot(slot []byte) (uint64, Durable, error) {
	if len(slot) != SlotSize || !bytes.Equal(slot[:len(magic)], magic[:]) {
		return 0, Durable{}, errDamaged
	}
	var stored [sha256.Size]byte
	copy(stored[:], slot[checksumAt:])
	blank := bytes.Clone(slot)
	clear(blank[checksumAt : checksumAt+sha256.Size])
	if sha256.Sum256(blank) != stored {
		return 0, Durable{}, errDamaged
	}
	length := binary.BigEndian.Uint32(slot[16:])
	if length > payloadRoom {
		return 0, Durable{}, errDamaged
	}
	var d Durable
	if err := json.Unmarshal(slot[headerSize:headerSize+length], &d); err != nil {
		return 0, Durable{}, fmt.Errorf("decoding the state: %w", err)
	}
	return binary.BigEndian.Uint64(slot[8:]), d, nil
}
