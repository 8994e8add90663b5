// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// memoryLimit is how many bytes this container may use: the limit of its control group (memory.max of version 2,
// memory.limit_in_bytes of version 1), or the memory of the machine when there is none or that is less.
func memoryLimit(cgroup, meminfo string) (int64, error) {
	total, err := machineMemory(meminfo)
	if err != nil {
		return 0, err
	}
	for _, name := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(filepath.Join(cgroup, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("reading the memory limit: %w", err)
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return total, nil //nolint:nilerr // "max": no limit
		}
		return min(limit, total), nil
	}
	return total, nil
}

// machineMemory reads MemTotal, which is in KiB.
func machineMemory(path string) (int64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("reading the memory of the machine: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "MemTotal:" {
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the memory of the machine: %w", err)
		}
		return kib << 10, nil
	}
	return 0, errors.Join(errors.New("reading the memory of the machine: no MemTotal"), lines.Err())
}
