// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	shell "github.com/moco-mysql/moco/test/cluster/command"
	"github.com/moco-mysql/moco/test/cluster/image"
)

// pushImages pushes the images that an installation needs below the prefix and
// writes the manifests with their names.
func pushImages(ctx context.Context, p *program, args []string) error {
	prefix := args[0]
	specs, err := p.pushed(ctx)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, spec := range specs {
		p.say("pushing %s", image.Under(prefix, spec.Name))
		digest, err := image.Push(ctx, spec, prefix, filepath.Join(p.output, "build", "push"))
		if err != nil {
			return err
		}
		names[spec.Name] = image.Under(prefix, spec.Name)
		fmt.Println(digest)
	}
	manifest, err := installManifest(filepath.Join(p.repo, "manifests"), names)
	if err != nil {
		return err
	}
	to := filepath.Join(p.repo, "_output/install.yaml")
	if err := os.WriteFile(to, []byte(manifest), 0o644); err != nil {
		return fmt.Errorf("writing the install manifest: %w", err)
	}
	p.say("install with: kubectl apply -f %s", to)
	return nil
}

// pushed returns this project's images and, unless they are not wanted, those of
// MySQL and of the exporter.
func (p *program) pushed(ctx context.Context) ([]image.Spec, error) {
	specs, err := p.sources().Product(ctx)
	if err != nil || p.productOnly {
		return specs, err
	}
	rootfs, err := shell.Output(ctx, filepath.Join(p.repo, "hack/mysql-rootfs.sh"))
	if err != nil {
		return nil, err
	}
	s := p.sources()
	s.MySQL = lastLine(rootfs)
	return append(specs, s.Instances()...), nil
}

// installManifest joins the manifests in the order of their names, which is the
// order in which they are to be applied, and puts names in.
func installManifest(dir string, names map[string]string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("writing the install manifest: no manifests in %s", dir)
	}
	var parts []string
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return "", fmt.Errorf("writing the install manifest: %w", err)
		}
		parts = append(parts, strings.TrimSuffix(string(content), "\n")+"\n")
	}
	manifest := image.Rename(strings.Join(parts, "---\n"), names)
	for _, required := range []string{image.Controller, image.Agent} {
		if !strings.Contains(manifest, names[required]) {
			return "", fmt.Errorf("writing the install manifest: the manifests do not name %s", required)
		}
	}
	return manifest, nil
}
