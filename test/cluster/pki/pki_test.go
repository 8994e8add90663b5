// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

func TestCertificatesAreGoodForTheirNamesAndUsers(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	err := Make(dir, now, []Identity{
		{File: "server", CommonName: "kube-apiserver", Names: []string{"localhost", "10.99.0.1"}},
		{File: "admin", CommonName: "admin", Organization: "system:masters"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("ca.crt holds no certificate")
	}
	for _, name := range []string{"localhost", "10.99.0.1"} {
		if _, err := load(t, dir, "server").Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := load(t, dir, "server").Verify(x509.VerifyOptions{Roots: roots, DNSName: "example.com"}); err == nil {
		t.Error("it is good for a name that it was not made for")
	}
	admin := load(t, dir, "admin")
	uses := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if _, err := admin.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: uses}); err != nil {
		t.Errorf("as a client: %v", err)
	}
	if diff := cmp.Diff([]string{"system:masters", "admin"}, append(admin.Subject.Organization, admin.Subject.CommonName)); diff != "" {
		t.Errorf("group and user (-want +got):\n%s", diff)
	}
}

func load(t *testing.T, dir, file string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, file+".crt"), filepath.Join(dir, file+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestAKubeconfigHoldsAllThatAClientNeeds(t *testing.T) {
	dir := t.TempDir()
	if err := Make(dir, time.Now(), []Identity{{File: "admin", CommonName: "admin"}}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "admin.conf")
	if err := WriteKubeconfig(file, "https://10.99.0.1:6443", dir, "admin"); err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("https://10.99.0.1:6443", rest.Host); diff != "" {
		t.Errorf("server (-want +got):\n%s", diff)
	}
	if _, err := tls.X509KeyPair(rest.CertData, rest.KeyData); err != nil {
		t.Errorf("client certificate: %v", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(rest.CAData) {
		t.Error("no authority")
	}
}

func TestAKubeconfigWithoutItsCertificateIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "admin.conf")
	if err := WriteKubeconfig(file, "https://10.99.0.1:6443", t.TempDir(), "admin"); err == nil {
		t.Error("no error")
	}
}
