// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/agent/supervise"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// initialiseTimeout bounds mysqld --initialize, privateStartTimeout the wait for a private mysqld to answer, and
	// privateStopTimeout the wait for its clean end.
	initialiseTimeout   = 5 * time.Minute
	privateStartTimeout = 2 * time.Minute
	privateStopTimeout  = 5 * time.Minute
	privateRetry        = 50 * time.Millisecond
)

// begin starts a long task that fills the volume. fill works on the half-made directory; when it succeeds the directory
// is flushed and becomes the data directory. The caller holds the slot.
func (in *instance) begin(task api.Task, fill func(context.Context) error) error {
	in.agent.mu.Lock()
	volume, running, configured := in.volume, in.process.Running, in.config != nil
	in.agent.mu.Unlock()
	switch {
	case volume != api.VolumeEmpty:
		return refuse(api.ErrorPrecondition, "the volume is %s", volume)
	case running:
		return refuse(api.ErrorPrecondition, "a mysqld is running")
	case !configured:
		return refuse(api.ErrorPrecondition, "the instance is not configured")
	}
	task.State, task.StartedAt = api.TaskRunning, time.Now()
	in.change(func() { in.volume, in.task = api.VolumeFilling, &task })
	in.work.Go(func() { in.runTask(fill) })
	return nil
}

// rest waits, or less if the supervisor goes.
func (in *instance) rest(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-in.ctx.Done():
	case <-timer.C:
	}
}

// runTask carries the task out and publishes its end, which counts as a change of state.
func (in *instance) runTask(fill func(context.Context) error) {
	logger := klog.FromContext(in.ctx)
	err := in.fillAndFinish(fill)
	if in.ctx.Err() != nil {
		return // the supervisor is gone: the next instance finds the half-made directory
	}
	if err != nil {
		logger.Error(err, "Task failed", "kind", in.task.Kind)
		in.progress(func(t *api.Task) { t.State, t.Error = api.TaskFailed, err.Error() })
		in.rest(in.cfg.TaskRetry) // the volume is offered again only after a pause: every attempt costs a whole initialisation
		if in.ctx.Err() != nil {
			return
		}
	}
	if saveErr := in.save(func(d *state.Durable) { d.Counter++ }); saveErr != nil {
		err = errors.Join(err, saveErr)
	}
	in.change(func() {
		done := *in.task
		done.State, in.volume = api.TaskDone, api.VolumeReady
		if err != nil {
			done.State, done.Error, in.volume = api.TaskFailed, err.Error(), api.VolumeEmpty
		}
		in.task = &done
		in.hurry()
	})
	if err != nil {
		return
	}
	logger.Info("Task is done", "kind", in.task.Kind, "elapsed", time.Since(in.task.StartedAt))
}

func (in *instance) fillAndFinish(fill func(context.Context) error) error {
	if err := errors.Join(os.RemoveAll(in.cfg.partialDir()), os.RemoveAll(in.cfg.restoreScratch())); err != nil {
		return fmt.Errorf("removing a half-made directory: %w", err)
	}
	if in.snapshot().RestoredFrom != "" {
		if err := in.save(func(d *state.Durable) { d.RestoredFrom = "" }); err != nil {
			return err
		}
	}
	err := fill(in.ctx)
	if endErr := in.endPrivate(); endErr != nil {
		err = errors.Join(err, endErr)
	}
	if err != nil {
		return err
	}
	in.stage("flushing the volume")
	if err := syncVolume(in.cfg.DataRoot); err != nil {
		return fmt.Errorf("flushing the volume: %w", err)
	}
	if err := os.Rename(in.cfg.partialDir(), in.cfg.dataDir()); err != nil {
		return fmt.Errorf("completing the data directory: %w", err)
	}
	return syncPath(filepath.Dir(in.cfg.dataDir()))
}

// stage says what a task is doing.
func (in *instance) stage(words string) { in.progress(func(t *api.Task) { t.Stage = words }) }

// progress alters what the task shows.
func (in *instance) progress(alter func(*api.Task)) {
	in.change(func() {
		next := *in.task
		alter(&next)
		in.task = &next
	})
}

// makeDataDirectory runs mysqld --initialize-insecure into dir.
func (in *instance) makeDataDirectory(ctx context.Context, dir string, more ...string) error {
	args := in.cfg.baseArguments(in.cfg.own(fileInitCnf), dir)
	args = append(append(args, "--initialize-insecure"), options(unsafeButFast)...)
	exit, output, err := in.sup.Run(ctx, append(args, more...), initialiseTimeout)
	if err != nil {
		return fmt.Errorf("initialising a data directory: %w", err)
	}
	if exit.Code != 0 {
		return fmt.Errorf("initialising a data directory: %s", complaints(output, exit.Code))
	}
	return nil
}

// startPrivate starts a mysqld that only the agent can reach and waits until it answers. It logs in as the root account
// that initialisation made, which has no password and comes through the socket only.
func (in *instance) startPrivate(ctx context.Context, dir string, more ...string) (*mysql.Session, string, error) {
	if err := in.prepareStart(); err != nil {
		return nil, "", err
	}
	id := newID()
	if err := in.sup.Start(ctx, id, append(in.cfg.privateArguments(dir), more...)); err != nil {
		return nil, "", fmt.Errorf("starting a private mysqld: %w", err)
	}
	session, err := in.awaitPrivate(ctx, id, in.privateEndpoint(AccountRoot, ""), privateStartTimeout)
	return session, id, err
}

func (in *instance) privateEndpoint(user, password string) mysql.Endpoint {
	return mysql.Endpoint{Network: "unix", Address: in.cfg.initSocket(), User: user, Passwords: []string{password}}
}

func (in *instance) awaitPrivate(ctx context.Context, id string, endpoint mysql.Endpoint, patience time.Duration) (*mysql.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	retry := time.NewTicker(privateRetry)
	defer retry.Stop()
	for {
		session, err := endpoint.Connect(ctx)
		if err == nil {
			return session, nil
		}
		if now, _ := in.sup.State(); !now.Running || now.StartID != id {
			return nil, fmt.Errorf("waiting for a private mysqld: it ended: %s", exitWords(now.Exit))
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for a private mysqld: %w", errors.Join(ctx.Err(), err))
		case <-retry.C:
		}
	}
}

func exitWords(exit *supervise.Exit) string {
	if exit == nil {
		return "for an unknown reason"
	}
	return fmt.Sprintf("exit code %d, signal %d", exit.Code, exit.Signal)
}

// stopPrivate ends a private mysqld cleanly, so that its data need no recovery.
func (in *instance) stopPrivate(ctx context.Context, id string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := in.sup.Stop(ctx, id); err != nil {
		return fmt.Errorf("stopping a private mysqld: %w", err)
	}
	if err := in.sup.AwaitExit(ctx, id); err != nil {
		return err
	}
	if now, _ := in.sup.State(); now.Exit == nil || now.Exit.StartID != id || now.Exit.Code != 0 {
		return fmt.Errorf("stopping a private mysqld: %s", exitWords(now.Exit))
	}
	return nil
}

// endPrivate kills a private mysqld that is left, whatever happened.
func (in *instance) endPrivate() error {
	now, _ := in.sup.State()
	if !now.Running {
		return nil
	}
	ctx, cancel := context.WithTimeout(in.ctx, killPatience)
	defer cancel()
	if err := in.sup.Kill(ctx, now.StartID); err != nil {
		return fmt.Errorf("killing a private mysqld: %w", err)
	}
	return nil
}
