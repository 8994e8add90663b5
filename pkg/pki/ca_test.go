// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var day0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

func newCA(t *testing.T, now time.Time) *CA {
	t.Helper()
	ca, err := NewCA(now, CARequest{CommonName: "test CA", Validity: 10 * year})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newLeaf(t *testing.T, ca *CA, now time.Time, req LeafRequest) *KeyPair {
	t.Helper()
	leaf, err := ca.Leaf(now, req)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func serverRequest() LeafRequest {
	return LeafRequest{
		CommonName: "db-mysql-0",
		DNSNames:   []string{"db-mysql-0.example"},
		IPs:        []net.IP{net.IPv4(10, 1, 2, 3).To4()},
		Usage:      UsageServer,
		Validity:   90 * 24 * time.Hour,
	}
}

func TestLeafCarriesWhatWasAskedFor(t *testing.T) {
	ca := newCA(t, day0)
	leaf := newLeaf(t, ca, day0, serverRequest()).Certificate

	type fields struct {
		CommonName          string
		DNSNames            []string
		IPs                 []string
		NotBefore, NotAfter time.Time
		IsCA                bool
		Usage               []x509.ExtKeyUsage
	}
	got := fields{
		leaf.Subject.CommonName, leaf.DNSNames,
		[]string{leaf.IPAddresses[0].String()},
		leaf.NotBefore, leaf.NotAfter, leaf.IsCA, leaf.ExtKeyUsage,
	}
	want := fields{
		"db-mysql-0",
		[]string{"db-mysql-0.example"},
		[]string{"10.1.2.3"},
		day0.Add(-Backdate), day0.Add(90 * 24 * time.Hour), false,
		[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("leaf (-want +got):\n%s", diff)
	}
	if err := leaf.CheckSignatureFrom(ca.Certificate()); err != nil {
		t.Errorf("the leaf is not signed by its CA: %v", err)
	}
}

func TestLeafNeverOutlivesItsAuthority(t *testing.T) {
	ca, err := NewCA(day0, CARequest{CommonName: "short", Validity: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	leaf := newLeaf(t, ca, day0.Add(time.Hour), serverRequest())
	if got, want := leaf.Certificate.NotAfter, ca.Certificate().NotAfter; !got.Equal(want) {
		t.Errorf("leaf ends at %s, want the end of the CA, %s", got, want)
	}
	if _, err := ca.Leaf(day0.Add(25*time.Hour), serverRequest()); err == nil {
		t.Error("a CA that has ended signed a leaf")
	}
	if _, err := ca.Leaf(day0.Add(-25*time.Hour), serverRequest()); err == nil {
		t.Error("a CA that has not begun signed a leaf")
	}
}

func TestRequestsAtFaultAreRefused(t *testing.T) {
	ca := newCA(t, day0)
	tests := map[string]func(*LeafRequest){
		"an empty common name":         func(r *LeafRequest) { r.CommonName = "" },
		"a common name of 65 bytes":    func(r *LeafRequest) { r.CommonName = strings.Repeat("a", 65) },
		"no validity":                  func(r *LeafRequest) { r.Validity = 0 },
		"a negative validity":          func(r *LeafRequest) { r.Validity = -time.Second },
		"an unknown usage":             func(r *LeafRequest) { r.Usage = 0 },
		"a server without any name":    func(r *LeafRequest) { r.DNSNames, r.IPs = nil, nil },
		"a peer without any name":      func(r *LeafRequest) { r.Usage, r.DNSNames, r.IPs = UsagePeer, nil, nil },
		"a usage beyond the known one": func(r *LeafRequest) { r.Usage = UsagePeer + 1 },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			req := serverRequest()
			change(&req)
			if _, err := ca.Leaf(day0, req); !errors.Is(err, ErrInvalidRequest) {
				t.Errorf("got %v, want ErrInvalidRequest", err)
			}
		})
	}
	if _, err := NewCA(day0, CARequest{Validity: year}); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("a CA without a name: got %v, want ErrInvalidRequest", err)
	}
	if _, err := NewCA(day0, CARequest{CommonName: "x"}); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("a CA without validity: got %v, want ErrInvalidRequest", err)
	}
}

func TestCASurvivesARoundTripThroughPEM(t *testing.T) {
	ca := newCA(t, day0)
	again, err := ParseCA(ca.CertPEM(), ca.KeyPEM())
	if err != nil {
		t.Fatal(err)
	}
	leaf := newLeaf(t, again, day0, serverRequest())
	if !leaf.SignedBy([]*x509.Certificate{ca.Certificate()}) {
		t.Error("the parsed CA signs for somebody else")
	}
	if block, rest := pem.Decode(ca.KeyPEM()); block.Type != "PRIVATE KEY" || len(rest) != 0 {
		t.Errorf("the key is %q with %d bytes behind it, want one PKCS #8 block", block.Type, len(rest))
	}
	ca.KeyPEM()[0] = 'x'
	if !bytes.HasPrefix(ca.KeyPEM(), []byte("-----BEGIN")) {
		t.Error("writing to the result of KeyPEM changed the CA")
	}
}

func TestParseCARefusesWhatIsNoAuthority(t *testing.T) {
	ca, other := newCA(t, day0), newCA(t, day0)
	leaf := newLeaf(t, ca, day0, serverRequest())
	both := append(ca.CertPEM(), other.CertPEM()...)
	tests := map[string]struct{ cert, key []byte }{
		"a leaf":                       {leaf.CertPEM, leaf.KeyPEM},
		"the key of another authority": {ca.CertPEM(), other.KeyPEM()},
		"no certificate":               {nil, ca.KeyPEM()},
		"no key":                       {ca.CertPEM(), nil},
		"certificate and key swapped":  {ca.KeyPEM(), ca.CertPEM()},
		"two certificates":             {both, ca.KeyPEM()},
		"text beyond the bound":        {make([]byte, MaxPEMBytes+1), ca.KeyPEM()},
		"a key beyond the bound":       {ca.CertPEM(), make([]byte, MaxPEMBytes+1)},
		"a damaged certificate":        {pemOf("CERTIFICATE"), ca.KeyPEM()},
		"a damaged key":                {ca.CertPEM(), pemOf("PRIVATE KEY")},
		"a key in the SEC 1 form":      {ca.CertPEM(), pemOf("EC PRIVATE KEY")},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseCA(tt.cert, tt.key); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}

func pemOf(kind string) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte("junk")})
}

