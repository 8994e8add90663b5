// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// start starts mysqld, closed. It does not wait for it to answer.
func (in *instance) start(ctx context.Context, req *api.StartRequest) (api.Reply, error) {
	if err := in.admit(&req.Envelope, nil); err != nil {
		return api.Reply{}, err
	}
	if in.serverStart() != "" {
		return in.unchanged(), nil
	}
	if err := in.startServer(ctx); err != nil {
		return api.Reply{}, err
	}
	return in.accepted()
}

// startServer starts mysqld on complete data.
func (in *instance) startServer(ctx context.Context) error {
	in.agent.mu.Lock()
	volume, config, busy := in.volume, in.config, in.task != nil && in.task.State == api.TaskRunning
	in.agent.mu.Unlock()
	switch {
	case volume != api.VolumeReady:
		return refuse(api.ErrorPrecondition, "the volume is %s", volume)
	case config == nil:
		return refuse(api.ErrorPrecondition, "the instance is not configured")
	case busy:
		return refuse(api.ErrorPrecondition, "a task is running")
	}
	if admission.NeedsReturn(in.snapshot(), in.serverStart()) {
		return refuse(api.ErrorPrecondition, "the instance led and did not stop cleanly: what it holds must be judged first")
	}
	if err := in.resumeRewind(ctx); err != nil {
		return refuse(api.ErrorUnavailable, "a rewind must be ended first: %v", err)
	}
	if err := in.prepareStart(); err != nil {
		return refuse(api.ErrorUnavailable, "the start cannot be prepared: %v", err)
	}
	if err := replaceFile(in.cfg.own(fileInitSQL), []byte(initSQL(config, in.members()))); err != nil {
		return refuse(api.ErrorUnavailable, "the start cannot be prepared: %v", err)
	}
	id := newID()
	err := in.save(func(d *state.Durable) { d.StartedID, d.StartedHash = id, config.Hash })
	if err != nil {
		return err
	}
	if err := in.sup.Start(ctx, id, in.cfg.serverArguments(in.serverSeed())); err != nil {
		return refuse(api.ErrorUnavailable, "mysqld could not be started: %v", err)
	}
	// The supervisor pushes the new state before its reply, so it is known by now; take it over without waiting.
	latest, _ := in.sup.State()
	return in.observe(latest)
}

// serverSeed is what the server_id is made from.
func (in *instance) serverSeed() string {
	d := in.snapshot()
	return cmp.Or(d.ServerSeed, d.Incarnation)
}

// prepareStart removes what a killed mysqld left behind and flushes its relay logs: mysqld flushes one when it goes on to
// the next, but never one that a crash left, and the instance has acknowledged what is in it.
func (in *instance) prepareStart() error {
	for _, stale := range []string{in.cfg.ServerSocket(), in.cfg.ServerSocket() + ".lock", in.cfg.initSocket(), in.cfg.initSocket() + ".lock"} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing a stale socket: %w", err)
		}
	}
	logs, err := filepath.Glob(filepath.Join(in.cfg.dataDir(), mycnf.RelayLog+".[0-9]*"))
	if err != nil {
		return fmt.Errorf("listing the relay logs: %w", err)
	}
	for _, log := range logs {
		if err := flush(log); err != nil {
			return fmt.Errorf("flushing a relay log: %w", err)
		}
	}
	return nil
}

func flush(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fdatasync(int(file.Fd())), file.Close())
}
