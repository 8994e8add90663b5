// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health is what /readyz tells.
type health struct{ ready atomic.Bool }

// serve answers /metrics, /healthz, /readyz and, on the loopback interface, /debug until ctx ends.
func serve(ctx context.Context, o *options, h *health, shown *shown) error {
	metrics, probes, debug := http.NewServeMux(), http.NewServeMux(), http.NewServeMux()
	metrics.Handle("GET /metrics", promhttp.HandlerFor(shown.registry, promhttp.HandlerOpts{}))
	probes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK) })
	probes.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.ready.Load() {
			answer(w, http.StatusServiceUnavailable)
			return
		}
		answer(w, http.StatusOK)
	})
	debug.HandleFunc("/debug/pprof/", pprof.Index)
	debug.HandleFunc("/debug/pprof/profile", pprof.Profile)
	debug.HandleFunc("/debug/pprof/trace", pprof.Trace)
	debug.Handle("GET /debug/decisions", shown.decisions)
	servers := map[string]http.Handler{o.metricsAddress: metrics, o.healthAddress: probes}
	if o.debugAddress != "" {
		servers[o.debugAddress] = debug
	}
	failed := make(chan error, len(servers))
	for address, handler := range servers {
		go func() { failed <- serveOne(ctx, address, handler) }()
	}
	var problems []error
	for range servers {
		problems = append(problems, <-failed)
	}
	return errors.Join(problems...)
}

// serveOne answers on one address until ctx ends.
func serveOne(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer done()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", address, err)
	}
	return nil
}

func answer(w http.ResponseWriter, code int) {
	w.WriteHeader(code)
	_, _ = fmt.Fprintln(w, http.StatusText(code))
}
