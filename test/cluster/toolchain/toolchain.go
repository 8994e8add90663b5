// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package toolchain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moco-mysql/moco/test/cluster/command"
)

// Tool is one module below tools/.
type Tool struct {
	// Name is the directory below tools/ and the prefix of the cache's.
	Name string
	// Module is the module whose version counts.
	Module string
	// Programs are the packages to build, by the name of the program.
	Programs map[string]string
	// VersionVar is the variable that tells the program its version, when it
	// does not read that from its module.
	VersionVar string
	// Version is what go.mod pins.
	Version string
}

// Tools returns the modules in the order in which they are built.
func Tools() []Tool {
	kube := map[string]string{}
	for _, p := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"} {
		kube[p] = "k8s.io/kubernetes/cmd/" + p
	}
	ctr := map[string]string{}
	for _, p := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		ctr[p] = "github.com/containerd/containerd/v2/cmd/" + p
	}
	return []Tool{
		{Name: "etcd", Module: "go.etcd.io/etcd/server/v3", Programs: map[string]string{"etcd": "go.etcd.io/etcd/server/v3"}},
		{Name: "kubernetes", Module: "k8s.io/kubernetes", Programs: kube, VersionVar: "k8s.io/component-base/version.gitVersion"},
		{Name: "containerd", Module: "github.com/containerd/containerd/v2", Programs: ctr, VersionVar: "github.com/containerd/containerd/v2/version.Version"},
		{Name: "coredns", Module: "github.com/coredns/coredns", Programs: map[string]string{"coredns": "github.com/coredns/coredns"}},
		{Name: "versitygw", Module: "github.com/versity/versitygw", Programs: map[string]string{"versitygw": "github.com/versity/versitygw/cmd/versitygw"}},
	}
}

// Cache is where the programs are kept.
type Cache struct {
	// Dir holds a directory per tool and version.
	Dir string
	// ToolsDir is the checkout's test/cluster/tools.
	ToolsDir string
	// Say reports progress; a build takes minutes.
	Say func(format string, args ...any)
}

// Ensure builds what is missing and returns the path of every program.
func (c Cache) Ensure(ctx context.Context) (map[string]string, error) {
	programs := map[string]string{}
	for _, t := range Tools() {
		var err error
		if t.Version, err = version(filepath.Join(c.ToolsDir, t.Name, "go.mod"), t.Module); err != nil {
			return nil, err
		}
		dir := filepath.Join(c.Dir, t.Name+"-"+t.Version)
		complete := true
		for name := range t.Programs {
			programs[name] = filepath.Join(dir, name)
			if _, err := os.Stat(programs[name]); err != nil {
				complete = false
			}
		}
		if complete {
			continue
		}
		if err := c.build(ctx, t, dir); err != nil {
			return nil, fmt.Errorf("building %s: %w", t.Name, err)
		}
	}
	return programs, nil
}

// build builds all programs of the tool at once, which share most of their
// packages. It works in a directory of its own first: a build that was
// interrupted leaves nothing that looks like a program.
func (c Cache) build(ctx context.Context, t Tool, dir string) error {
	began, partial := time.Now(), dir+".partial"
	c.Say("building %s %s (once; kept in %s)", t.Name, t.Version, dir)
	for _, d := range []string{partial, dir} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	ldflags := "-ldflags=-s -w"
	if t.VersionVar != "" {
		ldflags += " -X " + t.VersionVar + "=" + t.Version
	}
	argv := []string{"env", "CGO_ENABLED=0", "go", "-C", filepath.Join(c.ToolsDir, t.Name), "build", "-trimpath", ldflags}
	if _, err := command.Output(ctx, append(argv, t.packages(partial)...)...); err != nil {
		return err
	}
	for name := range t.Programs {
		if err := os.Rename(filepath.Join(partial, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	c.Say("built %s in %.0f s", t.Name, time.Since(began).Seconds())
	return os.RemoveAll(partial)
}

// packages returns where to build to and what. A single program is named, for
// its package may have another name (etcd's is server).
func (t Tool) packages(dir string) []string {
	to, packages := dir+"/", []string{}
	for name, pkg := range t.Programs {
		packages = append(packages, pkg)
		if len(t.Programs) == 1 {
			to = filepath.Join(dir, name)
		}
	}
	slices.Sort(packages)
	return append([]string{"-o", to}, packages...)
}

// version reads the required version of module from a go.mod file.
func version(gomod, module string) (string, error) {
	content, err := os.ReadFile(gomod)
	if err != nil {
		return "", fmt.Errorf("finding the version of %s: %w", module, err)
	}
	for line := range strings.Lines(string(content)) {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) >= 2 && f[0] == module && strings.HasPrefix(f[1], "v") {
			return f[1], nil
		}
	}
	return "", fmt.Errorf("finding the version of %s: %s does not require it", module, gomod)
}
