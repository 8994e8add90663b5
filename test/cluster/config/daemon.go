// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// Daemon is one long-running program of the cluster.
type Daemon struct {
	// Name names its pid file, log file and the argument of `stop` and `start`.
	Name string
	// Argv is the absolute path of the program and its arguments.
	Argv []string
	// Env is added to the environment.
	Env []string
	// Netns is the path of the network namespace; empty for the host's.
	Netns string
	// Group is the name of the cgroup it is put into, below CgroupName.
	Group string
}

// Names of the daemons of the control plane; those of a node are
// "<node>-containerd", "<node>-kubelet" and "<node>-kube-proxy".
const (
	Etcd       = "etcd"
	APIServer  = "kube-apiserver"
	Controller = "kube-controller-manager"
	Scheduler  = "kube-scheduler"
	S3Server   = "versitygw"
	Keeper     = "keeper"
)

const controlGroup = "control"

// Etcd is the store of the control plane. It does not sync to disk: the cluster
// is thrown away after a crash of the machine, anyway.
func (c Cluster) Etcd() Daemon {
	client := fmt.Sprintf("http://127.0.0.1:%d", EtcdPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", EtcdPeerPort)
	return Daemon{Name: Etcd, Group: controlGroup, Argv: []string{
		c.Bin["etcd"],
		"--name=local",
		"--data-dir=" + c.Path("etcd"),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=local=" + peer,
		"--unsafe-no-fsync",
		"--log-level=warn",
	}}
}

// APIServer listens on the bridge alone, so that nothing outside reaches it.
func (c Cluster) APIServer() Daemon {
	return Daemon{Name: APIServer, Group: controlGroup, Argv: []string{
		c.Bin["kube-apiserver"],
		"--advertise-address=" + HostAddress,
		"--bind-address=" + HostAddress,
		"--secure-port=" + strconv.Itoa(APIPort),
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", EtcdPort),
		"--service-cluster-ip-range=" + ServiceSubnet,
		"--client-ca-file=" + c.PKI("ca.crt"),
		"--tls-cert-file=" + c.PKI("apiserver.crt"),
		"--tls-private-key-file=" + c.PKI("apiserver.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + c.PKI("sa.pub"),
		"--service-account-signing-key-file=" + c.PKI("sa.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged",
		"--kubelet-client-certificate=" + c.PKI("kubelet-client.crt"),
		"--kubelet-client-key=" + c.PKI("kubelet-client.key"),
		"--kubelet-certificate-authority=" + c.PKI("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--v=1",
	}}
}

// ControllerManager runs without leader election: there is one.
func (c Cluster) ControllerManager() Daemon {
	conf := c.Kubeconfig(Controller)
	return Daemon{Name: Controller, Group: controlGroup, Argv: []string{
		c.Bin["kube-controller-manager"],
		"--kubeconfig=" + conf,
		"--authentication-kubeconfig=" + conf,
		"--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--root-ca-file=" + c.PKI("ca.crt"),
		"--service-account-private-key-file=" + c.PKI("sa.key"),
		"--use-service-account-credentials",
		"--allocate-node-cidrs=false",
		"--cluster-signing-cert-file=" + c.PKI("ca.crt"),
		"--cluster-signing-key-file=" + c.PKI("ca.key"),
		"--v=1",
	}}
}

// Scheduler runs without leader election: there is one.
func (c Cluster) Scheduler() Daemon {
	conf := c.Kubeconfig(Scheduler)
	return Daemon{Name: Scheduler, Group: controlGroup, Argv: []string{
		c.Bin["kube-scheduler"],
		"--kubeconfig=" + conf,
		"--authentication-kubeconfig=" + conf,
		"--authorization-kubeconfig=" + conf,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--v=1",
	}}
}

// S3Server keeps each bucket as a directory below the state directory.
func (c Cluster) S3Server(accessKey, secretKey string) Daemon {
	return Daemon{Name: S3Server, Group: controlGroup, Argv: []string{
		c.Bin["versitygw"],
		"--port=" + fmt.Sprintf("%s:%d", HostAddress, S3Port),
		"--quiet",
		"posix",
		c.Path("s3"),
	}, Env: []string{
		"ROOT_ACCESS_KEY=" + accessKey,
		"ROOT_SECRET_KEY=" + secretKey,
	}}
}

// Keeper serves volumes and keeps the log files small. It is this program
// itself, started as self.
func (c Cluster) Keeper(self string) Daemon {
	return Daemon{Name: Keeper, Group: controlGroup, Argv: []string{self, "keeper", "--output=" + c.Output}}
}

// Containerd runs in the node's network namespace so that the ports it streams
// on are the node's. It is entered with nsenter: `ip netns exec` would mount
// /sys anew and hide the cgroups.
func (c Cluster) Containerd(n Node) Daemon {
	return Daemon{
		Name: n.Name() + "-containerd", Group: n.Name(), Netns: n.NetnsPath(),
		Argv: []string{c.Bin["containerd"], "--config=" + c.Dir(n, "containerd.toml")},
		// containerd looks its shim up on PATH.
		Env: []string{"PATH=" + filepath.Dir(c.Bin["containerd"]) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
}

// Kubelet is the node's agent.
func (c Cluster) Kubelet(n Node) Daemon {
	return Daemon{Name: n.Name() + "-kubelet", Group: n.Name(), Netns: n.NetnsPath(), Argv: []string{
		c.Bin["kubelet"],
		"--config=" + c.Dir(n, "kubelet.yaml"),
		"--kubeconfig=" + c.Kubeconfig("kubelet-"+n.Name()),
		"--hostname-override=" + n.Name(),
		"--node-ip=" + n.Address(),
		"--root-dir=" + c.Dir(n, "kubelet"),
		"--cert-dir=" + c.Dir(n, "certs"),
		"--v=1",
	}}
}

// KubeProxy programs the node's Services. The conntrack settings belong to the
// whole machine, so it is told to leave them alone.
func (c Cluster) KubeProxy(n Node) Daemon {
	return Daemon{Name: n.Name() + "-kube-proxy", Group: n.Name(), Netns: n.NetnsPath(), Argv: []string{
		c.Bin["kube-proxy"],
		"--kubeconfig=" + c.Kubeconfig("kube-proxy"),
		"--cluster-cidr=" + PodSubnet,
		"--proxy-mode=nftables",
		"--hostname-override=" + n.Name(),
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0s",
		"--conntrack-tcp-timeout-close-wait=0s",
		"--v=1",
	}}
}

// ControlPlane returns the daemons that serve the API, in the order of start.
func (c Cluster) ControlPlane() []Daemon {
	return []Daemon{c.Etcd(), c.APIServer(), c.ControllerManager(), c.Scheduler()}
}

// NodeDaemons returns the daemons of a node, in the order of start.
func (c Cluster) NodeDaemons(n Node) []Daemon {
	return []Daemon{c.Containerd(n), c.Kubelet(n), c.KubeProxy(n)}
}
