// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/moco-mysql/moco/test/cluster/config"
	"github.com/moco-mysql/moco/test/cluster/image"
	"github.com/moco-mysql/moco/test/cluster/network"
	"github.com/moco-mysql/moco/test/cluster/preflight"
	"github.com/moco-mysql/moco/test/cluster/volume"
)

const usage = `usage: hack/local-cluster.sh COMMAND [flags]

  up                  start the cluster; what runs already is left alone
  down                stop it and remove all of it, its data too
  status              tell what runs
  load-images         build this project's images and load them into the nodes
  node-cut NODE       take the node's network cable out
  node-heal NODE      put it back
  api-stop            stop the API server
  api-start           start it again
  push-images PREFIX  build images and push them below PREFIX (make images)
  toolchain           build the programs of the cluster (up does it, too)

flags:
`

type command struct {
	run func(context.Context, *program, []string) error
	// args is the number of arguments.
	args int
	// locked commands change the cluster; two of them do not run at once.
	locked bool
}

func commands() map[string]command {
	return map[string]command{
		"up":          {run: up, locked: true},
		"down":        {run: down, locked: true},
		"status":      {run: status},
		"load-images": {run: loadImages, locked: true},
		"node-cut":    {run: nodeCut, args: 1, locked: true},
		"node-heal":   {run: nodeHeal, args: 1, locked: true},
		"api-stop":    {run: apiStop, locked: true},
		"api-start":   {run: apiStart, locked: true},
		"toolchain":   {run: toolchainOnly},
		"keeper":      {run: keeper},
		"push-images": {run: pushImages, args: 1},
	}
}

func run(ctx context.Context, args []string) error {
	p, flags := newProgram(), flag.NewFlagSet("localcluster", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&p.repo, "repo", ".", "the checkout")
	flags.StringVar(&p.output, "output", "", "where kubeconfig, s3.env and logs go (default REPO/_output/local)")
	flags.StringVar(&p.state, "state", config.StateDir, "where the cluster keeps its data")
	flags.BoolVar(&p.withoutProduct, "without-product", false, "do without this project's own images (load-images brings them later)")
	flags.BoolVar(&p.productOnly, "product-only", false, "push this project's own images only, not those of MySQL and of the exporter")
	if len(args) == 0 {
		return usageError(flags, errors.New("no command"))
	}
	c, ok := commands()[args[0]]
	if !ok {
		return usageError(flags, fmt.Errorf("unknown command %q", args[0]))
	}
	rest := args[1:]
	if err := flags.Parse(rest); err != nil {
		return usageError(flags, err)
	}
	if flags.NArg() != c.args {
		return usageError(flags, fmt.Errorf("%s takes %d arguments", args[0], c.args))
	}
	if err := p.complete(); err != nil {
		return err
	}
	if c.locked {
		unlock, err := lock()
		if err != nil {
			return err
		}
		defer unlock()
	}
	return c.run(ctx, p, flags.Args())
}

func usageError(flags *flag.FlagSet, err error) error {
	fmt.Fprint(os.Stderr, usage)
	flags.SetOutput(os.Stderr)
	flags.PrintDefaults()
	return err
}

// lock keeps two commands from changing the cluster at once.
func lock() (func(), error) {
	f, err := os.OpenFile("/run/moco-local.lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking (are you root?): %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.New("another command is at work on the local cluster; wait until it ends")
	}
	return func() { _ = f.Close() }, nil
}

func up(ctx context.Context, p *program, _ []string) error {
	if missing := preflight.Check(ctx, filepath.Dir(p.state), p.cache()); len(missing) > 0 {
		return fmt.Errorf("this machine lacks:\n  - %s", strings.Join(missing, "\n  - "))
	}
	c, err := p.cluster(ctx)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	var product []image.Archive
	g.Go(func() error {
		var err error
		if p.withoutProduct {
			return nil
		}
		product, err = p.productImages(gctx)
		return err
	})
	g.Go(func() error {
		images, err := p.systemImages(gctx, c)
		if err != nil {
			return err
		}
		return c.Up(gctx, images)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return c.LoadImages(ctx, product)
}

func down(ctx context.Context, p *program, _ []string) error {
	if err := p.bare().Down(ctx); err != nil {
		return err
	}
	p.say("the cluster is gone")
	return nil
}

func status(ctx context.Context, p *program, _ []string) error {
	return p.bare().Status(ctx, os.Stdout)
}

func loadImages(ctx context.Context, p *program, _ []string) error {
	c, err := p.cluster(ctx)
	if err != nil {
		return err
	}
	images, err := p.productImages(ctx)
	if err != nil {
		return err
	}
	return c.LoadImages(ctx, images)
}

func nodeCut(ctx context.Context, _ *program, args []string) error {
	n, err := config.NodeNamed(args[0])
	if err != nil {
		return err
	}
	return network.Cut(ctx, n)
}

func nodeHeal(ctx context.Context, _ *program, args []string) error {
	n, err := config.NodeNamed(args[0])
	if err != nil {
		return err
	}
	return network.Heal(ctx, n)
}

func apiStop(ctx context.Context, p *program, _ []string) error {
	c := p.bare()
	if !slices.Contains(c.Daemons.Names(), config.APIServer) {
		return errors.New("the API server does not run")
	}
	return c.Daemons.Stop(ctx, config.APIServer)
}

func apiStart(ctx context.Context, p *program, _ []string) error {
	c, err := p.cluster(ctx)
	if err != nil {
		return err
	}
	return c.StartAPI(ctx)
}

func toolchainOnly(ctx context.Context, p *program, _ []string) error {
	_, err := p.cluster(ctx)
	return err
}

// keeper serves the volumes until it is told to end.
func keeper(ctx context.Context, p *program, _ []string) error {
	c := p.bare()
	rest, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig("admin"))
	if err != nil {
		return fmt.Errorf("serving volumes: %w", err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("serving volumes: %w", err)
	}
	go c.TrimLogs(ctx)
	v := volume.Provisioner{
		Client: client, Name: config.Provisioner, Class: config.StorageClass,
		Disks: volume.Disks{ImageDir: c.Path("volumes"), MountPoint: c.VolumeDir},
	}
	return v.Run(ctx)
}
