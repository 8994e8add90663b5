// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockRetry is how often a supervisor tries for a lock that is held. A blocking flock could not be given up.
const lockRetry = 200 * time.Millisecond

// maxHolder bounds what is read of a lock file, in bytes.
const maxHolder = 4 << 10

// acquire waits for the exclusive lock of the file at path and writes holder into it. While it waits it calls waiting
// with the holder the file names, or nil when it names none. The lock ends with the last duplicate of the returned file.
func acquire(ctx context.Context, path string, holder Holder, waiting func(*Holder)) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock file: %w", err)
	}
	retry := time.NewTicker(lockRetry)
	defer retry.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking the volume: %w", err), file.Close())
		}
		waiting(readHolder(file))
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for the volume: %w", ctx.Err()), file.Close())
		case <-retry.C:
		}
	}
	if err := writeHolder(file, holder); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the holder of the volume: %w", err), file.Close())
	}
	return file, nil
}

// readHolder reads without the lock, so it may meet a file being written: then nobody is named.
func readHolder(file *os.File) *Holder {
	text, err := io.ReadAll(io.NewSectionReader(file, 0, maxHolder))
	if err != nil {
		return nil
	}
	holder := &Holder{}
	if json.Unmarshal(text, holder) != nil {
		return nil
	}
	return holder
}

// writeHolder pads to the length of what was there: on a full volume nothing may need to be allocated or cut.
func writeHolder(file *os.File, holder Holder) error {
	text, err := json.Marshal(holder)
	if err != nil {
		return err
	}
	line := make([]byte, max(len(text), 256))
	for i := copy(line, text); i < len(line); i++ {
		line[i] = ' '
	}
	if err := file.Truncate(int64(len(line))); err != nil {
		return err
	}
	if _, err := file.WriteAt(line, 0); err != nil {
		return err
	}
	return file.Sync()
}
