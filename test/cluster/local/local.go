// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/moco-mysql/moco/test/cluster/config"
	"github.com/moco-mysql/moco/test/cluster/daemon"
	"github.com/moco-mysql/moco/test/cluster/image"
	"github.com/moco-mysql/moco/test/cluster/pki"
)

// Limits of what is waited for. A slow machine needs a tenth of them.
const (
	apiLimit   = 2 * time.Minute
	nodeLimit  = 3 * time.Minute
	killLimit  = 30 * time.Second
	loadLimit  = 5 * time.Minute
	fileAccess = 0o755
)

// Cluster is the local cluster of this machine.
type Cluster struct {
	config.Cluster
	// Daemons manages its programs.
	Daemons daemon.Manager
	// Self is this program, which also serves volumes.
	Self string
	// Say reports progress.
	Say func(format string, args ...any)
}

// images that the cluster itself runs.
func systemImages() config.Images {
	return config.Images{Pause: image.Pause, CoreDNS: image.CoreDNS}
}

// KubeconfigFile is the administrator's kubeconfig, for users.
func (c *Cluster) KubeconfigFile() string { return filepath.Join(c.Output, "kubeconfig") }

func (c *Cluster) kubectl(args ...string) []string {
	return append([]string{c.Bin["kubectl"], "--kubeconfig=" + c.KubeconfigFile(), "--request-timeout=10s"}, args...)
}

// makeDirs makes the directories. A new cluster begins with new logs; those of
// the last one are kept until then.
func (c *Cluster) makeDirs() error {
	if _, err := os.Stat(c.State); errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(c.LogDir()); err != nil {
			return fmt.Errorf("making directories: %w", err)
		}
	}
	dirs := []string{c.State, c.RunDir(), c.LogDir(), c.Path("s3"), c.Path("volumes")}
	for _, n := range config.Nodes() {
		for _, d := range []string{"cni", "podlogs", "volumes", "images"} {
			dirs = append(dirs, c.Dir(n, d))
		}
	}
	for _, d := range dirs {
		if err := os.MkdirAll(d, fileAccess); err != nil {
			return fmt.Errorf("making directories: %w", err)
		}
	}
	return nil
}

// identities lists the certificates; the file name of each is its user here.
func identities() []pki.Identity {
	ids := []pki.Identity{
		{File: "admin", CommonName: "admin", Organization: "system:masters"},
		{File: "kubelet-client", CommonName: "kube-apiserver", Organization: "system:masters"},
		{File: config.Controller, CommonName: "system:kube-controller-manager"},
		{File: config.Scheduler, CommonName: "system:kube-scheduler"},
		{File: "kube-proxy", CommonName: "system:kube-proxy"},
		{File: "apiserver", CommonName: "kube-apiserver", Names: []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"127.0.0.1", config.ServiceAddress, config.HostAddress}},
	}
	for _, n := range config.Nodes() {
		ids = append(ids, pki.Identity{File: "kubelet-" + n.Name(), CommonName: "system:node:" + n.Name(),
			Organization: "system:nodes", Names: []string{n.Name(), n.Address()}})
	}
	return ids
}

// makeKeys makes keys, certificates and kubeconfigs once in a cluster's life.
func (c *Cluster) makeKeys() error {
	dir := c.Path("pki")
	done := filepath.Join(dir, "complete")
	if _, err := os.Stat(done); err != nil {
		if err := pki.Make(dir, time.Now(), identities()); err != nil {
			return err
		}
		for _, id := range identities() {
			if err := pki.WriteKubeconfig(c.Kubeconfig(id.File), config.Server(), dir, id.File); err != nil {
				return err
			}
		}
		if err := os.WriteFile(done, nil, 0o600); err != nil {
			return fmt.Errorf("making keys: %w", err)
		}
	}
	return pki.WriteKubeconfig(c.KubeconfigFile(), config.Server(), dir, "admin")
}

// writeNode writes the configuration files of a node's daemons.
func (c *Cluster) writeNode(n config.Node) error {
	containerd, err := c.ContainerdConfig(n, systemImages())
	if err != nil {
		return err
	}
	kubelet, err := c.KubeletConfig(n)
	if err != nil {
		return err
	}
	cni, err := c.CNIConfig(n)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"containerd.toml": containerd, "kubelet.yaml": kubelet, "cni/10-bridge.conflist": cni,
	} {
		if err := os.WriteFile(c.Dir(n, name), content, 0o644); err != nil {
			return fmt.Errorf("configuring %s: %w", n.Name(), err)
		}
	}
	return os.WriteFile(c.Path("resolv.conf"), config.ResolvConf(), 0o644)
}

// until waits for done and says what it waited for in vain.
func until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	if err := daemon.Wait(ctx, limit, done); err != nil {
		return fmt.Errorf("waiting %s for %s: %w", limit, what, err)
	}
	return nil
}
