// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"fmt"
	"strings"
)

// Source is where a replica replicates from.
type Source struct {
	Host, User string
	Port       int32
	// CA is the file with the certificates that the source's must be signed by.
	CA string
}

// changeSource holds what every channel has. Retries are endless and once a second: the default of ten tries would end
// a replica for good while its source restarts. A heartbeat a second shows that the source lives. The password is given
// to StartReceiver instead, because here it would be kept, in clear, in a table that tenants can read.
const changeSource = `CHANGE REPLICATION SOURCE TO SOURCE_HOST=?, SOURCE_PORT=%d, SOURCE_USER=?, SOURCE_PASSWORD='',
 SOURCE_SSL=1, SOURCE_SSL_CA=?, SOURCE_SSL_VERIFY_SERVER_CERT=1,
 SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0, SOURCE_HEARTBEAT_PERIOD=1`

// NewChannel makes the default channel, which must not exist, with auto-position.
func (s *Session) NewChannel(ctx context.Context, from Source) error {
	return s.change(ctx, from, ", SOURCE_AUTO_POSITION=1")
}

// Repoint changes the source of the default channel. The receiver must be stopped and the applier running: with both
// stopped, or with SOURCE_AUTO_POSITION named, MySQL drops the relay log, and with it what this replica has acknowledged.
func (s *Session) Repoint(ctx context.Context, from Source) error { return s.change(ctx, from, "") }

func (s *Session) change(ctx context.Context, from Source, more string) error {
	err := s.Exec(ctx, fmt.Sprintf(changeSource, from.Port)+more+" FOR CHANNEL ''", from.Host, from.User, from.CA)
	if err != nil {
		return fmt.Errorf("setting the replication source: %w", err)
	}
	return nil
}

// StartReceiver starts the receiver, which must be stopped. It keeps the credentials for its reconnects, in memory.
func (s *Session) StartReceiver(ctx context.Context, user, password string) error {
	return wrap("starting the receiver", s.Exec(ctx, "START REPLICA IO_THREAD USER=? PASSWORD=? FOR CHANNEL ''", user, password))
}

// StartApplier starts the applier; it is OK when it runs already.
func (s *Session) StartApplier(ctx context.Context) error {
	return wrap("starting the applier", s.Exec(ctx, "START REPLICA SQL_THREAD FOR CHANNEL ''"))
}

// StopReceiver stops the receiver.
func (s *Session) StopReceiver(ctx context.Context) error {
	return wrap("stopping the receiver", s.Exec(ctx, "STOP REPLICA IO_THREAD FOR CHANNEL ''"))
}

// DropChannel removes the stopped default channel with its relay log. The caller has made sure that nothing in it is
// needed.
func (s *Session) DropChannel(ctx context.Context) error {
	return wrap("dropping the replication channel", s.Exec(ctx, "RESET REPLICA ALL FOR CHANNEL ''"))
}

// CommitEmpty commits an empty transaction with the given GTID. With source semi-sync it returns when the transaction is
// acknowledged. A GTID that the server knows already is OK at once, without any wait: the caller uses a fresh one.
// Neither super_read_only nor offline_mode is in its way.
func (s *Session) CommitEmpty(ctx context.Context, gtid string) error {
	if err := s.Exec(ctx, "SET SESSION gtid_next=?", gtid); err != nil {
		return fmt.Errorf("setting the GTID: %w", err)
	}
	if err := s.Exec(ctx, "BEGIN"); err != nil {
		return fmt.Errorf("beginning: %w", err)
	}
	if err := s.Exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	return wrap("leaving the GTID", s.Exec(ctx, "SET SESSION gtid_next='AUTOMATIC'"))
}

// SetGlobal sets global variables, in order. The values are literals of this program, not a user's.
func (s *Session) SetGlobal(ctx context.Context, assignments ...string) error {
	for _, assignment := range assignments {
		if err := s.Exec(ctx, "SET GLOBAL "+assignment); err != nil {
			name, _, _ := strings.Cut(assignment, "=")
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
