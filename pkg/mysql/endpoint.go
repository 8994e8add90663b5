// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// Bounds of a session.
const (
	dialTimeout = time.Second
	// killTimeout bounds the second connection that kills a first one.
	killTimeout = time.Second
)

// Endpoint says how to reach one mysqld, and as whom.
type Endpoint struct {
	// Network is "unix" or "tcp", Address the path of the socket or host:port.
	Network, Address string
	User             string
	// Passwords are tried in this order; the next one only when the server says that the one before is wrong. At least
	// one; it may be empty for an account without a password.
	Passwords []string
	// Encrypt is the TLS configuration, or nil for none, which is for sockets only.
	Encrypt *tls.Config
}

// Loopback is the TLS configuration for the server's own host: encrypted, because the server sends no public key and
// takes no password in clear without it, but not verified. The agent has to reach a mysqld that still presents a certificate
// from before a renewal of the CA, to have it reloaded; and whoever can listen on the loopback address of the Pod can read
// the password's file, too.
func Loopback() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // see above
}

// Connect opens a session. Every statement of the session has ctx's deadline at most; the session itself outlives ctx.
func (e Endpoint) Connect(ctx context.Context) (*Session, error) {
	if len(e.Passwords) == 0 {
		return nil, fmt.Errorf("connecting as %s: no password is known", e.User)
	}
	var failed error
	for _, password := range e.Passwords {
		session, err := e.connect(ctx, password)
		if err == nil {
			return session, nil
		}
		failed = err
		if Number(err) != ErrAccessDenied {
			break
		}
	}
	return nil, fmt.Errorf("connecting as %s to %s: %w", e.User, e.Address, failed)
}

func (e Endpoint) connect(ctx context.Context, password string) (*Session, error) {
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.Passwd = e.Network, e.Address, e.User, password
	cfg.Timeout = dialTimeout
	cfg.InterpolateParams = true // account statements take no placeholders on the server
	cfg.MultiStatements = true   // for the scripts of Session.Script alone: everything else is a constant
	cfg.TLS = e.Encrypt
	cfg.Logger = log.New(io.Discard, "", 0) // errors are returned, and the driver's own words belong in no log
	cfg.Params = map[string]string{"lock_wait_timeout": "1", "innodb_lock_wait_timeout": "1"}
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing the connection: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	session := &Session{endpoint: e, password: password, db: db, conn: conn}
	if err := conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&session.id); err != nil {
		session.Close()
		return nil, fmt.Errorf("reading the connection's id: %w", err)
	}
	return session, nil
}

// Accepts says whether the account of the endpoint can log in with its first password: true, false when the server says
// that the password or the account is wrong, or an error when it cannot be told. A closed server (offline_mode) tells,
// too: it checks the password first.
func (e Endpoint) Accepts(ctx context.Context) (bool, error) {
	session, err := e.connect(ctx, e.Passwords[0])
	switch {
	case err == nil:
		session.Close()
		return true, nil
	case Number(err) == ErrServerOffline:
		return true, nil
	case Number(err) == ErrAccessDenied:
		return false, nil
	}
	return false, fmt.Errorf("trying the password of %s: %w", e.User, err)
}
