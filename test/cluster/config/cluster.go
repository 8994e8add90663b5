// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
)

// Addresses are fixed: a machine has room for one local cluster, whichever
// checkout started it, and fixed names are what lets `down` find all of it.
const (
	// Bridge is the link that joins the nodes and the host.
	Bridge = "moco0"
	// HostAddress is the host's address on Bridge: the API server's and the
	// S3 server's.
	HostAddress = "10.99.0.1"
	// NodeSubnet holds HostAddress and the nodes' addresses.
	NodeSubnet = "10.99.0.0/24"
	// PodSubnet is cut into one /24 per node.
	PodSubnet = "10.244.0.0/16"
	// ServiceSubnet is the range of cluster IPs.
	ServiceSubnet = "10.96.0.0/16"
	// ServiceAddress is the cluster IP of the API server.
	ServiceAddress = "10.96.0.1"
	// DNSAddress is the cluster IP of CoreDNS.
	DNSAddress = "10.96.0.10"
	// APIPort is the API server's port on HostAddress.
	APIPort = 6443
	// EtcdPort is etcd's port on 127.0.0.1, away from the usual one so that it
	// does not meet another etcd of the host.
	EtcdPort = 12379
	// EtcdPeerPort is etcd's peer port on 127.0.0.1.
	EtcdPeerPort = 12380
	// S3Port is the S3 server's port on HostAddress.
	S3Port = 7070
	// StorageClass is the name of the default storage class.
	StorageClass = "local-disk"
	// Provisioner is the name under which the volume provisioner serves it.
	Provisioner = "moco.dev/local-disk"
	// StateDir holds everything a running cluster writes but its logs and the
	// files meant for users. It is short because unix socket paths below it
	// must stay under 108 bytes.
	StateDir = "/var/lib/moco-local"
	// CgroupName is the parent of the daemons' cgroups and the prefix of the
	// nodes' ones.
	CgroupName = "moco-local"
)

// Cluster names the directories of one local cluster.
type Cluster struct {
	// State is the machine-wide state directory, normally StateDir.
	State string
	// Output is the directory for users inside the checkout: kubeconfig,
	// s3.env, bin/ and log/.
	Output string
	// Bin maps the name of a program to its absolute path.
	Bin map[string]string
}

// Path joins elem to the state directory.
func (c Cluster) Path(elem ...string) string {
	return filepath.Join(append([]string{c.State}, elem...)...)
}

// PKI returns the path of a certificate or key file.
func (c Cluster) PKI(name string) string { return c.Path("pki", name) }

// Kubeconfig returns the path of a component's kubeconfig.
func (c Cluster) Kubeconfig(user string) string { return c.Path("pki", user+".conf") }

// LogDir is where each daemon has its log file.
func (c Cluster) LogDir() string { return filepath.Join(c.Output, "log") }

// RunDir holds the pid files.
func (c Cluster) RunDir() string { return c.Path("run") }

// Server is the URL of the API server.
func Server() string { return fmt.Sprintf("https://%s:%d", HostAddress, APIPort) }

// S3Endpoint is the URL of the S3 server.
func S3Endpoint() string { return fmt.Sprintf("http://%s:%d", HostAddress, S3Port) }

// Node is one node of the cluster.
type Node struct {
	// Index is 1, 2 or 3.
	Index int
}

// Nodes returns the three nodes in order.
func Nodes() []Node { return []Node{{1}, {2}, {3}} }

// NodeNamed returns the node with the given name.
func NodeNamed(name string) (Node, error) {
	for _, n := range Nodes() {
		if n.Name() == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("there is no node %q: the nodes are n1, n2 and n3", name)
}

// Name is the name of the Node object.
func (n Node) Name() string { return fmt.Sprintf("n%d", n.Index) }

// Netns is the name of the network namespace.
func (n Node) Netns() string { return "moco-" + n.Name() }

// NetnsPath is the file that holds the network namespace open.
func (n Node) NetnsPath() string { return "/run/netns/" + n.Netns() }

// Link is the host's end of the node's cable.
func (n Node) Link() string { return "moco-" + n.Name() }

// Address is the node's address on the bridge.
func (n Node) Address() string { return fmt.Sprintf("10.99.0.%d", 10+n.Index) }

// Pods is the node's range of Pod addresses.
func (n Node) Pods() string { return fmt.Sprintf("10.244.%d.0/24", n.Index) }

// Cgroup is the parent of the node's Pods, relative to each controller's root.
func (n Node) Cgroup() string { return CgroupName + "-" + n.Name() }

// Dir is the directory of everything that belongs to node n.
func (c Cluster) Dir(n Node, elem ...string) string {
	return c.Path(append([]string{"nodes", n.Name()}, elem...)...)
}

// ContainerdSocket is the address of node n's containerd.
func (c Cluster) ContainerdSocket(n Node) string { return c.Dir(n, "containerd.sock") }
