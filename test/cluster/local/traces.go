// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moco-mysql/moco/test/cluster/network"
)

// Some programs write to fixed places outside the cluster's directory. What they
// leave there is found by what it says, because others may use those places, too.

// cniResults is where libcni remembers the networks of containers; no setting of
// containerd moves it.
const cniResults = "/var/lib/cni/results"

// forwardingBefore is the file with the host's own setting of ip_forward.
const forwardingBefore = "ip_forward"

// shimSockets returns the sockets of the shims of every node below state; their
// directory, /run/containerd/s, is compiled into containerd.
func shimSockets(state string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(state, "nodes/*/containerd/state/io.containerd.runtime.v2.task/*/*/bootstrap.json"))
	if err != nil {
		return nil, fmt.Errorf("finding the shims' sockets: %w", err)
	}
	var sockets []string
	for _, f := range files {
		content, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the container has ended since
		}
		var shim struct{ Address string }
		if err == nil {
			err = json.Unmarshal(content, &shim)
		}
		if err != nil {
			return nil, fmt.Errorf("finding the shims' sockets: %w", err)
		}
		if path, ok := strings.CutPrefix(shim.Address, "unix://"); ok {
			sockets = append(sockets, path)
		}
	}
	return sockets, nil
}

// removeMentions removes the files of dir that mention a path below state.
func removeMentions(dir, state string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cleaning %s: %w", dir, err)
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		content, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(content), state+"/") {
			continue // another's
		}
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("cleaning %s: %w", dir, err)
		}
	}
	return nil
}

func removeAll(files []string) error {
	var failed []error
	for _, f := range files {
		failed = append(failed, os.RemoveAll(f))
	}
	return errors.Join(failed...)
}

// saveForwarding writes the host's setting to file, once in a cluster's life.
func saveForwarding(file string) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	now, err := os.ReadFile(network.ForwardFile)
	if err != nil {
		return fmt.Errorf("saving the forwarding setting: %w", err)
	}
	return os.WriteFile(file, now, 0o644)
}

func restoreForwarding(file string) error {
	before, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.WriteFile(network.ForwardFile, before, 0o644)
	}
	if err != nil {
		return fmt.Errorf("restoring the forwarding setting: %w", err)
	}
	return nil
}
