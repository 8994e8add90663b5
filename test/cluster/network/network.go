// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/moco-mysql/moco/test/cluster/command"
	"github.com/moco-mysql/moco/test/cluster/config"
)

// ForwardFile turns forwarding between links on or off (ip-sysctl, ip_forward).
const ForwardFile = "/proc/sys/net/ipv4/ip_forward"

// Up makes the bridge and the nodes' cables; what exists is left as it is, but a
// node that was cut off stays so.
func Up(ctx context.Context) error {
	if !linkExists(config.Bridge) {
		if err := command.All(ctx, "ip link add "+config.Bridge+" type bridge"); err != nil {
			return err
		}
	}
	err := command.All(ctx,
		"ip addr replace "+config.HostAddress+"/24 dev "+config.Bridge,
		"ip link set "+config.Bridge+" up")
	if err != nil {
		return err
	}
	if err := os.WriteFile(ForwardFile, []byte("1\n"), 0o644); err != nil {
		return fmt.Errorf("turning on forwarding: %w", err)
	}
	for _, n := range config.Nodes() {
		if err := nodeUp(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func nodeUp(ctx context.Context, n config.Node) error {
	if _, err := os.Stat(n.NetnsPath()); err != nil {
		if err := command.All(ctx, "ip netns add "+n.Netns()); err != nil {
			return err
		}
	}
	if !linkExists(n.Link()) {
		err := command.All(ctx,
			"ip link add "+n.Link()+" type veth peer name eth0 netns "+n.Netns(),
			"ip link set "+n.Link()+" master "+config.Bridge+" up")
		if err != nil {
			return err
		}
	}
	in := "ip -n " + n.Netns() + " "
	lines := []string{
		in + "addr replace " + n.Address() + "/24 dev eth0",
		in + "link set eth0 up",
		in + "link set lo up",
		in + "route replace default via " + config.HostAddress,
		"ip route replace " + n.Pods() + " via " + n.Address(),
		// The kernel gives a namespace its own copy of this switch.
		"nsenter --net=" + n.NetnsPath() + " sysctl -qw net.ipv4.ip_forward=1",
	}
	for _, other := range config.Nodes() {
		if other != n {
			lines = append(lines, in+"route replace "+other.Pods()+" via "+other.Address())
		}
	}
	return command.All(ctx, lines...)
}

func linkExists(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name)
	return err == nil
}

// Cut takes the node's cable out: nothing reaches it, and it reaches nothing.
// Its processes and what runs on it go on.
func Cut(ctx context.Context, n config.Node) error {
	return command.All(ctx, "ip link set "+n.Link()+" down")
}

// Heal puts the cable back. The routes through the host end went with the link
// only when it was the host's own; they are laid again in any case.
func Heal(ctx context.Context, n config.Node) error {
	return command.All(ctx,
		"ip link set "+n.Link()+" up",
		"ip route replace "+n.Pods()+" via "+n.Address())
}

// IsCut tells whether the node's cable is out.
func IsCut(n config.Node) bool {
	flags, err := os.ReadFile("/sys/class/net/" + n.Link() + "/operstate")
	return err == nil && strings.TrimSpace(string(flags)) == "down"
}

// Down removes every link and namespace of the cluster. What is gone already is
// no error.
func Down(ctx context.Context) error {
	for _, n := range config.Nodes() {
		if linkExists(n.Link()) {
			if err := command.All(ctx, "ip link del "+n.Link()); err != nil {
				return err
			}
		}
		if _, err := os.Stat(n.NetnsPath()); err == nil {
			if err := command.All(ctx, "ip netns del "+n.Netns()); err != nil {
				return err
			}
		}
	}
	if linkExists(config.Bridge) {
		return command.All(ctx, "ip link del "+config.Bridge)
	}
	return nil
}
