// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	shell "github.com/moco-mysql/moco/test/cluster/command"
	"github.com/moco-mysql/moco/test/cluster/config"
	"github.com/moco-mysql/moco/test/cluster/daemon"
	"github.com/moco-mysql/moco/test/cluster/image"
	"github.com/moco-mysql/moco/test/cluster/local"
	"github.com/moco-mysql/moco/test/cluster/toolchain"
)

// program is what the flags say.
type program struct {
	repo, output, state string
	withoutProduct      bool
	productOnly         bool
	began               time.Time
}

func newProgram() *program { return &program{began: time.Now()} }

func (p *program) complete() error {
	repo, err := filepath.Abs(p.repo)
	if err != nil {
		return fmt.Errorf("finding the checkout: %w", err)
	}
	p.repo = repo
	if p.output == "" {
		p.output = filepath.Join(repo, "_output/local")
	}
	return nil
}

func (p *program) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%4.0f s] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}

// cache is where built programs and images are kept from one checkout to the next.
func (p *program) cache() string {
	base := os.Getenv("XDG_CACHE_HOME")
	if base == "" {
		base = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	return filepath.Join(base, "moco")
}

// bare is the cluster as far as it can be known without its programs: enough to
// stop it and to look at it.
func (p *program) bare() *local.Cluster {
	mounts, _ := os.ReadFile("/proc/mounts")
	self, _ := os.Executable()
	c := &local.Cluster{Cluster: config.Cluster{State: p.state, Output: p.output}, Self: self, Say: p.say}
	c.Daemons = daemon.Manager{RunDir: c.RunDir(), LogDir: c.LogDir(), Groups: daemon.FindGroups(string(mounts))}
	return c
}

// cluster is the cluster with its programs, which are built when they are missing.
func (p *program) cluster(ctx context.Context) (*local.Cluster, error) {
	c := p.bare()
	tools := toolchain.Cache{Dir: filepath.Join(p.cache(), "bin"), ToolsDir: filepath.Join(p.repo, "test/cluster/tools"), Say: p.say}
	programs, err := tools.Ensure(ctx)
	if err != nil {
		return nil, err
	}
	c.Bin = programs
	return c, nil
}

// systemImages builds the images of the cluster itself and of MySQL.
func (p *program) systemImages(ctx context.Context, c *local.Cluster) ([]image.Archive, error) {
	p.say("building images")
	rootfs, err := shell.Output(ctx, filepath.Join(p.repo, "hack/mysql-rootfs.sh"))
	if err != nil {
		return nil, err
	}
	s := p.sources()
	s.CoreDNS, s.MySQL = c.Bin["coredns"], lastLine(rootfs)
	specs, err := s.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	return p.store(specs)
}

// productImages builds the images of this project's own programs.
func (p *program) productImages(ctx context.Context) ([]image.Archive, error) {
	specs, err := p.sources().Product(ctx)
	if err != nil {
		return nil, err
	}
	return p.store(specs)
}

func (p *program) sources() image.Sources {
	return image.Sources{Repo: p.repo, Build: filepath.Join(p.output, "build")}
}

func (p *program) store(specs []image.Spec) ([]image.Archive, error) {
	store := image.Store{Dir: filepath.Join(p.cache(), "images"), Say: p.say}
	var archives []image.Archive
	for _, spec := range specs {
		a, err := store.Get(spec)
		if err != nil {
			return nil, err
		}
		archives = append(archives, a)
	}
	return archives, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
