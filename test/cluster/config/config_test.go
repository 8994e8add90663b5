// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sample() Cluster {
	c := Cluster{State: StateDir, Output: "/src/_output/local", Bin: map[string]string{}}
	for _, name := range []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
		"kubelet", "kube-proxy", "containerd", "versitygw",
	} {
		c.Bin[name] = "/bin/" + name
	}
	return c
}

func images() Images {
	return Images{Pause: "docker.io/local/pause:1", CoreDNS: "docker.io/local/coredns:1"}
}

func TestGoldenFiles(t *testing.T) {
	c, n2 := sample(), Nodes()[1]
	tests := map[string]func() ([]byte, error){
		"containerd.toml": func() ([]byte, error) { return c.ContainerdConfig(n2, images()) },
		"cni.conflist":    func() ([]byte, error) { return c.CNIConfig(n2) },
		"kubelet.yaml":    func() ([]byte, error) { return c.KubeletConfig(n2) },
		"addons.yaml":     func() ([]byte, error) { return c.Addons(images()) },
		"resolv.conf":     func() ([]byte, error) { return ResolvConf(), nil },
		"daemons.txt":     func() ([]byte, error) { return daemons(c, n2), nil },
	}
	for file, render := range tests {
		t.Run(file, func(t *testing.T) {
			got, err := render()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", file)
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s differs; if that is meant, run go test ./config -update (-want +got):\n%s", file, diff)
			}
		})
	}
}

// daemons writes each command line with one argument per line.
func daemons(c Cluster, n Node) []byte {
	all := append(c.ControlPlane(), c.S3Server("KEY", "SECRET"), c.Keeper("/bin/localcluster"))
	var b strings.Builder
	for _, d := range append(all, c.NodeDaemons(n)...) {
		b.WriteString(d.Name + " in group " + d.Group + " in netns " + d.Netns + "\n")
		for _, line := range append(d.Env, d.Argv...) {
			b.WriteString("  " + line + "\n")
		}
	}
	return []byte(b.String())
}

func TestEveryAddonIsAnObjectWithAName(t *testing.T) {
	text, err := sample().Addons(images())
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(text)), 4096)
	objects := 0
	for ; ; objects++ {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if o.Kind == "" || o.Metadata.Name == "" {
			t.Errorf("object %d: kind %q, name %q; want both", objects, o.Kind, o.Metadata.Name)
		}
	}
	if want := strings.Count(string(text), "\n---\n") + 1; objects != want {
		t.Errorf("%d objects; want %d", objects, want)
	}
}

// The kernel takes no longer path for a unix socket (unix(7)): 107 bytes and a
// zero. The longest are kubelet's plug-in sockets.
func TestSocketPathsFitIntoAnAddress(t *testing.T) {
	c := sample()
	for _, n := range Nodes() {
		for _, path := range []string{c.ContainerdSocket(n) + ".ttrpc", c.Dir(n, "kubelet", "plugins_registry", "kubelet.sock")} {
			if len(path) > 107 {
				t.Errorf("%s has %d bytes; want 107 at most", path, len(path))
			}
		}
	}
}

func TestNodesHaveNothingInCommon(t *testing.T) {
	seen := map[string]string{}
	for _, n := range Nodes() {
		for _, value := range []string{n.Name(), n.NetnsPath(), n.Address(), n.Pods(), n.Cgroup(), sample().Dir(n)} {
			if other, ok := seen[value]; ok {
				t.Errorf("%s and %s both have %s", n.Name(), other, value)
			}
			seen[value] = n.Name()
		}
	}
}

func TestAnUnknownNodeIsRefusedByName(t *testing.T) {
	_, err := NodeNamed("n4")
	if err == nil || !strings.Contains(err.Error(), `"n4"`) {
		t.Errorf("error = %v; want one that names n4", err)
	}
}
