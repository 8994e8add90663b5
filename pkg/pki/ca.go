// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"
)

// Backdate is how long before the moment of signing a certificate begins to be
// valid, so that a node whose clock is behind accepts it at once.
const Backdate = 5 * time.Minute

// maxCommonNameBytes is ub-common-name of RFC 5280, appendix A.1. OpenSSL
// enforces it when it builds names, so a longer one would not work everywhere.
const maxCommonNameBytes = 64

// ErrInvalidRequest is wrapped by the errors about a CARequest or LeafRequest
// that cannot be signed whatever the state of the authority.
var ErrInvalidRequest = errors.New("invalid certificate request")

// CARequest says what authority NewCA makes.
type CARequest struct {
	// CommonName is shown to people who inspect the certificate. At most 64
	// bytes, not empty.
	CommonName string
	// Validity is the time from now until the authority ends. It must be
	// positive.
	Validity time.Duration
}

// CA is an authority: a self-signed certificate and its private key.
type CA struct {
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	certPEM []byte
	keyPEM  []byte
}

// NewCA makes a new authority with a new key. Two authorities made from the
// same request have different subjects, so that both can stand in one bundle
// without a verifier confusing them. The error wraps ErrInvalidRequest when
// the request is at fault.
func NewCA(now time.Time, req CARequest) (*CA, error) {
	if err := checkNameAndValidity(req.CommonName, req.Validity); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating CA key: %w", err)
	}
	id, err := keyID(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: req.CommonName, SerialNumber: hex.EncodeToString(id[:8])},
		NotBefore:             now.Add(-Backdate),
		NotAfter:              now.Add(req.Validity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          id,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("signing CA certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ParseCA(encodeCertificate(der), keyPEM)
}

// ParseCA reads an authority as CertPEM and KeyPEM wrote it. It refuses a
// certificate that is no authority, one that the key does not belong to, and
// keys that are not ECDSA.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	pair, err := ParseKeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("parsing CA: %w", err)
	}
	if !pair.Certificate.IsCA || pair.Certificate.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, errors.New("parsing CA: the certificate may not sign others")
	}
	return &CA{cert: pair.Certificate, key: pair.key, certPEM: pair.CertPEM, keyPEM: pair.KeyPEM}, nil
}

// FindCA reads the authority whose key is given out of a bundle that may hold
// others, too. The error says why the last certificate was not it.
func FindCA(bundlePEM, keyPEM []byte) (*CA, error) {
	certs, err := ParseBundle(bundlePEM)
	if err != nil {
		return nil, fmt.Errorf("reading authorities: %w", err)
	}
	for _, cert := range certs {
		var ca *CA
		if ca, err = ParseCA(encodeCertificate(cert.Raw), keyPEM); err == nil {
			return ca, nil
		}
	}
	return nil, err
}

// Certificate is the authority's own certificate. The caller must not change
// it.
func (ca *CA) Certificate() *x509.Certificate { return ca.cert }

// CertPEM is the certificate as one PEM block. The result is the caller's.
func (ca *CA) CertPEM() []byte { return append([]byte(nil), ca.certPEM...) }

// KeyPEM is the private key as one PKCS #8 PEM block. The result is the
// caller's, who must keep it secret.
func (ca *CA) KeyPEM() []byte { return append([]byte(nil), ca.keyPEM...) }

// Usage says in which role a leaf authenticates its holder.
type Usage int

const (
	// UsageServer is for the side that accepts connections: mysqld, an agent.
	UsageServer Usage = iota + 1
	// UsageClient is for the side that opens connections: the controller.
	UsageClient
	// UsagePeer is for both, as mysqld needs when a replica presents its own
	// certificate to its source.
	UsagePeer
)

// extended returns the extended key usages of u, nil for an unknown usage.
func (u Usage) extended() []x509.ExtKeyUsage {
	switch u {
	case UsageServer:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case UsageClient:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case UsagePeer:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	default:
		return nil
	}
}

// LeafRequest says what certificate CA.Leaf makes.
type LeafRequest struct {
	// CommonName is shown to people and may be matched by MySQL's REQUIRE
	// SUBJECT. At most 64 bytes, not empty. TLS clients do not look at it.
	CommonName string
	// DNSNames and IPs are the names under which the holder is reached or
	// recognised. A server's certificate needs at least one of them.
	DNSNames []string
	IPs      []net.IP
	// Usage is the role of the holder.
	Usage Usage
	// Validity is the time from now until the leaf ends; it is cut at the end
	// of the authority. It must be positive.
	Validity time.Duration
}

// Leaf makes a key and signs a certificate for it. The error wraps
// ErrInvalidRequest when the request is at fault. An authority that has ended
// signs nothing.
func (ca *CA) Leaf(now time.Time, req LeafRequest) (*KeyPair, error) {
	if err := checkLeaf(req); err != nil {
		return nil, err
	}
	if now.Before(ca.cert.NotBefore) || !now.Before(ca.cert.NotAfter) {
		return nil, fmt.Errorf("signing leaf certificate: the CA is valid from %s to %s only",
			ca.cert.NotBefore.Format(time.RFC3339), ca.cert.NotAfter.Format(time.RFC3339))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating leaf key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: req.CommonName},
		NotBefore:             latest(now.Add(-Backdate), ca.cert.NotBefore),
		NotAfter:              earliest(now.Add(req.Validity), ca.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           req.Usage.extended(),
		BasicConstraintsValid: true,
		DNSNames:              req.DNSNames,
		IPAddresses:           req.IPs,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("signing leaf certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ParseKeyPair(encodeCertificate(der), keyPEM)
}

func checkLeaf(req LeafRequest) error {
	if err := checkNameAndValidity(req.CommonName, req.Validity); err != nil {
		return err
	}
	if req.Usage.extended() == nil {
		return fmt.Errorf("%w: unknown usage %d", ErrInvalidRequest, req.Usage)
	}
	if req.Usage != UsageClient && len(req.DNSNames) == 0 && len(req.IPs) == 0 {
		return fmt.Errorf("%w: a server certificate needs a DNS name or an IP address", ErrInvalidRequest)
	}
	return nil
}

func checkNameAndValidity(commonName string, validity time.Duration) error {
	if commonName == "" || len(commonName) > maxCommonNameBytes {
		return fmt.Errorf("%w: the common name must have 1 to %d bytes, not %d",
			ErrInvalidRequest, maxCommonNameBytes, len(commonName))
	}
	if validity <= 0 {
		return fmt.Errorf("%w: the validity must be positive, not %s", ErrInvalidRequest, validity)
	}
	return nil
}

// keyID is the subject key identifier, by method 1 of RFC 7093: the leftmost
// 160 bits of the SHA-256 of the public key.
func keyID(pub *ecdsa.PublicKey) ([]byte, error) {
	bytes, err := pub.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	sum := sha256.Sum256(bytes)
	return sum[:20], nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
