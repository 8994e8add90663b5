// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/moco-mysql/moco/pkg/pki"
	"github.com/moco-mysql/moco/test/server"
)

const serverName = "db-mysql-0.example"

// presented is a server with a certificate of a CA, and that CA.
type presented struct {
	*server.Server

	ca  *pki.CA
	dir string
}

// present starts a mysqld that presents a leaf of a new CA.
func present(t *testing.T) presented {
	t.Helper()
	ca, err := pki.NewCA(time.Now(), pki.CARequest{CommonName: "cluster", Validity: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	p := presented{ca: ca, dir: t.TempDir()}
	p.write(t, "ca.pem", ca.CertPEM())
	p.renew(t)
	p.Server = server.Start(t, "[mysqld]\nauto_generate_certs = OFF\n", "--ssl-ca="+filepath.Join(p.dir, "ca.pem"),
		"--ssl-cert="+filepath.Join(p.dir, "cert.pem"), "--ssl-key="+filepath.Join(p.dir, "key.pem"))
	return p
}

func (p presented) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// renew puts a new leaf where the server reads its own, and returns it.
func (p presented) renew(t *testing.T) *x509.Certificate {
	t.Helper()
	leaf := p.leaf(t, pki.UsagePeer)
	p.write(t, "cert.pem", leaf.CertPEM)
	p.write(t, "key.pem", leaf.KeyPEM)
	return leaf.Certificate
}

func (p presented) leaf(t *testing.T, usage pki.Usage) *pki.KeyPair {
	t.Helper()
	leaf, err := p.ca.Leaf(time.Now(), pki.LeafRequest{
		CommonName: "db-mysql-0", DNSNames: []string{serverName}, Usage: usage, Validity: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// connect logs in over TLS and returns the version of the protocol.
func (p presented) connect(t *testing.T, user string, encrypt *tls.Config) (string, error) {
	t.Helper()
	cfg := driver.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.TLS = "unix", p.Socket, user, encrypt
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var name, version string
	err = db.QueryRowContext(ctx, "SHOW SESSION STATUS LIKE 'Ssl_version'").Scan(&name, &version)
	return version, err
}

func TestMysqldTakesTheCertificates(t *testing.T) {
	p := present(t)
	roots := x509.NewCertPool()
	roots.AddCert(p.ca.Certificate())
	for name, version := range map[string]uint16{"TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13} {
		t.Run(name+" with a verified server", func(t *testing.T) {
			got, err := p.connect(t, "root", &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: version, MaxVersion: version})
			if err != nil || got != name {
				t.Errorf("got %q and %v", got, err)
			}
		})
	}
	t.Run("a server with another name is refused", func(t *testing.T) {
		if _, err := p.connect(t, "root", &tls.Config{RootCAs: roots, ServerName: "db-mysql-1.example"}); err == nil {
			t.Error("it was taken")
		}
	})
	t.Run("an account may require a certificate of the CA", func(t *testing.T) {
		if _, err := p.DB.ExecContext(t.Context(), "CREATE USER strict@localhost REQUIRE SUBJECT '/CN=db-mysql-0'"); err != nil {
			t.Fatal(err)
		}
		leaf := p.leaf(t, pki.UsageClient)
		certificate, err := tls.X509KeyPair(leaf.CertPEM, leaf.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		cfg := &tls.Config{RootCAs: roots, ServerName: serverName}
		if _, err := p.connect(t, "strict", cfg); err == nil {
			t.Error("it got in without a certificate")
		}
		cfg = &tls.Config{RootCAs: roots, ServerName: serverName, Certificates: []tls.Certificate{certificate}}
		if _, err := p.connect(t, "strict", cfg); err != nil {
			t.Errorf("it did not get in with its certificate: %v", err)
		}
	})
	t.Run("a renewed certificate is presented after a reload", func(t *testing.T) {
		renewed := p.renew(t)
		if _, err := p.DB.ExecContext(t.Context(), "ALTER INSTANCE RELOAD TLS"); err != nil {
			t.Fatal(err)
		}
		var seen *x509.Certificate
		cfg := &tls.Config{RootCAs: roots, ServerName: serverName, VerifyConnection: func(state tls.ConnectionState) error {
			seen = state.PeerCertificates[0]
			return nil
		}}
		if _, err := p.connect(t, "root", cfg); err != nil || !renewed.Equal(seen) {
			t.Errorf("the old certificate is still presented (%v)", err)
		}
	})
}
