// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/moco-mysql/moco/test/cluster/command"
)

const architecture = runtime.GOARCH

// Names of the images, as the manifests and the tests know them.
const (
	Pause      = "docker.io/local/pause:1"
	CoreDNS    = "docker.io/local/coredns:1"
	Controller = "docker.io/moco-mysql/moco-controller:0.1.0"
	Agent      = "docker.io/moco-mysql/moco-agent:0.1.0"
	MySQL      = "docker.io/library/mysql:9.7.4"
	Exporter   = "docker.io/prom/mysqld-exporter:v0.19.0"
	// NoMySQL has no mysqld, OldMySQL one that is too old.
	NoMySQL  = "docker.io/local/nomysql:1"
	OldMySQL = "docker.io/local/oldmysql:1"
)

// Users that the images run as when the Pod names none.
const (
	productUser = "10000:10000"
	mysqlUser   = "999:999"
	nobody      = "65532:65532"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Sources tells where the content comes from.
type Sources struct {
	// Repo is the checkout.
	Repo string
	// Build is a directory for the programs that are compiled here.
	Build string
	// CoreDNS is the program, MySQL the root file system with MySQL.
	CoreDNS, MySQL string
}

// Cluster returns the images that the cluster and its tests need. The programs
// in them are compiled by it.
func (s Sources) Cluster(ctx context.Context) ([]Spec, error) {
	pause, err := s.compile(ctx, filepath.Join(s.Repo, "test/cluster"), "./images/pause")
	if err != nil {
		return nil, err
	}
	old, err := s.compile(ctx, filepath.Join(s.Repo, "test/cluster"), "./images/oldmysql")
	if err != nil {
		return nil, err
	}
	return append([]Spec{
		program(Pause, nobody, "/pause", File{From: pause, To: "/pause"}),
		s.coredns(),
		program(NoMySQL, mysqlUser, "/pause", File{From: pause, To: "/pause"}),
		program(OldMySQL, mysqlUser, "/usr/sbin/mysqld", File{From: old, To: "/usr/sbin/mysqld"}),
	}, s.Instances()...), nil
}

func (s Sources) coredns() Spec {
	spec := program(CoreDNS, nobody, "/coredns", File{From: s.CoreDNS, To: "/coredns"})
	// The program is in a directory named after its version.
	spec.Key = filepath.Base(filepath.Dir(s.CoreDNS))
	return spec
}

// Instances returns the images of other projects that a MySQL cluster runs.
func (s Sources) Instances() []Spec { return []Spec{s.mysql(), s.exporter()} }

// Product returns the images of this project's own programs, compiled now.
func (s Sources) Product(ctx context.Context) ([]Spec, error) {
	controller, err := s.compile(ctx, s.Repo, "./cmd/moco-controller")
	if err != nil {
		return nil, err
	}
	agent, err := s.compile(ctx, s.Repo, "./cmd/moco-agent")
	if err != nil {
		return nil, err
	}
	backup, err := s.compile(ctx, s.Repo, "./cmd/moco-backup")
	if err != nil {
		return nil, err
	}
	goroot, err := command.Output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	zones := filepath.Join(strings.TrimSpace(goroot), "lib/time/zoneinfo.zip")
	return []Spec{
		program(Controller, productUser, "/moco-controller", File{From: controller, To: "/moco-controller"}),
		program(Agent, productUser, "/moco-agent", File{From: agent, To: "/moco-agent"}, File{From: backup, To: "/moco-backup"},
			File{From: zones, To: "/zoneinfo.zip"}),
	}, nil
}

// compile builds a static program whose bytes depend on nothing but the source.
func (s Sources) compile(ctx context.Context, module, pkg string) (string, error) {
	to := filepath.Join(s.Build, filepath.Base(pkg))
	_, err := command.Output(ctx, "env", "CGO_ENABLED=0", "go", "-C", module, "build",
		"-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", to, pkg)
	if err != nil {
		return "", fmt.Errorf("compiling %s: %w", pkg, err)
	}
	return to, nil
}

func program(name, user, entrypoint string, files ...File) Spec {
	return Spec{
		Name:   name,
		Config: v1.Config{User: user, Entrypoint: []string{entrypoint}, Env: []string{searchPath}},
		Write:  func(w io.Writer) error { return WriteFiles(w, files) },
	}
}

func (s Sources) mysql() Spec {
	return Spec{
		Name: MySQL, Key: "mysql-" + filepath.Base(s.MySQL),
		Config: v1.Config{User: mysqlUser, Cmd: []string{"mysqld"}, Env: []string{searchPath}},
		Write:  func(w io.Writer) error { return WriteTree(w, s.MySQL) },
	}
}

// The exporter needs the C library that it was built with.
func (s Sources) exporter() Spec {
	spec := program(Exporter, nobody, "/bin/mysqld_exporter",
		File{From: filepath.Join(s.MySQL, "usr/bin/prometheus-mysqld-exporter"), To: "/bin/mysqld_exporter"},
		File{From: filepath.Join(s.MySQL, "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"), To: "/lib64/ld-linux-x86-64.so.2"},
		File{From: filepath.Join(s.MySQL, "lib/x86_64-linux-gnu/libc.so.6"), To: "/lib/x86_64-linux-gnu/libc.so.6"})
	spec.Key = "mysqld-exporter-" + filepath.Base(s.MySQL)
	return spec
}
