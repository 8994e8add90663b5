// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
)

const (
	// look is how often the applier is looked at.
	look = 200 * time.Millisecond
	// maxMessage bounds what an error quotes of the server's words, in bytes.
	maxMessage = 1000
)

// layRelayLogs moves the files of a round to where mysqld looks for the relay logs of a channel, lists them in the channel's
// index, and returns their sizes. mysqld removes each file when it is through with it.
func (r *Restore) layRelayLogs(next round, base string) ([]int64, error) {
	var index strings.Builder
	sizes := make([]int64, 0, len(next.files))
	for n, file := range next.files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, fmt.Errorf("laying relay logs out: %w", err)
		}
		name := fmt.Sprintf("%s.%06d", base, n+1)
		if err := os.Rename(file, filepath.Join(r.cfg.Dir, name)); err != nil {
			return nil, fmt.Errorf("laying relay logs out: %w", err)
		}
		sizes = append(sizes, info.Size())
		index.WriteString("./" + name + "\n")
	}
	if err := os.WriteFile(filepath.Join(r.cfg.Dir, base+".index"), []byte(index.String()), 0o640); err != nil { //nolint:gosec // as mysqld makes it
		return nil, fmt.Errorf("laying relay logs out: %w", err)
	}
	return sizes, nil
}

// position is how far the applier is in the files of one round.
type position struct {
	meter *meter
	base  string
	sizes []int64
	// before is what was counted before this round.
	before int64
}

// note takes the applier's position over and says whether it is behind the last file.
func (p *position) note(status map[string]string) bool {
	at, _ := strconv.ParseInt(status["Relay_Log_Pos"], 10, 64)
	number, _ := strconv.Atoi(strings.TrimPrefix(status["Relay_Log_File"], p.base+".")) // 0 for a name of another kind
	done := p.before
	for n, size := range p.sizes {
		switch {
		case n+1 < number:
			done += size
		case n+1 == number:
			done += min(at, size)
		}
	}
	p.meter.set(done)
	return number > len(p.sizes) || number == len(p.sizes) && at >= p.sizes[number-1]
}

// awaitApplied waits until the server has executed all of goal.
func awaitApplied(ctx context.Context, session *mysql.Session, channel string, goal gtid.Set, at *position) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		status, err := session.Record(ctx, "SHOW REPLICA STATUS FOR CHANNEL ?", channel)
		if err != nil {
			return fmt.Errorf("looking at the applier: %w", err)
		}
		if status["Last_SQL_Errno"] != "0" || status["Replica_SQL_Running"] != "Yes" {
			return applierError(status)
		}
		through := at.note(status)
		held, err := executed(ctx, session)
		if err != nil {
			return err
		}
		if held.Contains(goal) {
			return nil
		}
		if through {
			return fmt.Errorf("replaying: the archived files do not hold %s", goal.Subtract(held).Shorten(500))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("replaying: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// applierError is what the applier says of its end. The coordinator's words hold the GTID but nothing of the rows.
func applierError(status map[string]string) error {
	message := status["Last_SQL_Error"]
	if message == "" {
		return errors.New("replaying: the applier ended without an error")
	}
	return fmt.Errorf("replaying: error %s: %s", status["Last_SQL_Errno"], message[:min(len(message), maxMessage)])
}

// Finish removes the account of the restore, closes the session, stops mysqld cleanly, and leaves only what belongs into a
// data directory that never served: no logs, no server UUID.
func (r *Restore) Finish(ctx context.Context, server Server, session *mysql.Session) error {
	r.report("stopping cleanly")
	err := r.leave(ctx, session)
	session.Close() // mysqld would wait for it
	if err != nil {
		return err
	}
	if err := server.Stop(ctx); err != nil {
		return err
	}
	return r.clean()
}

// leave removes the account of the restore. What was done since Replay must be no transaction of the restored history.
func (r *Restore) leave(ctx context.Context, session *mysql.Session) error {
	if err := session.Exec(ctx, "DROP USER ?@'localhost'", r.login.User); err != nil {
		return fmt.Errorf("removing the account of the restore: %w", err)
	}
	held, err := executed(ctx, session)
	if err == nil && !held.Equal(r.Expected()) {
		err = fmt.Errorf("ending the restore: the server has executed %s, expected was %s", held.Shorten(500), r.Expected().Shorten(500))
	}
	return err
}

// clean removes what a server leaves behind that is not its data.
func (r *Restore) clean() error {
	for _, pattern := range []string{"auto.cnf", "relay.*", "relay-*", "binlog.*", "*.pid"} {
		paths, err := filepath.Glob(filepath.Join(r.cfg.Dir, pattern))
		for _, path := range paths {
			if removeErr := os.Remove(path); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
				err = errors.Join(err, removeErr)
			}
		}
		if err != nil {
			return fmt.Errorf("tidying the data directory: %w", err)
		}
	}
	return nil
}
