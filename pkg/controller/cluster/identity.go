// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/pki"
)

const (
	// identitySecret holds the controller's own CA and client key; it never leaves the controller's namespace.
	identitySecret = "moco-controller-tls"
	// authorityValidity of a CA; identityValidity of the controller's client certificate; leafValidity of a server's.
	authorityValidity = 10 * 365 * 24 * time.Hour
	identityValidity  = 365 * 24 * time.Hour
	leafValidity      = 90 * 24 * time.Hour
)

// identity is what the controller proves itself to the agents with. It is immutable.
type identity struct {
	caPEM, certPEM, keyPEM []byte
}

// loadIdentity reads the controller's CA and client certificate, and makes or renews them. Two replicas that start
// together agree through the API server: the one that is second takes what the first has stored.
func loadIdentity(ctx context.Context, client kubernetes.Interface, namespace string, now time.Time) (*identity, error) {
	secrets := client.CoreV1().Secrets(namespace)
	live, err := secrets.Get(ctx, identitySecret, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		made, makeErr := newIdentity(namespace, now)
		if makeErr != nil {
			return nil, makeErr
		}
		live, err = secrets.Create(ctx, made, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			live, err = secrets.Get(ctx, identitySecret, metav1.GetOptions{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", identitySecret, err)
	}
	pair, err := pki.ParseKeyPair(live.Data[render.KeyTLSCert], live.Data[render.KeyTLSKey])
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w; delete it to have it made anew", identitySecret, err)
	}
	if pki.RenewalDue(pair.Certificate, now) {
		return renewIdentity(ctx, client, live, now)
	}
	return identityOf(live), nil
}

func identityOf(secret *corev1.Secret) *identity {
	return &identity{caPEM: secret.Data[render.KeyCACert], certPEM: secret.Data[render.KeyTLSCert], keyPEM: secret.Data[render.KeyTLSKey]}
}

func newIdentity(namespace string, now time.Time) (*corev1.Secret, error) {
	ca, err := pki.NewCA(now, pki.CARequest{CommonName: "moco-controller", Validity: authorityValidity})
	if err != nil {
		return nil, fmt.Errorf("making the controller's CA: %w", err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: identitySecret},
		Type:       corev1.SecretTypeOpaque,
		Data:       map[string][]byte{render.KeyCACert: ca.CertPEM(), render.KeyCAKey: ca.KeyPEM()},
	}
	return secret, signIdentity(secret, ca, now)
}

func signIdentity(secret *corev1.Secret, ca *pki.CA, now time.Time) error {
	leaf, err := ca.Leaf(now, pki.LeafRequest{CommonName: "moco-controller", Usage: pki.UsageClient, Validity: identityValidity})
	if err != nil {
		return fmt.Errorf("signing the controller's certificate: %w", err)
	}
	secret.Data[render.KeyTLSCert], secret.Data[render.KeyTLSKey] = leaf.CertPEM, leaf.KeyPEM
	return nil
}

func renewIdentity(ctx context.Context, client kubernetes.Interface, live *corev1.Secret, now time.Time) (*identity, error) {
	ca, err := pki.ParseCA(live.Data[render.KeyCACert], live.Data[render.KeyCAKey])
	if err != nil {
		return nil, fmt.Errorf("reading the controller's CA: %w", err)
	}
	renewed := live.DeepCopy()
	if err := signIdentity(renewed, ca, now); err != nil {
		return nil, err
	}
	stored, err := client.CoreV1().Secrets(live.Namespace).Update(ctx, renewed, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("storing the renewed certificate: %w", err)
	}
	return identityOf(stored), nil
}

// present makes holder what the controller presents to the agents of one cluster, and what it accepts from them.
func (i *identity) present(holder *pki.Holder, c *credentials) error {
	material, err := pki.NewMaterial(i.certPEM, i.keyPEM, c.bundlePEM)
	if err != nil {
		return fmt.Errorf("preparing TLS towards the agents: %w", err)
	}
	holder.Store(material)
	return nil
}
