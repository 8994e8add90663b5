// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/moco-mysql/moco/test/cluster/command"
	"github.com/moco-mysql/moco/test/cluster/config"
	"github.com/moco-mysql/moco/test/cluster/network"
)

// Down ends every process of the cluster and removes its mounts, loop devices,
// links, namespaces, control groups and data. It goes on when a part fails and
// returns all that failed; what is gone already is no error.
func (c *Cluster) Down(ctx context.Context) error {
	// Asked first: where the shims' sockets are is written below State.
	sockets, err := shimSockets(c.State)
	failed := []error{
		err,
		// Nothing may mount a volume while volumes are unmounted.
		c.Daemons.Stop(ctx, config.Keeper),
		c.Daemons.Groups.Kill(ctx, config.CgroupName, killLimit),
		unmountBelow(c.State),
		detachBelow(ctx, c.State),
		network.Down(ctx),
		restoreForwarding(c.Path(forwardingBefore)),
		removeAll(sockets),
		removeMentions(cniResults, c.State),
		removeBelow(c.State),
		removeAll([]string{c.KubeconfigFile(), c.S3EnvFile()}),
	}
	return errors.Join(failed...)
}

// unmountBelow unmounts everything below dir, the innermost first.
func unmountBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, p := range slices.Backward(points) {
		if err := syscall.Unmount(p, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", p, err)
		}
	}
	return nil
}

// mountsBelow returns the mount points below dir in the order of mounting.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	defer f.Close()
	var points []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// proc(5): the fifth field is the mount point; no name here has spaces.
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	return points, lines.Err()
}

// detachBelow detaches the loop devices whose files are below dir.
func detachBelow(ctx context.Context, dir string) error {
	out, err := command.Output(ctx, "losetup", "--list", "--noheadings", "--output=NAME,BACK-FILE")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			if err := command.Run(ctx, "losetup", "--detach", f[0]); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeBelow removes the state directory unless something is still mounted in
// it: then it would remove what is mounted.
func removeBelow(dir string) error {
	points, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(points) > 0 {
		return fmt.Errorf("removing %s: still mounted: %s", dir, strings.Join(points, ", "))
	}
	return os.RemoveAll(dir)
}
