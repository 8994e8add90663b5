// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/moco-mysql/moco/test/cluster/config"
)

// link is a network link of the host with one of its addresses.
type link struct {
	name   string
	prefix netip.Prefix
}

// conflicts returns the links whose networks overlap with the cluster's: what is
// sent to one would arrive at the other. The cluster's own bridge is none.
func conflicts(links []link) []string {
	var found []string
	for _, l := range links {
		if l.name == config.Bridge {
			continue
		}
		for _, own := range []string{config.NodeSubnet, config.PodSubnet, config.ServiceSubnet} {
			if netip.MustParsePrefix(own).Overlaps(l.prefix.Masked()) {
				found = append(found, fmt.Sprintf("free addresses: %s of the link %s overlaps with %s of the cluster", l.prefix, l.name, own))
			}
		}
	}
	return found
}

// hostLinks lists the host's links; one that cannot be read is left out.
func hostLinks() []link {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var links []link
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				links = append(links, link{name: i.Name, prefix: prefix})
			}
		}
	}
	return links
}
