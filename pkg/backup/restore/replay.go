// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/backup/plan"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

const (
	// roundBytes is about how much of the archive is on the volume at a time, twice: one round is applied while the next one
	// is fetched.
	roundBytes = 1 << 30
	// accountPrefix begins the name of the account of a restore.
	accountPrefix = "moco-restore-"
	// channelPrefix begins the names of the channels that replay. Each round has one of its own, because mysqld reads the
	// index of relay logs only when it makes a channel.
	channelPrefix = "moco_replay_"
)

// arguments make a mysqld of a private one that replays without a history of its own. What it does is thrown away unless it
// ends cleanly, so it need not survive a crash. Whatever server_id the transactions have, they are applied.
func (r *Restore) arguments() []string {
	return []string{
		"--disable-log-bin", "--log-replica-updates=OFF", "--replicate-same-server-id=ON",
		"--server-id=" + strconv.FormatUint(replayServerID, 10), "--gtid-mode=ON", "--enforce-gtid-consistency=ON",
		"--relay-log=" + mycnf.RelayLog, "--relay-log-recovery=OFF", "--relay-log-purge=ON",
		"--skip-replica-start=ON", "--replica-preserve-commit-order=ON", "--event-scheduler=OFF",
		"--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF", "--sync-relay-log=0",
		"--init-file=" + r.initFile(),
	}
}

func (r *Restore) initFile() string { return filepath.Join(r.cfg.Scratch, "init.sql") }

// writeInitFile makes the account of the restore: mysqld runs the file before anybody can log in. The accounts of the backup
// have passwords that nobody here knows.
func (r *Restore) writeInitFile() error {
	var secret [20]byte
	_, _ = rand.Read(secret[:]) // never fails
	r.login = Login{User: accountPrefix + hex.EncodeToString(secret[:4]), Password: hex.EncodeToString(secret[4:])}
	account := fmt.Sprintf("'%s'@'localhost'", r.login.User)
	script := "SET sql_log_bin=0;\n" +
		"CREATE USER " + account + " IDENTIFIED BY '" + r.login.Password + "';\n" +
		"GRANT ALL ON *.* TO " + account + " WITH GRANT OPTION;\n"
	if err := os.WriteFile(r.initFile(), []byte(script), 0o600); err != nil {
		return fmt.Errorf("writing the script for the account of the restore: %w", err)
	}
	return nil
}

// Replay starts a mysqld on the directory that Fetch made, replays up to the target and checks what was executed. On success
// mysqld runs, without a binary log, and the session is that of an account that may do everything and that Finish removes.
// After a failure mysqld may run: the caller ends it.
func (r *Restore) Replay(ctx context.Context, server Server) (*mysql.Session, Result, error) {
	if err := r.writeInitFile(); err != nil {
		return nil, Result{}, err
	}
	r.report("starting MySQL on the backup")
	session, err := server.Start(ctx, r.cfg.Dir, r.login, r.arguments())
	if err != nil {
		return nil, Result{}, fmt.Errorf("starting MySQL on the backup: %w", err)
	}
	if err := r.replayAll(ctx, session); err != nil {
		session.Close()
		return nil, Result{}, err
	}
	return session, r.result(), nil
}

func (r *Restore) replayAll(ctx context.Context, session *mysql.Session) error {
	if err := dropChannels(ctx, session); err != nil {
		return err
	}
	held, err := executed(ctx, session)
	if err != nil {
		return err
	}
	if !held.Equal(r.plan.Backup.GTIDs) {
		return r.final(fmt.Errorf("the backup %w: it has executed %s, its manifest says %s", errDamaged, held.Shorten(500), r.plan.Backup.GTIDs.Shorten(500)))
	}
	if err := r.replayRounds(ctx, session, held); err != nil {
		return err
	}
	if held, err = executed(ctx, session); err == nil && !held.Equal(r.Expected()) {
		err = fmt.Errorf("replaying: the server has executed %s, expected was %s", held.Shorten(500), r.Expected().Shorten(500))
	}
	return err
}

// replayRounds replays the archive, one round while the next one is fetched. held is what the backup holds.
func (r *Restore) replayRounds(ctx context.Context, session *mysql.Session, held gtid.Set) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rounds := make(chan round)
	go r.fetchRounds(ctx, rounds)
	progress := r.meter("replaying transactions", r.plan.RawBytes)
	var err error
	for next := range rounds {
		if err == nil {
			err = next.err
		}
		if err == nil {
			held = held.Union(next.contents)
			err = r.replayRound(ctx, session, next, held, progress)
		}
		if err != nil {
			cancel() // and wait until the fetching has ended
		}
	}
	progress.flush()
	return err
}

