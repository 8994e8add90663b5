// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

func holder(t *testing.T, own *KeyPair, authorities ...*CA) *Holder {
	t.Helper()
	h := &Holder{}
	h.Store(material(t, own, authorities...))
	return h
}

func material(t *testing.T, own *KeyPair, authorities ...*CA) *Material {
	t.Helper()
	var certs []*x509.Certificate
	for _, ca := range authorities {
		certs = append(certs, ca.Certificate())
	}
	bundle, err := Bundle(day0, certs...)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMaterial(own.CertPEM, own.KeyPEM, bundle)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// exchange connects client to server over a real socket, sends a byte each way
// and returns what each side says about it. A byte each way is needed: in TLS
// 1.3 a client learns that it was refused only when it reads.
func exchange(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		done <- echo(tls.Server(conn, server))
	}()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	clientErr = ask(tls.Client(conn, client))
	return <-done, clientErr
}

func echo(conn net.Conn) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	_, err := io.CopyN(conn, conn, 1)
	return err
}

func ask(conn net.Conn) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{'?'}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// world is a controller and an agent that trust each other.
type world struct {
	controllerCA, clusterCA *CA
	agent, controller       *KeyPair
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{controllerCA: newCA(t, day0), clusterCA: newCA(t, day0)}
	w.agent = newLeaf(t, w.clusterCA, day0, serverRequest())
	w.controller = newLeaf(t, w.controllerCA, day0,
		LeafRequest{CommonName: "moco-controller", Usage: UsageClient, Validity: year})
	return w
}

const agentName = "db-mysql-0.example"

func TestHandshake(t *testing.T) {
	w := newWorld(t)
	clientOf := func(ca *CA, usage Usage) *KeyPair {
		req := serverRequest()
		req.Usage = usage
		return newLeaf(t, ca, day0, req)
	}
	server := func() *tls.Config { return ServerConfig(holder(t, w.agent, w.controllerCA), at(day0)) }
	client := func() *tls.Config {
		return ClientConfig(holder(t, w.controller, w.clusterCA), agentName, at(day0))
	}
	tests := map[string]struct {
		server, client         *tls.Config
		wantServer, wantClient bool // whether that side must refuse the other
	}{
		"controller and agent trust each other": {server: server(), client: client()},
		"the agent is named by its address": {
			server: server(), client: ClientConfig(holder(t, w.controller, w.clusterCA), "10.1.2.3", at(day0)),
		},
		"the client trusts another cluster": {
			server: server(), client: ClientConfig(holder(t, w.controller, w.controllerCA), agentName, at(day0)),
			wantClient: true,
		},
		"the agent has another name": {
			server: server(), client: ClientConfig(holder(t, w.controller, w.clusterCA), "db-mysql-1.example", at(day0)),
			wantClient: true,
		},
		"the client expects no name": {
			server: server(), client: ClientConfig(holder(t, w.controller, w.clusterCA), "", at(day0)),
			wantClient: true,
		},
		"the agent's certificate has ended": {
			server:     server(),
			client:     ClientConfig(holder(t, w.controller, w.clusterCA), agentName, at(day0.Add(100*24*time.Hour))),
			wantClient: true,
		},
		"the agent's certificate is for clients only": {
			server:     ServerConfig(holder(t, clientOf(w.clusterCA, UsageClient), w.controllerCA), at(day0)),
			client:     client(),
			wantClient: true,
		},
		"the client comes with a certificate of the cluster": {
			server:     server(),
			client:     ClientConfig(holder(t, clientOf(w.clusterCA, UsagePeer), w.clusterCA), agentName, at(day0)),
			wantServer: true,
		},
		"the client's certificate is for servers only": {
			server:     server(),
			client:     ClientConfig(holder(t, clientOf(w.controllerCA, UsageServer), w.clusterCA), agentName, at(day0)),
			wantServer: true,
		},
		"the client's certificate has ended": {
			server:     ServerConfig(holder(t, w.agent, w.controllerCA), at(day0.Add(2*year))),
			client:     client(),
			wantServer: true,
		},
		"the client has no certificate": {
			server: server(), client: withoutCertificate(client()), wantServer: true,
		},
		"the client speaks TLS 1.2 only": {
			server: server(), client: atMostTLS12(client()), wantServer: true,
		},
		"the server has nothing loaded yet": {
			server: ServerConfig(&Holder{}, at(day0)), client: client(), wantServer: true,
		},
		"the client has nothing loaded yet": {
			server: server(), client: ClientConfig(&Holder{}, agentName, at(day0)), wantClient: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			serverErr, clientErr := exchange(t, tt.server, tt.client)
			if !tt.wantServer && !tt.wantClient {
				if serverErr != nil || clientErr != nil {
					t.Fatalf("server: %v, client: %v; want both content", serverErr, clientErr)
				}
				return
			}
			if serverErr == nil || clientErr == nil {
				t.Fatalf("server: %v, client: %v; want the exchange to fail", serverErr, clientErr)
			}
			if tt.wantServer && isAlert(serverErr) {
				t.Errorf("the client refused, not the server: %v", serverErr)
			}
			if tt.wantClient && isAlert(clientErr) {
				t.Errorf("the server refused, not the client: %v", clientErr)
			}
		})
	}
}

