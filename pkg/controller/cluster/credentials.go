// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
	"github.com/moco-mysql/moco/pkg/pki"
)

// credentialsAge is how long what was read of a cluster's Secrets is used. There is no watch on Secrets, because that
// would show the controller every Secret of a namespace; so an emptied Secret is noticed after this time at the latest.
const credentialsAge = 30 * time.Second

// credentials are the content of a cluster's own Secrets.
type credentials struct {
	readAt      time.Time
	accounts    []api.Account
	application *api.Account
	// ca signs; bundlePEM is what the parts of the cluster trust: the CA and, for a while, the one before it.
	ca        *pki.CA
	bundlePEM []byte
}

// login returns the user and password of a fixed account.
func (c *credentials) login(account render.Account) (user, password string) {
	for _, a := range c.accounts {
		if a.Username == string(account) {
			return a.Username, a.Password
		}
	}
	return string(account), ""
}

// fingerprint changes with everything an instance keeps of the credentials.
func (c *credentials) fingerprint() string {
	parts := []string{string(c.bundlePEM)}
	for _, a := range c.accounts {
		parts = append(parts, a.Username, a.Password)
	}
	if c.application != nil {
		parts = append(parts, c.application.Username, c.application.Password)
	}
	return digest(parts...)
}

// loadCredentials reads or makes the cluster's Secrets, unless that was done a moment ago.
func (c *Controller) loadCredentials(ctx context.Context, w *world) error {
	if known := w.memory.credentials; known != nil && c.now().Sub(known.readAt) < credentialsAge {
		return nil
	}
	loaded := &credentials{readAt: c.now()}
	var err error
	if loaded.accounts, err = c.children.EnsureAccounts(ctx, w.cluster); err != nil {
		return fmt.Errorf("keeping the account Secrets: %w", err)
	}
	if loaded.application, err = c.children.EnsureApplication(ctx, w.cluster); err != nil {
		return fmt.Errorf("keeping the Secret of bootstrap.user: %w", err)
	}
	if loaded.ca, loaded.bundlePEM, err = c.authority(ctx, w.cluster); err != nil {
		return err
	}
	if err := c.agentCertificate(ctx, w.cluster, loaded); err != nil {
		return err
	}
	if err := c.identity.Load().present(&w.memory.trust, loaded); err != nil {
		return err
	}
	w.memory.credentials = loaded
	return nil
}

// authority reads, makes or renews the CA of a cluster. The one before it stays in the bundle, so that what it signed is
// trusted until it is replaced.
func (c *Controller) authority(ctx context.Context, cluster *v1beta1.MySQLCluster) (*pki.CA, []byte, error) {
	name := render.CASecretName(cluster)
	data, err := c.children.ReadSecret(ctx, cluster, name)
	if err != nil {
		return nil, nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	trusted, bundleErr := pki.ParseBundle(data[render.KeyCACert])
	var current *pki.CA
	if bundleErr == nil && len(data[render.KeyCAKey]) > 0 {
		current, err = pki.FindCA(data[render.KeyCACert], data[render.KeyCAKey])
		if err != nil {
			return nil, nil, fmt.Errorf("reading Secret %s: %w; delete it to have a new CA made", name, err)
		}
	}
	if current == nil || pki.RenewalDue(current.Certificate(), c.now()) {
		current, err = pki.NewCA(c.now(), pki.CARequest{CommonName: "moco-" + cluster.Name, Validity: authorityValidity})
		if err != nil {
			return nil, nil, fmt.Errorf("making the CA of the cluster: %w", err)
		}
	}
	bundle, err := pki.Bundle(c.now(), append([]*x509.Certificate{current.Certificate()}, trusted...)...)
	if err != nil {
		return nil, nil, fmt.Errorf("bundling the CAs of the cluster: %w", err)
	}
	secret, err := render.CASecret(cluster, bundle, current.KeyPEM())
	if err != nil {
		return nil, nil, err
	}
	if _, err := c.children.EnsureSecret(ctx, cluster, secret); err != nil {
		return nil, nil, fmt.Errorf("keeping Secret %s: %w", name, err)
	}
	return current, bundle, nil
}

// agentCertificate keeps the Secret the agents serve with: a leaf for the names of all Pods, and who may command them.
func (c *Controller) agentCertificate(ctx context.Context, cluster *v1beta1.MySQLCluster, known *credentials) error {
	name := render.TLSSecretName(cluster)
	data, err := c.children.ReadSecret(ctx, cluster, name)
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", name, err)
	}
	files := render.TLSFiles{CA: known.bundlePEM, Certificate: data[render.KeyTLSCert], Key: data[render.KeyTLSKey], ControllerCA: c.identity.Load().caPEM}
	pair, err := pki.ParseKeyPair(files.Certificate, files.Key)
	if err != nil || pki.RenewalDue(pair.Certificate, c.now()) || !pair.SignedBy([]*x509.Certificate{known.ca.Certificate()}) {
		host := render.ServiceHost(cluster, render.HeadlessServiceName(cluster))
		pair, err = known.ca.Leaf(c.now(), pki.LeafRequest{
			CommonName: "moco-agent", DNSNames: []string{"*." + host}, Usage: pki.UsageServer, Validity: leafValidity,
		})
		if err != nil {
			return fmt.Errorf("signing the certificate of the agents: %w", err)
		}
		files.Certificate, files.Key = pair.CertPEM, pair.KeyPEM
	}
	secret, err := render.TLSSecret(cluster, files)
	if err != nil {
		return err
	}
	if _, err := c.children.EnsureSecret(ctx, cluster, secret); err != nil {
		return fmt.Errorf("keeping Secret %s: %w", name, err)
	}
	return nil
}