func executed(ctx context.Context, session *mysql.Session) (gtid.Set, error) {
	var text string
	if err := session.Row(ctx, []any{&text}, "SELECT @@GLOBAL.gtid_executed"); err != nil {
		return gtid.Set{}, fmt.Errorf("reading what was executed: %w", err)
	}
	set, err := gtid.Parse(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		return gtid.Set{}, fmt.Errorf("reading what was executed: %w", err)
	}
	return set, nil
}

// dropChannels removes what the copy of a replica knows of its source.
func dropChannels(ctx context.Context, session *mysql.Session) error {
	names, err := session.Column(ctx, "SELECT channel_name FROM performance_schema.replication_connection_configuration")
	if err != nil {
		return fmt.Errorf("listing channels: %w", err)
	}
	for _, name := range names {
		if err := session.Exec(ctx, "RESET REPLICA ALL FOR CHANNEL ?", name); err != nil {
			return fmt.Errorf("dropping a channel of the backup: %w", err)
		}
	}
	return nil
}

// round is a part of the archive that is on the volume.
type round struct {
	number   int
	files    []string
	bytes    int64
	contents gtid.Set
	err      error
}

// fetchRounds fetches one round after the other. It waits until one is taken before it fetches the next.
func (r *Restore) fetchRounds(ctx context.Context, rounds chan<- round) {
	defer close(rounds)
	quiet := &meter{}
	next := round{number: 1}
	for n, file := range r.plan.Files {
		last := n == len(r.plan.Files)-1
		path := filepath.Join(r.cfg.Scratch, fmt.Sprintf("%d-%06d", next.number, len(next.files)+1))
		if err := r.fetchFile(ctx, file, path, last, quiet); err != nil {
			next.err = err
		}
		next.files, next.bytes = append(next.files, path), next.bytes+bytesOf(file)
		next.contents = next.contents.Union(r.contents(n, file))
		if next.err == nil && next.bytes < roundBytes && !last {
			continue
		}
		// Never given up: the reader takes every round, and after an error ends ctx, by which the next fetch fails at once.
		rounds <- next
		if next.err != nil {
			return
		}
		next = round{number: next.number + 1}
	}
}

// fetchFile makes a relay log; the last one may be there already, cut.
func (r *Restore) fetchFile(ctx context.Context, file plan.File, path string, last bool, progress *meter) error {
	if !last || r.plan.Cut.Kind == plan.CutNone {
		return r.join(ctx, file, path, progress)
	}
	if err := os.Rename(filepath.Join(r.cfg.Scratch, "last"), path); err != nil {
		return fmt.Errorf("taking the last file: %w", err)
	}
	return nil
}

// replayRound applies the files of a round and waits until the server has executed all of goal.
func (r *Restore) replayRound(ctx context.Context, session *mysql.Session, next round, goal gtid.Set, progress *meter) error {
	channel := channelPrefix + strconv.Itoa(next.number)
	base := mycnf.RelayLog + "-" + channel
	before := progress.done.Load()
	sizes, err := r.layRelayLogs(next, base)
	if err != nil {
		return err
	}
	err = session.Exec(ctx, "CHANGE REPLICATION SOURCE TO SOURCE_HOST='archive', SOURCE_USER='none', RELAY_LOG_FILE=?, RELAY_LOG_POS=4 FOR CHANNEL ?",
		base+".000001", channel)
	if err == nil {
		err = session.Exec(ctx, "START REPLICA SQL_THREAD FOR CHANNEL ?", channel)
	}
	if err != nil {
		return fmt.Errorf("beginning to replay: %w", err)
	}
	if err := awaitApplied(ctx, session, channel, goal, &position{meter: progress, base: base, sizes: sizes, before: before}); err != nil {
		return err
	}
	for _, size := range sizes {
		before += size
	}
	progress.set(before)
	for _, statement := range []string{"STOP REPLICA FOR CHANNEL ?", "RESET REPLICA ALL FOR CHANNEL ?"} {
		if err := session.Exec(ctx, statement, channel); err != nil {
			return fmt.Errorf("ending a part of the replay: %w", err)
		}
	}
	return nil
}
