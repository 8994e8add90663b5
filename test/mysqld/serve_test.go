// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/test/mysqld"
)

// TestTheAgentsProcessComesAndGoes runs the real command with mutual TLS.
func TestTheAgentsProcessComesAndGoes(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "a")
	i.StartSupervisor()
	kill := i.ServeAgent()
	c := mysqld.NewCluster(t, &lab)
	i.Await("the volume is held", func(s *api.Status) bool { return s.Volume == api.VolumeEmpty })
	wantProbe(t, i, "/readyz", http.StatusServiceUnavailable, "")
	wantProbe(t, i, "/v1.0/getrole", http.StatusOK, "learner")
	c.Bootstrap(i)
	wantProbe(t, i, "/readyz", http.StatusOK, "")
	wantProbe(t, i, "/healthz", http.StatusOK, "")
	wantProbe(t, i, "/v1.0/getrole", http.StatusOK, "primary")
	start := mysqldStart(t, i)
	c.Next(0, i)
	c.Do(i, api.CommandPromise, &api.PromiseRequest{Record: c.Record})

	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "told to stop, alone": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			kill(signal)
			if elapsed := time.Since(begun); elapsed > 10*time.Second {
				t.Errorf("it took %v to go", elapsed)
			}
			kill = i.ServeAgent()
			status := i.Await("mysqld answers again", func(s *api.Status) bool { return s.Server != nil })
			if status.MysqldSince.String() != start || status.PromisedEpoch != c.Record.Epoch || status.Server.OfflineMode {
				t.Errorf("status %s", mysqld.Describe(status))
			}
			wantProbe(t, i, "/v1.0/getrole", http.StatusOK, "primary")
			stale := *c.Record.DeepCopy()
			stale.Epoch--
			req := &api.LeadRequest{Record: stale, Envelope: api.Envelope{
				Epoch: stale.Epoch, Claim: stale.Claim, Incarnation: status.Incarnation, StateCounter: status.StateCounter, DeadlineMillis: 1000,
			}}
			if _, err := i.Client.Command(context.Background(), api.CommandLead, req); mysqld.Reason(err) != api.ErrorStaleEpoch {
				t.Errorf("a stale command after the restart: %v, want StaleEpoch", err)
			}
		})
	}
	t.Run("strangers are refused", func(t *testing.T) {
		for name, client := range i.Strangers() {
			if _, err := client.Command(context.Background(), api.CommandStart, &api.StartRequest{}); err == nil || mysqld.Reason(err) != "" {
				t.Errorf("%s: got through: %v", name, err)
			}
		}
	})
	t.Run("secrets are readable by their owner alone", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(i.Conf.DataRoot, "moco", "*"))
		if err != nil || len(files) < 6 {
			t.Fatalf("%v, %v", files, err)
		}
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", file, info.Mode(), err)
			}
		}
	})
	t.Run("the whole Pod told to stop ends cleanly, and the agent last", func(t *testing.T) {
		i.Signal(syscall.SIGTERM)
		kill(syscall.SIGTERM)
		i.AwaitSupervisor(mysqld.Patience)
		i.WantCleanEnd()
	})
}

func wantProbe(t *testing.T, i *mysqld.Instance, path string, wantStatus int, wantBody string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		status, body := probe(ctx, i, path)
		if status == wantStatus && (wantBody == "" || body == wantBody) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("GET %s: %d %q, want %d %q", path, status, body, wantStatus, wantBody)
		}
	}
}

func probe(ctx context.Context, i *mysqld.Instance, path string) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.ProbeURL+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// TestATerminationEndsCleanlyWhereThatIsSafe stops a replica and then the primary that led it, both idle.
func TestATerminationEndsCleanlyWhereThatIsSafe(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	client := p.root(p.primary)
	execAll(t, client, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY)")
	for _, i := range []*mysqld.Instance{p.replica, p.primary} {
		begun := time.Now()
		i.Signal(syscall.SIGTERM)
		i.AwaitSupervisor(mysqld.Patience)
		i.WantCleanEnd()
		if elapsed := time.Since(begun); elapsed > 20*time.Second {
			t.Errorf("%s took %v to stop", i.Name, elapsed)
		}
	}
}
