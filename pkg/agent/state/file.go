// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

var (
	// ErrMissing is wrapped by errors of Open when there is no state file.
	ErrMissing = errors.New("no state file")
	// ErrUnreadable is wrapped by errors of Open when neither slot is whole.
	ErrUnreadable = errors.New("state file is unreadable")
)

// Durable is the state of one volume.
type Durable struct {
	// Incarnation of the data, or of the empty volume.
	Incarnation string `json:"incarnation"`
	// PromisedEpoch and PromisedClaim are the promise; 0 and "" before the first. The epoch never goes back.
	PromisedEpoch int64  `json:"promisedEpoch"`
	PromisedClaim string `json:"promisedClaim,omitempty"`
	// Record as last shown to the agent, or nil.
	Record *v1beta1.ReplicationRecord `json:"record,omitempty"`
	// Counter is the state counter of the control API; it only grows.
	Counter int64 `json:"counter"`
	// AckCount is k of this instance as a source: raised here before it is raised in mysqld, lowered here after.
	AckCount int32 `json:"ackCount"`
	// BootID of the host on which the state was last saved.
	BootID string `json:"bootID"`
	// LedStart is the start of mysqld since which source semi-sync was switched on, or "": as long as that process
	// lives, a graceful stop could acknowledge writes that no replica has.
	LedStart string `json:"ledStart,omitempty"`
	// CleanStart is the start of mysqld that was seen to end cleanly after nothing was left waiting, or "".
	CleanStart string `json:"cleanStart,omitempty"`
	// OpenStart is the start of mysqld that was opened, or "", and OpenEpoch the epoch; OpenPrimary says for writes.
	OpenStart   string `json:"openStart,omitempty"`
	OpenEpoch   int64  `json:"openEpoch,omitempty"`
	OpenPrimary bool   `json:"openPrimary,omitempty"`
	// OpenNoTx and OpenNoTimes are the counters of writes without acknowledgement, and of semi-sync having ended by
	// itself, from which the open primary is watched.
	OpenNoTx    int64 `json:"openNoTx,omitempty"`
	OpenNoTimes int64 `json:"openNoTimes,omitempty"`
	// StartedID is the last start of mysqld the agent ordered on the data directory, with the hash of its configuration.
	StartedID   string `json:"startedID,omitempty"`
	StartedHash string `json:"startedHash,omitempty"`
	// FreshClone is set from the end of a clone until the replication channel the clone brought along was dropped.
	FreshClone bool `json:"freshClone,omitempty"`
	// ChannelHash identifies the source and credentials the replication channel was last set to.
	ChannelHash string `json:"channelHash,omitempty"`
	// RequiresOwnLog is set when semi-sync ended by itself on an open primary: this volume may hold the only copy of
	// acknowledged writes.
	RequiresOwnLog bool `json:"requiresOwnLog,omitempty"`
	// AloneStart is the start of mysqld from which the lead was taken while the last opened epoch demanded no acknowledgement,
	// or "": what it wrote was acknowledged by itself.
	AloneStart string `json:"aloneStart,omitempty"`
	// Unvouched says why the instance has no vote, "" when it has. RelayDropped is set once the relay log of that time is
	// given up, and Awaiting is the marker that gives the vote back, if it comes in epoch AwaitingEpoch.
	Unvouched     string `json:"unvouched,omitempty"`
	RelayDropped  bool   `json:"relayDropped,omitempty"`
	Awaiting      string `json:"awaiting,omitempty"`
	AwaitingEpoch int64  `json:"awaitingEpoch,omitempty"`
	// FlushedStart is the last start of mysqld that ended cleanly and whose volume was flushed afterwards, or "".
	FlushedStart string `json:"flushedStart,omitempty"`
	// Diverged are the GTIDs that were executed here and that no open primary has, shortened, and DivergedKept where their
	// binary log is kept.
	Diverged     string `json:"diverged,omitempty"`
	DivergedKept string `json:"divergedKept,omitempty"`
	// ServerSeed is what the server_id is made from after a rewind; "" before one: then it is made from the incarnation.
	// What was cut off may come back from others, and a replica passes over events that carry its own server_id.
	ServerSeed string `json:"serverSeed,omitempty"`
	// RestoredFrom identifies the restore that made the data, or is about to be complete; "" for other data.
	RestoredFrom string `json:"restoredFrom,omitempty"`
	// Rewound are the GTIDs cut off the binary log, until mysqld was seen without them.
	Rewound string `json:"rewound,omitempty"`
}

// File is an open state file.
type File struct {
	mu       sync.Mutex
	file     *os.File
	sequence uint64
}

// Create makes the state file at path, which must not exist, with both slots holding d. A crash leaves the whole file or
// none.
func Create(path string, d Durable) (*File, error) {
	slot, err := encodeSlot(1, d)
	if err != nil {
		return nil, err
	}
	draft := path + ".new"
	if err := writeSynced(draft, append(slot, slot...)); err != nil {
		return nil, fmt.Errorf("creating the state file: %w", err)
	}
	// Link instead of rename: it never replaces a state that is there.
	if err := os.Link(draft, path); err != nil {
		return nil, fmt.Errorf("creating the state file: %w", err)
	}
	if err := errors.Join(os.Remove(draft), syncDir(filepath.Dir(path))); err != nil {
		return nil, fmt.Errorf("creating the state file: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the new state file: %w", err)
	}
	return &File{file: file, sequence: 1}, nil
}

func writeSynced(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open reads the newest whole slot of the state file at path. Its errors wrap ErrMissing, ErrUnreadable, or are those of
// the file system.
func Open(path string) (*File, Durable, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Durable{}, fmt.Errorf("opening the state file: %w", ErrMissing)
	}
	if err != nil {
		return nil, Durable{}, fmt.Errorf("opening the state file: %w", err)
	}
	sequence, d, err := readNewest(file)
	if err != nil {
		return nil, Durable{}, errors.Join(fmt.Errorf("reading the state file: %w", err), file.Close())
	}
	return &File{file: file, sequence: sequence}, d, nil
}

func readNewest(file *os.File) (uint64, Durable, error) {
	var newest uint64
	var found Durable
	var faults []error
	slot := make([]byte, SlotSize)
	for i := range slotCount {
		if _, err := file.ReadAt(slot, int64(i)*SlotSize); err != nil && !errors.Is(err, io.EOF) {
			return 0, Durable{}, err
		}
		sequence, d, err := decodeSlot(slot)
		if err != nil {
			faults = append(faults, fmt.Errorf("slot %d: %w", i, err))
			continue
		}
		if sequence > newest {
			newest, found = sequence, d
		}
	}
	if newest == 0 {
		return 0, Durable{}, errors.Join(append(faults, ErrUnreadable)...)
	}
	return newest, found, nil
}

// Save makes d the state; it is durable when Save returns nil. After an error the state is either the old or the new one.
func (f *File) Save(d Durable) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	slot, err := encodeSlot(f.sequence+1, d)
	if err != nil {
		return err
	}
	f.sequence++
	for i := range slotCount {
		if _, err := f.file.WriteAt(slot, int64(i)*SlotSize); err != nil {
			return fmt.Errorf("writing slot %d of the state file: %w", i, err)
		}
		if err := f.file.Sync(); err != nil {
			return fmt.Errorf("flushing slot %d of the state file: %w", i, err)
		}
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}
