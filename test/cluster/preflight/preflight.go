// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moco-mysql/moco/test/cluster/command"
)

// What three nodes with a MySQL cluster or two need.
const (
	minMemory = 7 << 30 // a machine sold with 8 GiB reports a little less
	minDisk   = 15 << 30
)

// Commands returns the commands that the cluster uses, with the Debian package
// that each comes in.
func Commands() map[string]string {
	return map[string]string{
		"ip": "iproute2", "nsenter": "util-linux", "losetup": "mount", "mount": "mount", "sysctl": "procps",
		"mkfs.xfs": "xfsprogs", "xfs_growfs": "xfsprogs", "nft": "nftables", "iptables": "iptables",
		"conntrack": "conntrack", "socat": "socat", "runc": "runc", "/usr/lib/cni/bridge": "containernetworking-plugins",
	}
}

// Check returns everything that is missing, in words; nothing when the cluster
// can run. The directories are those that will be filled.
func Check(ctx context.Context, dirs ...string) []string {
	var missing []string
	note := func(format string, args ...any) { missing = append(missing, fmt.Sprintf(format, args...)) }
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		note("Linux on amd64 (this is %s on %s)", runtime.GOOS, runtime.GOARCH)
		return missing
	}
	if os.Geteuid() != 0 {
		note("root: run it with sudo; it makes network namespaces, mounts and control groups")
	}
	for name, pkg := range Commands() {
		if _, err := exec.LookPath(name); err != nil {
			note("the command %s (Debian package %s)", name, pkg)
		}
	}
	if kib := memoryKiB(); kib<<10 < minMemory {
		note("memory: 8 GiB are needed, there are %.1f", float64(kib)/(1<<20))
	}
	for _, dir := range dirs {
		if free := freeBytes(dir); free < minDisk {
			note("disk: %d GiB are needed for %s, %d are free", int64(minDisk)>>30, dir, free>>30)
		}
	}
	missing = append(missing, conflicts(hostLinks())...)
	missing = append(missing, kernel(ctx)...)
	slices.Sort(missing)
	return missing
}

func memoryKiB() int64 {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kib int64
	for line := range strings.Lines(string(content)) {
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); err == nil {
			return kib
		}
	}
	return 0
}

// freeBytes asks for the nearest directory that exists.
func freeBytes(dir string) int64 {
	for {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err == nil {
			return int64(s.Bavail) * s.Bsize
		}
		if i := strings.LastIndexByte(dir, '/'); i > 0 {
			dir = dir[:i]
		} else {
			dir = "/"
		}
	}
}

// kernel tries links and packet filters in a network namespace of its own, which
// is gone when the attempt ends.
func kernel(ctx context.Context) []string {
	var missing []string
	systems, _ := os.ReadFile("/proc/filesystems")
	for _, fs := range []string{"overlay", "xfs"} {
		if !strings.Contains(string(systems), "\t"+fs+"\n") && command.Run(ctx, "modprobe", fs) != nil {
			missing = append(missing, "kernel: the file system "+fs)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		missing = append(missing, "kernel: loop devices (/dev/loop-control)")
	}
	if _, err := os.Stat("/sys/fs/cgroup"); err != nil {
		missing = append(missing, "kernel: control groups at /sys/fs/cgroup")
	}
	if os.Geteuid() != 0 {
		return missing
	}
	for what, try := range map[string]string{
		"bridges":                "ip link add b0 type bridge",
		"virtual ethernet links": "ip link add v0 type veth peer name v1",
		"nftables":               "nft add table ip probe && nft add chain ip probe c '{ type nat hook prerouting priority 0; }' && nft add rule ip probe c ct state new counter",
	} {
		if _, err := command.Output(ctx, "unshare", "--net", "/bin/sh", "-c", try); err != nil {
			missing = append(missing, fmt.Sprintf("kernel: %s (%v)", what, err))
		}
	}
	return missing
}
