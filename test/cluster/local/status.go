// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/moco-mysql/moco/test/cluster/config"
	"github.com/moco-mysql/moco/test/cluster/network"
)

// The daemons' log files are cut to nothing when they exceed maxLog bytes.
const (
	maxLog   = 64 << 20
	logCheck = time.Minute
)

// Status writes which daemons run and which nodes are cut off. It fails when the
// cluster is not whole.
func (c *Cluster) Status(_ context.Context, w io.Writer) error {
	all := append(c.ControlPlane(), c.Keeper(c.Self), c.S3Server("", ""))
	for _, n := range config.Nodes() {
		all = append(all, c.NodeDaemons(n)...)
	}
	dead := 0
	for _, d := range all {
		pid, ok := c.Daemons.Running(d.Name)
		if !ok {
			dead++
			fmt.Fprintf(w, "%-26s -\n", d.Name)
			continue
		}
		fmt.Fprintf(w, "%-26s running, pid %d, %d MiB\n", d.Name, pid, residentMiB(pid))
	}
	for _, n := range config.Nodes() {
		if network.IsCut(n) {
			fmt.Fprintf(w, "%-26s cut off\n", n.Name())
		}
	}
	if dead == len(all) {
		return fmt.Errorf("the cluster is down")
	}
	if dead > 0 {
		return fmt.Errorf("%d of %d daemons do not run", dead, len(all))
	}
	return nil
}

// residentMiB is the process's resident memory; 0 when it has ended.
func residentMiB(pid int) int {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	var size, resident int // proc(5): in pages
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		return 0
	}
	return resident * os.Getpagesize() >> 20
}

// StartAPI starts the API server again and waits until it serves.
func (c *Cluster) StartAPI(ctx context.Context) error {
	if err := c.Daemons.Start(c.APIServer()); err != nil {
		return err
	}
	if err := c.awaitAPI(ctx); err != nil {
		return err
	}
	// The scheduler ends itself later when what it remembers of Pods does not agree with the API server any more. Elsewhere
	// somebody starts it again.
	if err := c.Daemons.Stop(ctx, config.Scheduler); err != nil {
		return err
	}
	return c.Daemons.Start(c.Scheduler())
}

// VolumeDir is where a volume of a node is mounted.
func (c *Cluster) VolumeDir(node, name string) string {
	return c.Path("nodes", node, "volumes", name)
}

// TrimLogs keeps the daemons' logs small until ctx ends. They are appended to,
// so a file that was cut to nothing goes on from its start.
func (c *Cluster) TrimLogs(ctx context.Context) {
	tick := time.NewTicker(logCheck)
	defer tick.Stop()
	for {
		files, _ := filepath.Glob(filepath.Join(c.LogDir(), "*.log"))
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Size() > maxLog {
				_ = os.Truncate(f, 0)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
