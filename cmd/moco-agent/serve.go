// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/pki"
)

const (
	// tlsReload is how often the mounted certificates are read again.
	tlsReload = 5 * time.Second
	// supervisorNotice is how long an agent that was told to stop waits to learn whether the whole Pod is.
	supervisorNotice = 3 * time.Second
	shutdownTimeout  = 2 * time.Second
	headerTimeout    = 5 * time.Second
	idleTimeout      = 2 * time.Minute
	// silentTimeout is how long sent data may stay unacknowledged before a connection is given up.
	silentTimeout = 5 * time.Second
)

// serveFlags are the flags of serve that are not the agent's own configuration.
type serveFlags struct {
	probePort, controlPort  int
	cert, key, controllerCA string
	zoneInfo                string
	bind                    string
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cfg := agent.Config{Version: version, SlowLog: os.Stdout}
	cmd := &cobra.Command{
		Use: "serve", Short: "Runs the agent beside mysqld", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), cfg, f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Pod, "pod-name", environment("POD_NAME", ""), "name of this Pod (env POD_NAME)")
	flags.StringVar(&cfg.PodUID, "pod-uid", environment("POD_UID", ""), "UID of this Pod (env POD_UID)")
	flags.StringVar(&cfg.DataRoot, "data-root", "/data/mysql", "mount point of the data volume")
	flags.StringVar(&cfg.RunDir, "run-dir", "/run/moco", "directory of sockets shared with mysqld")
	flags.Int32Var(&cfg.Port, "mysql-port", agent.DefaultPort, "port of mysqld for clients")
	flags.Int32Var(&cfg.AdminPort, "mysql-admin-port", agent.DefaultAdminPort, "port of mysqld's administrative interface")
	flags.DurationVar(&cfg.StopBudget, "stop-budget", agent.DefaultStopBudget, "how long the Pod may take to stop; a primary waits for its successor within it")
	flags.StringVar(&f.bind, "bind-address", "", "address to listen on; empty for all")
	flags.IntVar(&f.probePort, "probe-port", api.ProbePort, "port of the role and the probes")
	flags.IntVar(&f.controlPort, "control-port", api.ControlPort, "port of the control API")
	flags.StringVar(&f.cert, "tls-cert", "/etc/moco/tls/tls.crt", "certificate of the control API, PEM")
	flags.StringVar(&f.key, "tls-key", "/etc/moco/tls/tls.key", "its key, PEM")
	flags.StringVar(&f.controllerCA, "controller-ca", "/etc/moco/tls/controller-ca.crt", "certificates that may sign a coordinator's, PEM")
	flags.StringVar(&f.zoneInfo, "zoneinfo", "/zoneinfo.zip", "time zones, in the form of Go's zoneinfo.zip; empty for none")
	return cmd
}

func serve(ctx context.Context, cfg agent.Config, f serveFlags) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	cfg.BootID = boot
	cfg.TimeZones = timeZones(f.zoneInfo)
	a, err := agent.New(cfg)
	if err != nil {
		return err
	}
	material := &materialFiles{cert: f.cert, key: f.key, authorities: f.controllerCA}
	if err := material.load(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	control, err := listen(ctx, f.bind, f.controlPort)
	if err != nil {
		return err
	}
	probe, err := listen(ctx, f.bind, f.probePort)
	if err != nil {
		return errors.Join(err, control.Close())
	}
	control = tls.NewListener(control, pki.ServerConfig(&material.holder, time.Now))
	var wg sync.WaitGroup
	wg.Go(func() { untilTold(ctx, a, cancel) })
	wg.Go(func() { material.follow(ctx) })
	failed := make(chan error, 3)
	wg.Go(func() { failed <- serveHTTP(ctx, control, a.ControlHandler()) })
	wg.Go(func() { failed <- serveHTTP(ctx, probe, a.ProbeHandler()) })
	wg.Go(func() { failed <- a.Run(ctx) })
	err = <-failed
	cancel()
	wg.Wait()
	return err
}

func listen(ctx context.Context, host string, port int) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error { return forgetSilent(conn) }}
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return listener, nil
}

// forgetSilent ends the connections of a listener whose other side acknowledges nothing any more: a coordinator that was
// cut off must not count as a reader of the status for the quarter of an hour that the kernel would try.
func forgetSilent(conn syscall.RawConn) error {
	var failed error
	err := conn.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silentTimeout.Milliseconds()))
	})
	return errors.Join(err, failed)
}

// serveHTTP serves until ctx ends. Streams end with their connections.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		BaseContext: func(net.Listener) context.Context { return ctx },
		// Failed handshakes are the other side's to tell; here they would fill the log.
		ErrorLog: log.New(klogWriter{klog.FromContext(ctx)}, "", 0),
	}
	stop := context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = server.Shutdown(patience)
		_ = server.Close()
	})
	defer stop()
	if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// klogWriter brings the HTTP server's own words into the log at a high level.
type klogWriter struct{ logger klog.Logger }

func (w klogWriter) Write(p []byte) (int, error) {
	w.logger.V(4).Info("HTTP server", "message", string(bytes.TrimSpace(p)))
	return len(p), nil
}

// untilTold ends the agent when it may go. A Pod that stops tells all containers at once; then the agent is needed until
// the supervisor is gone. A container that is replaced alone is told alone: it goes at once, mysqld stays.
func untilTold(ctx context.Context, a *agent.Agent, cancel context.CancelFunc) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP)
	defer signal.Stop(signals)
	select {
	case <-ctx.Done():
		return
	case <-signals:
	}
	defer cancel()
	deadline := time.NewTimer(supervisorNotice)
	defer deadline.Stop()
	expired := false
	for {
		_, changed := a.Status()
		if expired && !a.Terminating() || a.Terminating() && !a.Connected() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-deadline.C:
			expired = true
		}
	}
}

// materialFiles keeps the control API's TLS material as its files are.
type materialFiles struct {
	cert, key, authorities string
	holder                 pki.Holder
	last                   []byte
}

func (m *materialFiles) load() error {
	var parts [3][]byte
	for i, path := range []string{m.cert, m.key, m.authorities} {
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading the TLS material: %w", err)
		}
		parts[i] = text
	}
	all := bytes.Join(parts[:], nil)
	if bytes.Equal(all, m.last) {
		return nil
	}
	material, err := pki.NewMaterial(parts[0], parts[1], parts[2])
	if err != nil {
		return fmt.Errorf("reading the TLS material: %w", err)
	}
	m.holder.Store(material)
	m.last = all
	return nil
}

// follow reads the files again from time to time. Material that does not fit together is being replaced: the old stays.
func (m *materialFiles) follow(ctx context.Context) {
	tick := time.NewTicker(tlsReload)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := m.load(); err != nil {
				klog.FromContext(ctx).Error(err, "Reading the TLS material again failed")
			}
		}
	}
}
