// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/supervise"
)

const (
	// versionTimeout bounds `mysqld --version`; loading the program from a cold disk takes seconds.
	versionTimeout = 30 * time.Second
	// versionRetry is the pause after the image could not be asked. The reason may pass: the supervisor runs only a few
	// programs at a time.
	versionRetry = 2 * time.Second
	// versionAttempts is how often it must fail before the image is said to be unusable.
	versionAttempts = 2
)

// inspectImage asks the image once which mysqld it holds, and publishes the answer or why there is none.
func (in *instance) inspectImage() {
	for attempt := 1; ; attempt++ {
		version, err := in.askVersion()
		if in.ctx.Err() != nil || errors.Is(err, supervise.ErrDisconnected) {
			return
		}
		if err == nil {
			in.change(func() { in.imageVersion, in.imageError = version, "" })
			return
		}
		if attempt >= versionAttempts {
			in.change(func() { in.imageError = err.Error() })
		}
		timer := time.NewTimer(versionRetry)
		select {
		case <-in.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// askVersion returns the first line of what `mysqld --version` prints.
func (in *instance) askVersion() (string, error) {
	exit, output, err := in.sup.Run(in.ctx, []string{"--version"}, versionTimeout)
	if err != nil {
		return "", fmt.Errorf("running mysqld --version: %w", err)
	}
	line, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	if exit.Code != 0 {
		return "", fmt.Errorf("mysqld --version ended with code %d: %.200s", exit.Code, line)
	}
	return line, nil
}
