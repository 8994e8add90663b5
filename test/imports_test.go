// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package test holds what is checked about the source as a whole.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/moco-mysql/moco"

// listed is what go list tells of a package, as far as it is used here.
type listed struct {
	ImportPath   string
	Imports      []string
	Deps         []string
	TestImports  []string
	XTestImports []string
}

// pure are the packages that decide and compute, and do nothing else. They may be given a time, a seed or a limit, but
// never reach out for one.
var pure = []string{
	"pkg/topology", "pkg/mysql/gtid", "pkg/mysql/mycnf", "pkg/mysql/tzinfo",
	"pkg/backup/wire", "pkg/backup/document", "pkg/backup/manifest", "pkg/backup/archive", "pkg/backup/plan",
}

// reachingOut are packages, and all below them, that a pure package does not import itself.
var reachingOut = []string{
	"database/sql", "net", "os", "io/ioutil", "syscall", "math/rand", "crypto/rand", "log", "log/slog", "golang.org/x/sys",
	"k8s.io/client-go", "k8s.io/klog", "k8s.io/api", "k8s.io/utils/clock", "github.com/go-sql-driver/mysql",
	module + "/pkg/generated", module + "/pkg/controller",
}

// layers lists, for a folder, the folders of this module from which nothing below it may be imported. Imports point one
// way: apis, generated, controller; gtid, topology, controller and agent; mysql, agent; and commands wire it all.
var layers = map[string][]string{
	"pkg/apis":       {"pkg/generated", "pkg/controller", "pkg/topology", "pkg/agent", "pkg/mysql", "pkg/pki", "cmd", "test"},
	"pkg/generated":  {"pkg/controller", "pkg/topology", "pkg/agent", "pkg/mysql", "pkg/pki", "cmd", "test"},
	"pkg/mysql":      {"pkg/generated", "pkg/controller", "pkg/topology", "pkg/agent", "cmd", "test"},
	"pkg/pki":        {"pkg/apis", "pkg/generated", "pkg/controller", "pkg/topology", "pkg/agent", "pkg/mysql", "cmd", "test"},
	"pkg/topology":   {"pkg/generated", "pkg/controller", "cmd", "test"},
	"pkg/agent":      {"pkg/generated", "pkg/controller", "pkg/topology", "cmd", "test"},
	"pkg/controller": {"cmd", "test"},
	"cmd":            {"test"},
}

func list(t *testing.T) []listed {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,TestImports,XTestImports", module+"/...")
	command.Stderr = t.Output()
	output, err := command.Output()
	if err != nil {
		t.Fatalf("listing the packages: %v", err)
	}
	var packages []listed
	decoder := json.NewDecoder(strings.NewReader(string(output)))
	for {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatalf("reading the list of packages: %v", err)
		}
		packages = append(packages, p)
	}
}

// below reports whether path is folder or lies below it.
func below(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// forbidden returns those of imports that are in one of the folders or below it.
func forbidden(imports, folders []string) []string {
	var found []string
	for _, i := range imports {
		if slices.ContainsFunc(folders, func(f string) bool { return below(i, f) }) {
			found = append(found, i)
		}
	}
	return found
}

func inModule(folders []string) []string {
	paths := make([]string, 0, len(folders))
	for _, f := range folders {
		paths = append(paths, module+"/"+f)
	}
	return paths
}

func TestPurePackagesDoNotReachOut(t *testing.T) {
	packages := list(t)
	for _, folder := range pure {
		t.Run(folder, func(t *testing.T) {
			at := slices.IndexFunc(packages, func(p listed) bool { return p.ImportPath == module+"/"+folder })
			if at < 0 {
				t.Fatalf("there is no package %s", folder)
			}
			if found := forbidden(packages[at].Imports, reachingOut); len(found) > 0 {
				t.Errorf("%s is pure, but imports %s", folder, strings.Join(found, ", "))
			}
			if found := forbidden(packages[at].Deps, []string{"k8s.io/client-go", "k8s.io/klog/v2/ktesting", "database/sql", "github.com/go-sql-driver/mysql"}); len(found) > 0 {
				t.Errorf("%s is pure, but depends on %s", folder, strings.Join(found, ", "))
			}
		})
	}
}

func TestImportsPointOneWay(t *testing.T) {
	packages := list(t)
	for folder, above := range layers {
		t.Run(folder, func(t *testing.T) {
			seen := 0
			for _, p := range packages {
				if !below(p.ImportPath, module+"/"+folder) {
					continue
				}
				seen++
				if found := forbidden(p.Imports, inModule(above)); len(found) > 0 {
					t.Errorf("%s imports %s, which lies above it", p.ImportPath, strings.Join(found, ", "))
				}
			}
			if seen == 0 {
				t.Fatalf("there is no package below %s", folder)
			}
		})
	}
}

func TestForbiddenImportsAreFound(t *testing.T) {
	cases := map[string]struct {
		imports []string
		folders []string
		want    int
	}{
		"the folder itself is found":          {[]string{"os"}, []string{"os"}, 1},
		"a package below the folder is found": {[]string{"net/http"}, []string{"net"}, 1},
		"a longer name is another folder":     {[]string{"netip"}, []string{"net"}, 0},
		"what is not named is let through":    {[]string{"fmt", "strings"}, []string{"net", "os"}, 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := forbidden(c.imports, c.folders); len(got) != c.want {
				t.Errorf("forbidden(%v, %v) = %v, want %d of them", c.imports, c.folders, got, c.want)
			}
		})
	}
}
