// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/moco-mysql/moco/test/cluster/command"
	"github.com/moco-mysql/moco/test/cluster/config"
	"github.com/moco-mysql/moco/test/cluster/image"
	"github.com/moco-mysql/moco/test/cluster/network"
)

// Up starts what does not run yet, loads the images and returns when the cluster is usable: nodes
// Ready, names resolved, volumes and the S3 server served.
func (c *Cluster) Up(ctx context.Context, images []image.Archive) error {
	began := time.Now()
	if err := c.makeDirs(); err != nil {
		return err
	}
	if err := c.makeKeys(); err != nil {
		return err
	}
	if err := saveForwarding(c.Path(forwardingBefore)); err != nil {
		return err
	}
	if err := network.Up(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.controlPlaneUp(gctx) })
	first, rest := split(images)
	for _, n := range config.Nodes() {
		g.Go(func() error { return c.containerdUp(gctx, n, first) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := c.nodesUp(ctx); err != nil {
		return err
	}
	if err := c.servicesUp(ctx); err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.Go(func() error { return c.LoadImages(gctx, rest) })
	g.Go(func() error { return c.awaitReady(gctx) })
	if err := g.Wait(); err != nil {
		return err
	}
	c.Say("the cluster is up (%.0f s): export KUBECONFIG=%s", time.Since(began).Seconds(), c.KubeconfigFile())
	return nil
}

// split takes out the images that the cluster itself needs before a node can be
// Ready.
func split(images []image.Archive) (first, rest []image.Archive) {
	for _, a := range images {
		if a.Name == image.Pause || a.Name == image.CoreDNS {
			first = append(first, a)
		} else {
			rest = append(rest, a)
		}
	}
	return first, rest
}

func (c *Cluster) controlPlaneUp(ctx context.Context) error {
	for _, d := range []config.Daemon{c.Etcd(), c.APIServer()} {
		if err := c.Daemons.Start(d); err != nil {
			return err
		}
	}
	c.Say("waiting for the API server at %s", config.Server())
	if err := c.awaitAPI(ctx); err != nil {
		return err
	}
	for _, d := range []config.Daemon{c.ControllerManager(), c.Scheduler()} {
		if err := c.Daemons.Start(d); err != nil {
			return err
		}
	}
	addons, err := c.Addons(systemImages())
	if err != nil {
		return err
	}
	_, err = command.With(ctx, addons, c.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-")...)
	return err
}

func (c *Cluster) awaitAPI(ctx context.Context) error {
	return until(ctx, apiLimit, "the API server (see "+c.Daemons.LogFile(config.APIServer)+")", func() bool {
		return command.Run(ctx, c.kubectl("get", "--raw", "/readyz")...) == nil
	})
}

func (c *Cluster) ctr(n config.Node, args ...string) []string {
	return append([]string{c.Bin["ctr"], "--address=" + c.ContainerdSocket(n), "--namespace=k8s.io"}, args...)
}

func (c *Cluster) containerdUp(ctx context.Context, n config.Node, images []image.Archive) error {
	if err := c.writeNode(n); err != nil {
		return err
	}
	if err := c.Daemons.Start(c.Containerd(n)); err != nil {
		return err
	}
	err := until(ctx, nodeLimit, n.Name()+"'s containerd", func() bool {
		return command.Run(ctx, c.ctr(n, "version")...) == nil
	})
	if err != nil {
		return err
	}
	return c.loadNode(ctx, n, images)
}

// LoadImages loads into each node the images whose digest it does not have.
func (c *Cluster) LoadImages(ctx context.Context, images []image.Archive) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range config.Nodes() {
		g.Go(func() error { return c.loadNode(ctx, n, images) })
	}
	return g.Wait()
}

func (c *Cluster) loadNode(ctx context.Context, n config.Node, images []image.Archive) error {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	listed, err := command.Output(ctx, c.ctr(n, "images", "list")...)
	if err != nil {
		return err
	}
	have := map[string]string{}
	for line := range strings.Lines(listed) {
		if f := strings.Fields(line); len(f) > 2 {
			have[f[0]] = f[2]
		}
	}
	for _, a := range images {
		if have[a.Name] == a.Digest {
			continue
		}
		c.Say("loading %s into %s", a.Name, n.Name())
		if err := command.Run(ctx, c.ctr(n, "images", "import", a.Path)...); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) nodesUp(ctx context.Context) error {
	for _, n := range config.Nodes() {
		if _, err := c.Daemons.Groups.Make(n.Cgroup()); err != nil {
			return err
		}
		for _, d := range []config.Daemon{c.Kubelet(n), c.KubeProxy(n)} {
			if err := c.Daemons.Start(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// servicesUp starts the keeper of the volumes and the S3 server. The keeper is
// started anew each time: it is this program, which may have been built anew.
func (c *Cluster) servicesUp(ctx context.Context) error {
	if err := c.Daemons.Stop(ctx, config.Keeper); err != nil {
		return err
	}
	if err := c.Daemons.Start(c.Keeper(c.Self)); err != nil {
		return err
	}
	keys, err := c.s3Keys()
	if err != nil {
		return err
	}
	return c.Daemons.Start(c.S3Server(keys.access, keys.secret))
}

func (c *Cluster) awaitReady(ctx context.Context) error {
	c.Say("waiting for the nodes and CoreDNS")
	for _, n := range config.Nodes() {
		err := until(ctx, nodeLimit, "node "+n.Name()+" to be registered", func() bool {
			return command.Run(ctx, c.kubectl("get", "node", n.Name())...) == nil
		})
		if err != nil {
			return err
		}
	}
	limit := fmt.Sprintf("--timeout=%s", nodeLimit)
	wait := []string{c.Bin["kubectl"], "--kubeconfig=" + c.KubeconfigFile()}
	if err := command.Run(ctx, append(wait, "wait", "--for=condition=Ready", "node", "--all", limit)...); err != nil {
		return err
	}
	if err := command.Run(ctx, append(wait, "-n", "kube-system", "rollout", "status", "deployment/coredns", limit)...); err != nil {
		return err
	}
	for _, name := range []string{config.Keeper, config.S3Server} {
		if _, ok := c.Daemons.Running(name); !ok {
			return fmt.Errorf("%s has ended: see %s", name, c.Daemons.LogFile(name))
		}
	}
	_, err := os.Stat(c.KubeconfigFile())
	return err
}