func TestBundleKeepsEachValidAuthorityOnce(t *testing.T) {
	older := newCA(t, day0.Add(-9*year))
	newer := newCA(t, day0)
	tests := map[string]struct {
		now  time.Time
		in   []*x509.Certificate
		want []*x509.Certificate
	}{
		"both while both are valid": {
			day0,
			[]*x509.Certificate{newer.Certificate(), older.Certificate()},
			[]*x509.Certificate{newer.Certificate(), older.Certificate()},
		},
		"a repeated one once": {
			day0,
			[]*x509.Certificate{newer.Certificate(), newer.Certificate()},
			[]*x509.Certificate{newer.Certificate()},
		},
		"the old one goes when it ends": {
			day0.Add(year),
			[]*x509.Certificate{newer.Certificate(), older.Certificate()},
			[]*x509.Certificate{newer.Certificate()},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text, err := Bundle(tt.now, tt.in...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ParseBundle(text)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %d certificates, want %d", len(got), len(tt.want))
			}
			for i := range got {
				if !got[i].Equal(tt.want[i]) {
					t.Errorf("certificate %d is another one", i)
				}
			}
		})
	}
	if _, err := Bundle(day0.Add(20*year), newer.Certificate()); err == nil {
		t.Error("a bundle of nothing was made")
	}
	if newer.Certificate().Subject.String() == older.Certificate().Subject.String() {
		t.Error("two authorities have the same subject")
	}
}

func TestRenewalIsDueAfterTwoThirdsOfTheLife(t *testing.T) {
	cert := &x509.Certificate{NotBefore: day0, NotAfter: day0.Add(90 * time.Hour)}
	tests := map[string]struct {
		after time.Duration
		want  bool
	}{
		"at the beginning":                {0, false},
		"a second before two thirds":      {60*time.Hour - time.Second, false},
		"at two thirds":                   {60 * time.Hour, true},
		"when it has ended":               {100 * time.Hour, true},
		"before it begins, clocks differ": {-time.Hour, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := RenewalDue(cert, day0.Add(tt.after)); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

func FuzzParseBundle(f *testing.F) {
	ca, err := NewCA(day0, CARequest{CommonName: "fuzz", Validity: year})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.CertPEM())
	f.Add(ca.KeyPEM())
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, err := ParseBundle(text)
		if err == nil && (len(certs) == 0 || len(certs) > maxBundleCertificates) {
			t.Errorf("got %d certificates and no error", len(certs))
		}
	})
}

func TestFindCAPicksTheAuthorityOfTheKey(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	old, current := newCA(t, now), newCA(t, now)
	bundle, err := Bundle(now, old.Certificate(), current.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []*CA{old, current} {
		found, err := FindCA(bundle, want.KeyPEM())
		if err != nil || !found.Certificate().Equal(want.Certificate()) {
			t.Errorf("found %v, %v", found, err)
		}
	}
	if _, err := FindCA(old.CertPEM(), current.KeyPEM()); err == nil {
		t.Error("a key without its certificate was accepted")
	}
}
