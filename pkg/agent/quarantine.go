// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxQuarantine is how many entries the quarantine keeps, the newest.
const maxQuarantine = 5

// fileAbout describes an entry of the quarantine for people.
const fileAbout = "about.json"

// quarantined describes what was put aside.
type quarantined struct {
	// Reason in words, GTIDs in question as a set, and the epoch in which they were found not to be in the history.
	Reason string `json:"reason"`
	GTIDs  string `json:"gtids"`
	Epoch  int64  `json:"epoch"`
	// File and Offset say where the bytes of a cut were.
	File   string `json:"file,omitempty"`
	Offset int64  `json:"offset,omitempty"`
}

func (c *Config) quarantineDir() string { return filepath.Join(c.DataRoot, "quarantine") }

// nextEntry names the next entry of the quarantine. Names begin with a number that grows, so their order is that of time,
// whatever the clock says.
func (c *Config) nextEntry(kind string) (string, error) {
	names, err := c.quarantineEntries()
	if err != nil {
		return "", err
	}
	var last int
	if len(names) > 0 {
		_, _ = fmt.Sscanf(names[len(names)-1], "%d-", &last) // a stranger counts as 0
	}
	return filepath.Join(c.quarantineDir(), fmt.Sprintf("%08d-%s", last+1, kind)), nil
}

// quarantineEntries are the names of the entries, the oldest first.
func (c *Config) quarantineEntries() ([]string, error) {
	entries, err := os.ReadDir(c.quarantineDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the quarantine: %w", err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Sort(names)
	return names, nil
}

// beginEntry makes the directory of an entry, which may be there already, and writes what it is about.
func (c *Config) beginEntry(entry string, about quarantined) error {
	if err := os.MkdirAll(entry, 0o750); err != nil {
		return fmt.Errorf("making an entry of the quarantine: %w", err)
	}
	text, err := json.MarshalIndent(about, "", " ")
	if err != nil {
		return fmt.Errorf("encoding an entry of the quarantine: %w", err)
	}
	if err := replaceFile(filepath.Join(entry, fileAbout), text); err != nil {
		return fmt.Errorf("describing an entry of the quarantine: %w", err)
	}
	return c.shrinkQuarantine()
}

// endEntry makes an entry durable.
func (c *Config) endEntry(entry string) error {
	for _, dir := range []string{entry, c.quarantineDir(), c.DataRoot} {
		if err := syncPath(dir); err != nil {
			return fmt.Errorf("flushing the quarantine: %w", err)
		}
	}
	return nil
}

// shrinkQuarantine removes the oldest entries beyond the bound.
func (c *Config) shrinkQuarantine() error {
	names, err := c.quarantineEntries()
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-maxQuarantine)] {
		if err := os.RemoveAll(filepath.Join(c.quarantineDir(), name)); err != nil {
			return fmt.Errorf("shrinking the quarantine: %w", err)
		}
	}
	return nil
}

// keep puts whole files aside and returns the entry. They are linked: that takes no time and no space, and what is removed
// from the data directory later stays in the quarantine. On a file system without links they are copied. A file that
// is gone was not needed.
func (c *Config) keep(kind string, about quarantined, files []string) (string, error) {
	entry, err := c.nextEntry(kind)
	if err != nil {
		return "", err
	}
	if err := c.beginEntry(entry, about); err != nil {
		return "", err
	}
	for _, file := range files {
		target := filepath.Join(entry, filepath.Base(file))
		err := os.Link(file, target)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			err = keepTail(file, 0, target)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("putting a log into quarantine: %w", err)
		}
	}
	return entry, c.endEntry(entry)
}

// keepTail copies the bytes of a file from an offset on.
func keepTail(path string, offset int64, target string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	if _, err := from.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	to, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Sync(), to.Close())
}
