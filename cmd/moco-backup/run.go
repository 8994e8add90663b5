// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/backup/engine"
	"github.com/moco-mysql/moco/pkg/backup/wire"
)

const (
	// maxInput is the most that a Secret holds.
	maxInput = 1 << 20
	// maxResult is the most that Kubernetes keeps of a termination message, in bytes.
	maxResult       = 4096
	headerTimeout   = 5 * time.Second
	shutdownTimeout = time.Second
)

// runFlags are the flags of run that are not the engine's own configuration.
type runFlags struct {
	job, terminationLog, bind string
	port                      int
}

func runCommand() *cobra.Command {
	var f runFlags
	var cfg engine.Config
	cmd := &cobra.Command{
		Use: "run", Short: "Does what the file of the Job says", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), cfg, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.job, "job", "/job/job.json", "file with what is to be done")
	flags.StringVar(&f.terminationLog, "termination-log", "/dev/termination-log", "file that gets the result")
	flags.StringVar(&f.bind, "bind-address", "", "address on which the progress is served; empty for all")
	flags.IntVar(&f.port, "progress-port", wire.ProgressPort, "port on which the progress is served, at /progress")
	flags.StringVar(&cfg.WorkDir, "work-dir", "/work", "volume to work on; it is emptied")
	flags.StringVar(&cfg.RunDir, "run-dir", os.TempDir(), "directory for sockets")
	flags.StringVar(&cfg.Mysqld, "mysqld", "mysqld", "mysqld, by path or by name")
	flags.StringVar(&cfg.Mysqldump, "mysqldump", "mysqldump", "mysqldump, by path or by name")
	flags.StringVar(&cfg.Mysql, "mysql", "mysql", "mysql, by path or by name")
	flags.IntVar(&cfg.Workers, "workers", 0, "how much is done at the same time; 0 follows from the cores")
	return cmd
}

// run leaves the result in the termination message, whatever happens.
func run(ctx context.Context, cfg engine.Config, f runFlags) error {
	result := attempt(ctx, cfg, f)
	if err := os.WriteFile(f.terminationLog, encode(result), 0o600); err != nil {
		return fmt.Errorf("leaving the result: %w", err)
	}
	if !result.Succeeded {
		return fmt.Errorf("%s: %s", result.Reason, result.Message)
	}
	return nil
}

func attempt(ctx context.Context, cfg engine.Config, f runFlags) wire.JobResult {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	in, err := readInput(f.job)
	if err != nil {
		return wire.JobResult{Reason: wire.ReasonRefused, Message: err.Error()}
	}
	if cfg.MemoryBytes, err = memoryLimit("/sys/fs/cgroup", "/proc/meminfo"); err != nil {
		return wire.JobResult{Reason: wire.ReasonInternal, Message: err.Error()}
	}
	cfg.Progress = &engine.Progress{}
	done, err := serve(ctx, f, cfg.Progress)
	if err != nil {
		return wire.JobResult{Reason: wire.ReasonInternal, Message: err.Error()}
	}
	defer done()
	return engine.Run(ctx, cfg, in)
}

// readInput reads what is to be done. Fields that this version does not know are an error: what they ask for would not
// be done.
func readInput(path string) (*wire.JobInput, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading what is to be done: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading what is to be done: %w", err)
	}
	if len(text) > maxInput {
		return nil, fmt.Errorf("reading what is to be done: the file has more than %d bytes", maxInput)
	}
	in := &wire.JobInput{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(in); err != nil {
		// The decoder's own words may quote a credential.
		return nil, errors.New("reading what is to be done: it is no JSON of this version")
	}
	return in, nil
}

// encode renders a result within the bound of Kubernetes. What is long is shortened, most of all the message: a result that
// cannot be read would be taken for none.
func encode(result wire.JobResult) []byte {
	result.Message = strings.ToValidUTF8(result.Message, "?")
	for limit := maxResult; ; limit /= 2 {
		result.Message = shorten(result.Message, limit)
		result.GTIDExecuted, result.Location = shorten(result.GTIDExecuted, limit), shorten(result.Location, limit)
		text, err := json.Marshal(result)
		if err != nil {
			panic(err) // a struct of plain fields
		}
		if len(text) <= maxResult || limit < 16 {
			return text
		}
	}
}

// shorten cuts a text to so many bytes, in the middle: the begin says what was tried, the end why it failed.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	half := (limit - len(" … ")) / 2
	return strings.ToValidUTF8(text[:half], "") + " … " + strings.ToValidUTF8(text[len(text)-half:], "")
}

// serve answers GET /progress until done is called.
func serve(ctx context.Context, f runFlags, progress *engine.Progress) (done func(), err error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(f.bind, strconv.Itoa(f.port)))
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /progress", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(progress.Read(time.Now())) // who asked has gone
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			klog.FromContext(ctx).Error(err, "Progress is no longer served")
		}
	}()
	return func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = server.Shutdown(patience)
		_ = server.Close()
		<-ended
	}, nil
}
