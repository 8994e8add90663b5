// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"k8s.io/klog/v2"
)

const slowLogInterval = time.Second

// slowLogTail follows mysqld's slow query log and begins the file anew when it has grown too large.
type slowLogTail struct {
	file *os.File // nil until mysqld made it
	// rotated is set from the rename until mysqld was told to open a new file.
	rotated bool
}

// streamSlowLog copies the slow log to where Config says until the instance's context ends. Lines from before it began
// are not repeated.
func (in *instance) streamSlowLog() {
	tail := &slowLogTail{}
	defer tail.close()
	if file, err := os.Open(in.cfg.slowLog()); err == nil {
		_, _ = file.Seek(0, io.SeekEnd)
		tail.file = file
	}
	tick := time.NewTicker(slowLogInterval)
	defer tick.Stop()
	for {
		select {
		case <-in.ctx.Done():
			return
		case <-tick.C:
		}
		if err := in.followSlowLog(tail); err != nil && in.ctx.Err() == nil {
			klog.FromContext(in.ctx).V(2).Info("Streaming the slow log failed, trying again", "err", err)
		}
	}
}

func (t *slowLogTail) close() {
	if t.file != nil {
		_ = t.file.Close()
		t.file = nil
	}
}

func (in *instance) followSlowLog(tail *slowLogTail) error {
	if tail.file == nil {
		file, err := os.Open(in.cfg.slowLog())
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		tail.file = file
	}
	if _, err := io.Copy(in.cfg.SlowLog, tail.file); err != nil {
		return fmt.Errorf("copying the slow log: %w", err)
	}
	size, err := tail.file.Seek(0, io.SeekCurrent)
	if err != nil || size < in.cfg.SlowLogLimit {
		return err
	}
	return in.rotateSlowLog(tail)
}

// rotateSlowLog renames the file, lets mysqld open a new one, copies the rest of the old one and removes it.
func (in *instance) rotateSlowLog(tail *slowLogTail) error {
	old := in.cfg.slowLog() + ".old"
	if !tail.rotated {
		if err := os.Rename(in.cfg.slowLog(), old); err != nil {
			return fmt.Errorf("rotating the slow log: %w", err)
		}
		tail.rotated = true
	}
	if in.serverStart() != "" {
		if err := in.flushSlowLog(); err != nil {
			return err
		}
	}
	if _, err := io.Copy(in.cfg.SlowLog, tail.file); err != nil {
		return fmt.Errorf("copying the slow log: %w", err)
	}
	tail.close()
	tail.rotated = false
	return os.Remove(old)
}

func (in *instance) flushSlowLog() error {
	ctx, cancel := context.WithTimeout(in.ctx, in.cfg.StatementTimeout)
	defer cancel()
	session, err := in.connect(ctx)
	if err != nil {
		return err
	}
	defer in.release(session)
	if err := session.Exec(ctx, "FLUSH NO_WRITE_TO_BINLOG SLOW LOGS"); err != nil {
		return fmt.Errorf("beginning a new slow log: %w", err)
	}
	return nil
}
