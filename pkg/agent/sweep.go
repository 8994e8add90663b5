// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/mysql"
)

const (
	// killPatience bounds the wait for a killed mysqld to be reaped. One in uninterruptible sleep is silent, not dead.
	killPatience = 10 * time.Second
	// sweepPatience is how long sessions of earlier commands may take to go before mysqld is killed for them. There are
	// none but after an agent's restart or a statement that was given up, so a takeover rarely waits for it.
	sweepPatience = time.Second
	sweepInterval = 20 * time.Millisecond
)

// sweep ends the agent's sessions of earlier commands and agents, and if they do not go kills mysqld and starts it again.
func (in *instance) sweep(ctx context.Context) error {
	start := in.serverStart()
	if start == "" || !in.reachable() || in.isStopping() {
		return nil // a mysqld that takes no connections, yet or any more, has no sessions
	}
	session, err := in.borrow(ctx)
	if err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	err = in.sweepWith(patience, session)
	in.giveBack(patience, session)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || !errors.Is(err, errStubborn):
		return unavailable("looking for left-over sessions", err) // nothing is known to be left; the next promise looks again
	}
	return in.restart(ctx, start, err.Error())
}

// errStubborn: sessions of earlier commands were seen and do not end.
var errStubborn = errors.New("left-over sessions do not end")

// sweepWith kills until nothing is left. KILL itself may block: it looks the other session's account up, which somebody
// who waits for an acknowledgement may have locked.
func (in *instance) sweepWith(ctx context.Context, session *mysql.Session) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	seen := false
	for {
		strays, err := in.strays(ctx, session)
		switch {
		case err != nil && seen:
			return fmt.Errorf("%w: %w", errStubborn, err)
		case err != nil:
			return err
		}
		seen = seen || len(strays) > 0
		if len(strays) == 0 {
			return nil
		}
		for _, id := range strays {
			if err := session.Exec(ctx, "KILL "+id); ctx.Err() != nil {
				return fmt.Errorf("%w: %w", errStubborn, err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d", errStubborn, len(strays))
		}
	}
}

// reachable says whether the running mysqld has ever answered this agent.
func (in *instance) reachable() bool {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	return in.server != nil || len(in.sessions) > 0
}

// strays lists sessions of the agent's account that are not its own.
func (in *instance) strays(ctx context.Context, session *mysql.Session) ([]string, error) {
	ids, err := session.Column(ctx, "SELECT id FROM performance_schema.processlist WHERE user=?", AccountAdmin)
	if err != nil {
		return nil, err
	}
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	var strays []string
	for _, id := range ids {
		known := false
		for own := range in.sessions {
			known = known || fmt.Sprint(own) == id
		}
		if !known {
			strays = append(strays, id)
		}
	}
	return strays, nil
}

// restart kills that mysqld and starts it again, closed.
func (in *instance) restart(ctx context.Context, start, reason string) error {
	klog.FromContext(ctx).Info("Killing mysqld and starting it again", "reason", reason)
	if err := in.sup.Kill(ctx, start); err != nil {
		return refuse(api.ErrorUnavailable, "mysqld could not be killed: %v", err)
	}
	return in.startServer(ctx)
}
