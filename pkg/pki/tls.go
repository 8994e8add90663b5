// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

var (
	// errNoMaterial is returned by handshakes that begin before the first
	// Holder.Store.
	errNoMaterial = errors.New("no TLS material has been loaded yet")
	// errNoServerName is returned by handshakes of a client that was not told
	// whom it talks to: any server of the cluster would do then.
	errNoServerName = errors.New("verifying the other side: no server name to expect")
)

// Material is what one side of a connection needs: its own certificate and the
// authorities whose certificates it accepts from the other side.
type Material struct {
	certificate tls.Certificate
	authorities *x509.CertPool
}

// NewMaterial reads one's own certificate and key, and the bundle of the
// authorities that sign the other side's certificates. For an agent's server
// that is the controller CA; for the controller it is the cluster CA.
func NewMaterial(certPEM, keyPEM, authoritiesPEM []byte) (*Material, error) {
	pair, err := ParseKeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	authorities, err := ParseBundle(authoritiesPEM)
	if err != nil {
		return nil, fmt.Errorf("reading authorities: %w", err)
	}
	pool := x509.NewCertPool()
	for _, cert := range authorities {
		pool.AddCert(cert)
	}
	return &Material{
		certificate: tls.Certificate{
			Certificate: [][]byte{pair.Certificate.Raw},
			PrivateKey:  pair.key,
			Leaf:        pair.Certificate,
		},
		authorities: pool,
	}, nil
}

// Leaf is one's own certificate; it must not be changed. Its holder may ask
// RenewalDue about it.
func (m *Material) Leaf() *x509.Certificate { return m.certificate.Leaf }

// Holder gives the configurations made by this package the newest Material, so
// that renewed certificates count from the next handshake on, without a
// restart. Connections that are already open are not touched. The zero value
// is ready for use and refuses every handshake until the first Store.
type Holder struct {
	material atomic.Pointer[Material]
}

// Store makes m what the next handshakes use. m must not be nil.
func (h *Holder) Store(m *Material) { h.material.Store(m) }

// Load is the Material in use, nil before the first Store.
func (h *Holder) Load() *Material { return h.material.Load() }

// ServerConfig makes the configuration of the agent's control API: TLS 1.3 or
// newer, and a client must present a certificate for client authentication
// that one of the authorities in own has signed. now is asked for the time at
// each handshake.
func ServerConfig(own *Holder, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		Time:                   now,
		// The chain is verified in VerifyConnection, against the authorities
		// that count then; ClientCAs would be frozen at start.
		ClientAuth: tls.RequireAnyClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return own.certificate()
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			return own.verify(state, x509.VerifyOptions{
				CurrentTime: now(),
				KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			})
		},
	}
}

// ClientConfig makes the configuration with which the controller reaches one
// agent: TLS 1.3 or newer, own's certificate is presented, and the server's
// certificate must be signed by one of own's authorities for server
// authentication and name serverName, a DNS name or an IP address. Use a name
// that belongs to the incarnation rather than to the address, because addresses
// are used again; with an empty one every handshake fails. now is asked for the time at each handshake.
func ClientConfig(own *Holder, serverName string, now func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName,
		Time:       now,
		// Not a way around verification: VerifyConnection does all that the
		// standard verifier does, but against the authorities that count at
		// the moment of the handshake instead of those known at start.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return own.certificate()
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			if serverName == "" {
				return errNoServerName
			}
			return own.verify(state, x509.VerifyOptions{
				CurrentTime: now(),
				DNSName:     serverName,
				KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
		},
	}
}

func (h *Holder) certificate() (*tls.Certificate, error) {
	m := h.Load()
	if m == nil {
		return nil, errNoMaterial
	}
	return &m.certificate, nil
}

// verify checks the other side's chain. An empty DNSName in opts means that
// names are not looked at.
func (h *Holder) verify(state tls.ConnectionState, opts x509.VerifyOptions) error {
	m := h.Load()
	if m == nil {
		return errNoMaterial
	}
	if len(state.PeerCertificates) == 0 {
		return errors.New("verifying the other side: it presented no certificate")
	}
	opts.Roots = m.authorities
	opts.Intermediates = x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return fmt.Errorf("verifying the other side: %w", err)
	}
	return nil
}
