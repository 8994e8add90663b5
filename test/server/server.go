// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

const (
	// setupPatience bounds making the root file system, which downloads it on
	// the first use.
	setupPatience = 10 * time.Minute
	// startPatience bounds the start of a server, and its initialisation.
	startPatience = 90 * time.Second
)

// rootFS is the path of the root file system. It is made at most once in a
// process.
var rootFS = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), setupPatience)
	defer cancel()
	module, err := output(exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/moco-mysql/moco"))
	if err != nil {
		return "", err
	}
	printed, err := output(exec.CommandContext(ctx, filepath.Join(module, "hack", "mysql-rootfs.sh")))
	if err != nil {
		return "", err
	}
	return printed[strings.LastIndexByte(printed, '\n')+1:], nil
})

// Server is a running mysqld with an account root that has no password.
type Server struct {
	// Dir is the server's own directory; Socket the path of its socket.
	Dir, Socket string
	// DB is connected to the server as root. It is closed when the test ends.
	DB *sql.DB
}

// Command returns the command that runs mysqld with the given arguments. Where
// the server finds its own files is said behind them, so an option file must
// be named by the first argument.
func Command(ctx context.Context, t testing.TB, arguments ...string) *exec.Cmd {
	t.Helper()
	root, err := rootFS()
	if err != nil {
		t.Fatalf("making the root file system of MySQL: %v", err)
	}
	loaders, err := filepath.Glob(filepath.Join(root, "lib64", "ld-linux-*.so.*"))
	if err != nil || len(loaders) != 1 {
		t.Fatalf("looking for the dynamic loader in %s: %v, %v", root, loaders, err)
	}
	libraries, err := filepath.Glob(filepath.Join(root, "usr", "lib", "*-linux-gnu"))
	if err != nil || len(libraries) == 0 {
		t.Fatalf("looking for the libraries in %s: %v, %v", root, libraries, err)
	}
	libraries = append(libraries, filepath.Join(root, "usr", "lib", "mysql", "private"))
	usr := filepath.Join(root, "usr")
	args := append([]string{"--library-path", strings.Join(libraries, ":"), filepath.Join(usr, "sbin", "mysqld")}, arguments...)
	args = append(args, "--user=root", "--basedir="+usr,
		"--plugin-dir="+filepath.Join(usr, "lib", "mysql", "plugin"),
		"--lc-messages-dir="+filepath.Join(usr, "share", "mysql"),
		"--character-sets-dir="+filepath.Join(usr, "share", "mysql", "charsets"))
	return exec.CommandContext(ctx, loaders[0], args...) //nolint:gosec // the test's own mysqld
}

// Start initialises a server in a directory of its own and starts it with the
// given options, each written as "--name=value", which win over the text of
// its option file. That counts at initialisation, too.
func Start(t testing.TB, optionFile string, options ...string) *Server {
	t.Helper()
	// Not t.TempDir: the path of a socket has 107 bytes at most.
	dir, err := os.MkdirTemp("", "mysqld")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{Dir: dir, Socket: filepath.Join(dir, "sock")}
	s.write(t, "init.cnf", loosePlugins.ReplaceAllString(optionFile, "loose_$0"))
	s.write(t, "my.cnf", optionFile)
	s.initialise(t)
	s.start(t, options)
	s.connect(t)
	return s
}

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

func (s *Server) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// arguments say where things are, whatever the option file says.
func (s *Server) arguments(optionFile string, options ...string) []string {
	args := append([]string{"--defaults-file=" + s.path(optionFile)}, options...)
	return append(args, "--datadir="+s.path("data"), "--tmpdir="+s.Dir, "--replica-load-tmpdir="+s.Dir, "--socket="+s.Socket,
		"--pid-file="+s.path("pid"), "--slow-query-log-file="+s.path("slow.log"), "--skip-networking",
		"--secure-file-priv=NULL")
}

// loosePlugins finds the options of plugins, which mysqld does not know while it
// initialises, because it loads no plugin then.
var loosePlugins = regexp.MustCompile(`(?m)^rpl_semi_sync`)

func (s *Server) initialise(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startPatience)
	defer cancel()
	// What is lost if the host dies now is no loss.
	args := s.arguments("init.cnf", "--initialize-insecure", "--super-read-only=OFF", "--innodb-flush-method=nosync",
		"--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF", "--sync-binlog=0")
	if said, err := Command(ctx, t, args...).CombinedOutput(); err != nil {
		t.Fatalf("initialising mysqld: %v\n%s", err, said)
	}
}

func (s *Server) start(t testing.TB, options []string) {
	t.Helper()
	// Not t.Context: that ends before the cleanups begin, which look at the
	// process.
	cmd := Command(context.WithoutCancel(t.Context()), t, s.arguments("my.cnf", options...)...)
	log, err := os.Create(s.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting mysqld: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("log of mysqld:\n%s", s.log())
		}
	})
	s.awaitSocket(t, exited)
}

// awaitSocket waits until the server takes connections.
func (s *Server) awaitSocket(t testing.TB, exited <-chan struct{}) {
	t.Helper()
	deadline := time.After(startPatience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", s.Socket); err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-exited:
			t.Fatalf("mysqld ended:\n%s", s.log())
		case <-deadline:
			t.Fatalf("mysqld takes no connections after %s:\n%s", startPatience, s.log())
		}
	}
}

func (s *Server) connect(t testing.TB) {
	t.Helper()
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr, cfg.User = "unix", s.Socket, "root"
	cfg.MultiStatements = true
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.DB = sql.OpenDB(connector)
	t.Cleanup(func() { _ = s.DB.Close() })
	if err := s.DB.PingContext(t.Context()); err != nil {
		t.Fatalf("connecting to mysqld: %v", err)
	}
}

// log is the end of the server's error log.
func (s *Server) log() string {
	text, err := os.ReadFile(s.path("log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8<<10):])
}

func output(cmd *exec.Cmd) (string, error) {
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s: %w", cmd.Path, err)
	}
	return strings.TrimSpace(string(text)), nil
}
