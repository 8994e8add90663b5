// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinksThatOverlapWithTheClusterAreNamed(t *testing.T) {
	tests := map[string]struct {
		link link
		want []string
	}{
		"another network":             {link: link{"eth0", netip.MustParsePrefix("192.0.2.2/24")}},
		"the cluster's own bridge":    {link: link{"moco0", netip.MustParsePrefix("10.99.0.1/24")}},
		"an address of version 6":     {link: link{"eth0", netip.MustParsePrefix("fd00::1/64")}},
		"a network around the nodes'": {link: link{"eth0", netip.MustParsePrefix("10.99.7.7/16")}, want: []string{"10.99.0.0/24"}},
		"a network inside the Pods'":  {link: link{"cni0", netip.MustParsePrefix("10.244.3.1/24")}, want: []string{"10.244.0.0/16"}},
		"a network around all": {link: link{"tun0", netip.MustParsePrefix("10.0.0.5/8")},
			want: []string{"10.99.0.0/24", "10.244.0.0/16", "10.96.0.0/16"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range conflicts([]link{tt.link}) {
				if !strings.Contains(c, tt.link.name) {
					t.Errorf("%q does not name the link", c)
				}
				words := strings.Fields(c)
				got = append(got, words[len(words)-4])
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("networks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestADirectoryThatIsNotThereYetIsOnTheDiskOfTheNearestOne(t *testing.T) {
	dir := t.TempDir()
	if free := freeBytes(dir + "/a/b/c"); free <= 0 {
		t.Errorf("%d bytes are free", free)
	}
}
