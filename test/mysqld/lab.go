// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql/tzinfo"
	"github.com/moco-mysql/moco/pkg/pki"
)

// Lab is what the tests of one package share.
type Lab struct {
	// Dir is a scratch directory with a short path, because socket paths are bounded.
	Dir string
	// RootFS is the root file system with mysqld, Program the wrapper that runs it, Agent the built moco-agent.
	RootFS, Program, Agent string
	// ZoneInfo is Go's own zip of time zones.
	ZoneInfo string
	// CA signs everything in the lab.
	CA *pki.CA
}

// buildTimeout bounds a cold build, and making the root file system.
const buildTimeout = 10 * time.Minute

// Run makes a lab, runs the tests of a package in it, and returns the exit code for TestMain.
func Run(m *testing.M, lab *Lab) int {
	if err := lab.make(); err != nil {
		fmt.Fprintln(os.Stderr, "making the lab:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(lab.Dir) }()
	return m.Run()
}

func (l *Lab) make() error {
	ctx, cancel := context.WithTimeout(context.Background(), buildTimeout)
	defer cancel()
	module, err := output(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/moco-mysql/moco")
	if err != nil {
		return err
	}
	printed, err := output(ctx, filepath.Join(module, "hack", "mysql-rootfs.sh"))
	if err != nil {
		return err
	}
	l.RootFS = printed[strings.LastIndex(printed, "\n")+1:]
	if l.Dir, err = os.MkdirTemp("/tmp", "moco"); err != nil {
		return err
	}
	root, err := output(ctx, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	l.ZoneInfo = filepath.Join(root, "lib", "time", "zoneinfo.zip")
	l.Agent = filepath.Join(l.Dir, "moco-agent")
	if _, err := output(ctx, "go", "build", "-o", l.Agent, "github.com/moco-mysql/moco/cmd/moco-agent"); err != nil {
		return err
	}
	l.CA, err = pki.NewCA(time.Now(), pki.CARequest{CommonName: "lab", Validity: 24 * time.Hour})
	if err != nil {
		return err
	}
	for _, name := range clients {
		if err := os.WriteFile(l.Client(name), []byte(l.script("/usr/bin/"+name)), 0o755); err != nil { //nolint:gosec // a program
			return err
		}
	}
	l.Program = filepath.Join(l.Dir, "mysqld")
	return os.WriteFile(l.Program, []byte(l.script("/usr/sbin/mysqld", l.serverOptions()...)), 0o755) //nolint:gosec // a program
}

// clients are the client programs that Client knows.
var clients = []string{"mysql", "mysqlbinlog", "mysqldump"}

// Client is the path of a wrapper that runs a client program of the root file system: mysql, mysqlbinlog or mysqldump.
func (l *Lab) Client(name string) string { return filepath.Join(l.Dir, "client-"+name) }

// timeZones yields the statements that load the time zones.
func (l *Lab) timeZones() iter.Seq2[string, error] {
	content, err := os.ReadFile(l.ZoneInfo)
	if err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return tzinfo.Statements(content)
}

// script runs a program of the root file system in the host's own.
func (l *Lab) script(program string, options ...string) string {
	library := filepath.Join(l.RootFS, "usr/lib/x86_64-linux-gnu")
	return fmt.Sprintf("#!/bin/sh\nexec %s --library-path %s:%s %s \"$@\" %s\n",
		filepath.Join(l.RootFS, "lib64/ld-linux-x86-64.so.2"), library, filepath.Join(l.RootFS, "usr/lib/mysql/private"),
		filepath.Join(l.RootFS, program), strings.Join(options, " "))
}

// serverOptions tell mysqld where its root file system is.
func (l *Lab) serverOptions() []string {
	usr := filepath.Join(l.RootFS, "usr")
	return []string{
		"--user=root", "--basedir=" + usr, "--plugin-dir=" + filepath.Join(usr, "lib/mysql/plugin"),
		"--lc-messages-dir=" + filepath.Join(usr, "share/mysql"), "--character-sets-dir=" + filepath.Join(usr, "share/mysql/charsets"),
	}
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w", name, err)
	}
	return strings.TrimSpace(string(text)), nil
}
