// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/pki"
)

// ServeAgent runs the agent as a process with mutual TLS and returns how to end it with a signal, which waits for its
// end.
func (i *Instance) ServeAgent() func(syscall.Signal) {
	i.t.Helper()
	probe, control := freePort(i.t), freePort(i.t)
	i.ProbeURL = fmt.Sprintf("http://127.0.0.1:%d", probe)
	i.writeMaterial()
	log, err := os.OpenFile(i.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(i.t, err)
	defer func() { _ = log.Close() }()
	cmd := exec.Command(i.lab.Agent, "serve", "--pod-name="+i.Name, "--pod-uid="+i.PodUID, //nolint:gosec // own binary
		"--data-root="+i.Conf.DataRoot, "--run-dir="+i.Conf.RunDir, "--bind-address=127.0.0.1",
		fmt.Sprintf("--mysql-port=%d", i.Conf.Port), fmt.Sprintf("--mysql-admin-port=%d", i.Conf.AdminPort),
		fmt.Sprintf("--probe-port=%d", probe), fmt.Sprintf("--control-port=%d", control),
		"--tls-cert="+i.pem("cert"), "--tls-key="+i.pem("key"), "--controller-ca="+i.pem("ca"), "--zoneinfo="+i.lab.ZoneInfo)
	cmd.Stdout, cmd.Stderr = log, log
	must(i.t, cmd.Start())
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	end := func(signal syscall.Signal) {
		_ = cmd.Process.Signal(signal)
		select {
		case <-exited:
		case <-time.After(Patience):
			i.t.Errorf("%s: the agent does not end by %v", i.Name, signal)
			_ = cmd.Process.Kill()
			<-exited
		}
	}
	i.t.Cleanup(func() { end(syscall.SIGKILL) })
	awaitPort(i, control)
	i.Client = agent.NewClient("127.0.0.1", control, i.clientTLS(i.lab.CA, pki.UsageClient))
	i.control = control
	return end
}

// awaitPort waits until somebody listens.
func awaitPort(i *Instance, port int32) {
	i.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			i.t.Fatalf("%s: the agent does not listen: %v", i.Name, err)
		}
	}
}

func (i *Instance) pem(name string) string { return filepath.Join(i.Dir, name+".pem") }

// writeMaterial makes the files that are mounted into the agent's container.
func (i *Instance) writeMaterial() {
	i.t.Helper()
	leaf, err := i.lab.CA.Leaf(time.Now(), pki.LeafRequest{
		CommonName: i.Name, DNSNames: []string{"agent"}, Usage: pki.UsageServer, Validity: time.Hour,
	})
	must(i.t, err)
	must(i.t, os.WriteFile(i.pem("cert"), leaf.CertPEM, 0o600))
	must(i.t, os.WriteFile(i.pem("key"), leaf.KeyPEM, 0o600))
	must(i.t, os.WriteFile(i.pem("ca"), i.lab.CA.CertPEM(), 0o600))
}

// clientTLS is a coordinator's configuration, with a certificate of the given authority and usage.
func (i *Instance) clientTLS(ca *pki.CA, usage pki.Usage) *tls.Config {
	i.t.Helper()
	leaf, err := ca.Leaf(time.Now(), pki.LeafRequest{CommonName: "controller", DNSNames: []string{"controller"}, Usage: usage, Validity: time.Hour})
	must(i.t, err)
	material, err := pki.NewMaterial(leaf.CertPEM, leaf.KeyPEM, i.lab.CA.CertPEM())
	must(i.t, err)
	holder := &pki.Holder{}
	holder.Store(material)
	return pki.ClientConfig(holder, "agent", time.Now)
}

// Strangers are clients that the agent's process must refuse, by what is wrong with them.
func (i *Instance) Strangers() map[string]*agent.Client {
	i.t.Helper()
	stranger, err := pki.NewCA(time.Now(), pki.CARequest{CommonName: "stranger", Validity: time.Hour})
	must(i.t, err)
	without := i.clientTLS(i.lab.CA, pki.UsageClient)
	without.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	return map[string]*agent.Client{
		"a certificate of another authority": agent.NewClient("127.0.0.1", i.control, i.clientTLS(stranger, pki.UsageClient)),
		"a server's certificate":             agent.NewClient("127.0.0.1", i.control, i.clientTLS(i.lab.CA, pki.UsageServer)),
		"no certificate":                     agent.NewClient("127.0.0.1", i.control, without),
		"no TLS":                             agent.NewClient("127.0.0.1", i.control, nil),
	}
}

// WantCleanEnd fails the test unless mysqld's last end was a clean one.
func (i *Instance) WantCleanEnd() {
	i.t.Helper()
	log, err := os.ReadFile(i.logFile())
	must(i.t, err)
	last := log[max(0, bytes.LastIndex(log, []byte(`"Started mysqld"`))):]
	if !bytes.Contains(last, []byte("code=0 signal=0")) || bytes.Contains(last, []byte("Forced shutdown")) {
		i.t.Errorf("%s: mysqld did not end cleanly: %s", i.Name, last)
	}
}