// isAlert tells whether err is a refusal by the other side that was received.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func withoutCertificate(cfg *tls.Config) *tls.Config {
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{}, nil
	}
	return cfg
}

func atMostTLS12(cfg *tls.Config) *tls.Config {
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	return cfg
}

func TestRotationOfTheClusterCANeedsNoRestart(t *testing.T) {
	w := newWorld(t)
	agent, controller := holder(t, w.agent, w.controllerCA), holder(t, w.controller, w.clusterCA)
	server, client := ServerConfig(agent, at(day0)), ClientConfig(controller, agentName, at(day0))
	next := newCA(t, day0)
	renewed := newLeaf(t, next, day0, serverRequest())

	steps := []struct {
		name   string
		change func()
		works  bool
	}{
		{"before", func() {}, true},
		{"both authorities trusted", func() { controller.Store(material(t, w.controller, next, w.clusterCA)) }, true},
		{"the agent presents the new leaf", func() { agent.Store(material(t, renewed, w.controllerCA)) }, true},
		{"the old authority is gone", func() { controller.Store(material(t, w.controller, next)) }, true},
		{"the agent falls back to the old leaf", func() { agent.Store(material(t, w.agent, w.controllerCA)) }, false},
	}
	for _, step := range steps {
		step.change()
		serverErr, clientErr := exchange(t, server, client)
		if works := serverErr == nil && clientErr == nil; works != step.works {
			t.Fatalf("%s: works=%t, want %t (server: %v, client: %v)", step.name, works, step.works, serverErr, clientErr)
		}
	}
}

func TestARevokedControllerCAStopsTheNextConnection(t *testing.T) {
	w := newWorld(t)
	agent, controller := holder(t, w.agent, w.controllerCA), holder(t, w.controller, w.clusterCA)
	server, client := ServerConfig(agent, at(day0)), ClientConfig(controller, agentName, at(day0))
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)

	if serverErr, clientErr := exchange(t, server, client); serverErr != nil || clientErr != nil {
		t.Fatalf("server: %v, client: %v; want both content", serverErr, clientErr)
	}
	agent.Store(material(t, w.agent, newCA(t, day0)))
	if serverErr, _ := exchange(t, server, client); serverErr == nil {
		t.Error("a client of the replaced authority was let in")
	}
}

func TestNewMaterialRefusesWhatDoesNotFit(t *testing.T) {
	w := newWorld(t)
	bundle := w.controllerCA.CertPEM()
	tests := map[string]struct{ cert, key, authorities []byte }{
		"a key of somebody else": {w.agent.CertPEM, w.controller.KeyPEM, bundle},
		"no authorities":         {w.agent.CertPEM, w.agent.KeyPEM, nil},
		"no certificate":         {nil, w.agent.KeyPEM, bundle},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := NewMaterial(tt.cert, tt.key, tt.authorities); err == nil {
				t.Error("it was accepted")
			}
		})
	}
	if got := material(t, w.agent, w.controllerCA).Leaf(); !got.Equal(w.agent.Certificate) {
		t.Error("Leaf is not one's own certificate")
	}
}
