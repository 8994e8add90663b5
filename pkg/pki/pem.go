// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// MaxPEMBytes bounds the PEM text that the parsers of this package read.
const MaxPEMBytes = 256 << 10

// maxBundleCertificates bounds a bundle. A rotation needs two.
const maxBundleCertificates = 16

const (
	blockCertificate = "CERTIFICATE"
	blockPrivateKey  = "PRIVATE KEY"
)

// KeyPair is a certificate with its private key.
type KeyPair struct {
	// Certificate is the parsed form of CertPEM. It must not be changed.
	Certificate *x509.Certificate
	// CertPEM is the certificate as one PEM block.
	CertPEM []byte
	// KeyPEM is the private key as one PKCS #8 PEM block. It is secret.
	KeyPEM []byte

	key *ecdsa.PrivateKey
}

// ParseKeyPair reads one certificate and its ECDSA key, and checks that they
// belong together. It does not look at the time: a certificate that has ended
// parses, so that RenewalDue can be asked about it.
func ParseKeyPair(certPEM, keyPEM []byte) (*KeyPair, error) {
	certs, err := ParseBundle(certPEM)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("parsing certificate: want one PEM block, got %d", len(certs))
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, errors.New("parsing key pair: the private key does not belong to the certificate")
	}
	return &KeyPair{
		Certificate: certs[0],
		CertPEM:     slices.Clone(certPEM),
		KeyPEM:      slices.Clone(keyPEM),
		key:         key,
	}, nil
}

// SignedBy tells whether one of the authorities in the bundle signed the pair's
// certificate. Validity periods and names are not looked at.
func (p *KeyPair) SignedBy(authorities []*x509.Certificate) bool {
	return slices.ContainsFunc(authorities, func(ca *x509.Certificate) bool {
		return p.Certificate.CheckSignatureFrom(ca) == nil
	})
}

// ParseBundle reads all certificates of PEM text, in order. Other kinds of
// block, text without any certificate, more than 16 of them, and text beyond
// MaxPEMBytes are errors.
func ParseBundle(text []byte) ([]*x509.Certificate, error) {
	if len(text) > MaxPEMBytes {
		return nil, fmt.Errorf("parsing certificates: %d bytes are more than the %d allowed", len(text), MaxPEMBytes)
	}
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != blockCertificate {
			return nil, fmt.Errorf("parsing certificates: unexpected PEM block %q", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing certificates: %w", err)
		}
		if certs = append(certs, cert); len(certs) > maxBundleCertificates {
			return nil, fmt.Errorf("parsing certificates: more than %d in a bundle", maxBundleCertificates)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("parsing certificates: no PEM block found")
	}
	return certs, nil
}

// Bundle joins the authorities into the text of one ca.crt: each certificate
// once, in the order given, without those that have ended. It is how an
// authority is rotated without an interruption:
//
//  1. make the new authority; publish Bundle(new, old), go on signing with the old;
//  2. when everybody has read the bundle, sign all leaves with the new;
//  3. when no leaf of the old one is in use, publish Bundle(new).
//
// It is an error if nothing is left.
func Bundle(now time.Time, authorities ...*x509.Certificate) ([]byte, error) {
	var out bytes.Buffer
	var seen []*x509.Certificate
	for _, cert := range authorities {
		if !now.Before(cert.NotAfter) || slices.ContainsFunc(seen, cert.Equal) {
			continue
		}
		if seen = append(seen, cert); len(seen) > maxBundleCertificates {
			return nil, fmt.Errorf("bundling authorities: more than %d", maxBundleCertificates)
		}
		out.Write(encodeCertificate(cert.Raw))
	}
	if len(seen) == 0 {
		return nil, errors.New("bundling authorities: none is valid any more")
	}
	return out.Bytes(), nil
}

// RenewalTime is the moment from which a certificate is to be replaced: when
// two thirds of the time between its beginning and its end have passed, so that
// a third is left for repeated failures to renew it.
func RenewalTime(cert *x509.Certificate) time.Time {
	life := cert.NotAfter.Sub(cert.NotBefore)
	return cert.NotBefore.Add(life / 3 * 2)
}

// RenewalDue tells whether cert is to be replaced at the time now.
func RenewalDue(cert *x509.Certificate, now time.Time) bool {
	return !now.Before(RenewalTime(cert))
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	if len(text) > MaxPEMBytes {
		return nil, fmt.Errorf("parsing private key: more than %d bytes", MaxPEMBytes)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != blockPrivateKey {
		return nil, errors.New("parsing private key: no PKCS #8 PEM block found")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing private key: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("parsing private key: want an ECDSA key, got %T", key)
	}
	return ec, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPrivateKey, Bytes: der}), nil
}
