// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package children

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

const kindSecret = "Secret"

// EnsureAccounts makes the Secrets of all accounts, adopts kept ones, completes emptied ones, and returns the logins in
// the order of render.Accounts. What is intact stays, so a password changes only when it was lost.
func (c *Control) EnsureAccounts(ctx context.Context, cluster *v1beta1.MySQLCluster) ([]api.Account, error) {
	accounts := render.Accounts()
	logins := make([]api.Account, 0, len(accounts))
	for _, account := range accounts {
		secret, err := c.ensureFilled(ctx, cluster, render.AccountSecretName(cluster, account),
			func(live map[string][]byte) (*corev1.Secret, error) {
				return render.AccountSecret(cluster, account, live, c.Random)
			})
		if err != nil {
			return nil, err
		}
		logins = append(logins, login(secret))
	}
	return logins, nil
}

// EnsureApplication does the same for the Secret of bootstrap.user; nil when the spec names none.
func (c *Control) EnsureApplication(ctx context.Context, cluster *v1beta1.MySQLCluster) (*api.Account, error) {
	if cluster.Spec.Bootstrap == nil || cluster.Spec.Bootstrap.User == "" {
		return nil, nil
	}
	secret, err := c.ensureFilled(ctx, cluster, render.ApplicationSecretName(cluster),
		func(live map[string][]byte) (*corev1.Secret, error) {
			return render.ApplicationSecret(cluster, live, c.Random)
		})
	if err != nil {
		return nil, err
	}
	found := login(secret)
	return &found, nil
}

func login(secret *corev1.Secret) api.Account {
	return api.Account{
		Username: string(secret.Data[render.KeyUsername]), Password: string(secret.Data[render.KeyPassword]),
	}
}

// ensureFilled reads the live Secret, has the wanted one made from it and writes that.
func (c *Control) ensureFilled(ctx context.Context, cluster *v1beta1.MySQLCluster, name string, fill func(live map[string][]byte) (*corev1.Secret, error)) (*corev1.Secret, error) {
	live, err := c.secret(ctx, cluster, name)
	if err != nil {
		return nil, err
	}
	var data map[string][]byte
	if live != nil {
		data = live.Data
	}
	desired, err := fill(data)
	if err != nil {
		return nil, fmt.Errorf("making %s %s: %w", kindSecret, name, err)
	}
	return c.writeSecret(ctx, cluster, desired, live)
}

// ReadSecret returns the content of one of the cluster's own Secrets, nil when there is none; a *Foreign when there is
// one that is not its own.
func (c *Control) ReadSecret(ctx context.Context, cluster *v1beta1.MySQLCluster, name string) (map[string][]byte, error) {
	live, err := c.secret(ctx, cluster, name)
	if err != nil || live == nil {
		return nil, err
	}
	return live.Data, nil
}

// EnsureSecret makes the Secret as desired, whatever the live one holds. It is for the certificates; EnsureAccounts is
// for what must not be lost.
func (c *Control) EnsureSecret(ctx context.Context, cluster *v1beta1.MySQLCluster, desired *corev1.Secret) (*corev1.Secret, error) {
	live, err := c.secret(ctx, cluster, desired.Name)
	if err != nil {
		return nil, err
	}
	return c.writeSecret(ctx, cluster, desired, live)
}

// secret returns the live Secret after the check of its ownership, or nil.
func (c *Control) secret(ctx context.Context, cluster *v1beta1.MySQLCluster, name string) (*corev1.Secret, error) {
	live, err := c.Client.CoreV1().Secrets(cluster.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kindSecret, name, err)
	}
	if err := secretRule(cluster, name)(cluster, kindSecret, live); err != nil {
		return nil, err
	}
	return live, nil
}

// writeSecret writes against the Secret that was read, nil for none. When another writer made one meanwhile, it is an
// AlreadyExists error, because desired was made without knowing its passwords.
func (c *Control) writeSecret(ctx context.Context, cluster *v1beta1.MySQLCluster, desired, live *corev1.Secret) (*corev1.Secret, error) {
	client := c.Client.CoreV1().Secrets(cluster.Namespace)
	w := &writer[corev1.Secret, *corev1.Secret]{
		client: client, cluster: cluster, kind: kindSecret, ours: secretRule(cluster, desired.Name),
	}
	if live == nil {
		made, err := client.Create(ctx, desired, createOptions())
		if err != nil {
			return nil, fmt.Errorf("creating %s %s: %w", kindSecret, desired.Name, err)
		}
		logWritten(ctx, "Created", kindSecret, desired)
		return made, nil
	}
	if same, err := w.same(desired, live); err != nil || same {
		return live, err
	}
	return w.apply(ctx, desired, live)
}

func secretRule(cluster *v1beta1.MySQLCluster, name string) ownership {
	if name == render.TLSSecretName(cluster) {
		return belongs
	}
	return outlives
}
