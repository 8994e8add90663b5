// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mysqlPort of Pods and Services.
const mysqlPort = "3306"

// dialTimeout bounds a connection attempt.
const dialTimeout = 2 * time.Second

// Login is who to log in as, and where to.
type Login struct {
	User, Password, Database string
}

// SecretLogin reads a login from a Secret of a cluster, for example app or account-root.
func (w *World) SecretLogin(ctx context.Context, namespace, cluster, suffix string) (Login, error) {
	name := cluster + "-mysql-" + suffix
	secret, err := w.Kubernetes.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Login{}, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	return Login{User: string(secret.Data["username"]), Password: string(secret.Data["password"]), Database: string(secret.Data["database"])}, nil
}

// Service opens a pool of connections to where a Service leads, as the login, over verified TLS. The addresses are read
// from the Service's EndpointSlices for every new connection, because a Service's own address is reachable from the nodes
// only. The certificate must be good for the Service's name, as for a client in a Pod. The pool is closed after the test.
func (w *World) Service(t testing.TB, namespace, cluster, service string, login Login) *sql.DB {
	t.Helper()
	return w.pool(t, namespace, cluster, service+"."+namespace+".svc", login, here, func(ctx context.Context) (string, error) {
		return w.Endpoint(ctx, namespace, service)
	})
}

// Primary is Service for the primary Service of a cluster and its application's login.
func (w *World) Primary(t testing.TB, namespace, cluster string) *sql.DB {
	t.Helper()
	login, err := w.SecretLogin(t.Context(), namespace, cluster, "app")
	if err != nil {
		t.Fatal(err)
	}
	return w.Service(t, namespace, cluster, cluster+"-mysql", login)
}

// Instance opens a pool of connections to one instance.
func (w *World) Instance(t testing.TB, namespace, cluster, pod string, login Login) *sql.DB {
	t.Helper()
	host := fmt.Sprintf("%s.%s-mysql-headless.%s.svc", pod, cluster, namespace)
	return w.pool(t, namespace, cluster, host, login, here, w.address(namespace, pod))
}

// Bare opens a pool of connections to a server of a test's own, without TLS.
func (w *World) Bare(t testing.TB, namespace, pod string, login Login) *sql.DB {
	t.Helper()
	return open(t, configure(login), here, w.address(namespace, pod))
}

// address finds where a Pod is.
func (w *World) address(namespace, pod string) finder {
	return func(ctx context.Context) (string, error) {
		found, err := w.Pod(ctx, namespace, pod)
		if err != nil {
			return "", err
		}
		return found.Status.PodIP, nil
	}
}

// Endpoint returns the first ready address behind a Service.
func (w *World) Endpoint(ctx context.Context, namespace, service string) (string, error) {
	slices, err := w.Kubernetes.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
	if err != nil {
		return "", fmt.Errorf("reading the endpoints of %s: %w", service, err)
	}
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
				return endpoint.Addresses[0], nil
			}
		}
	}
	return "", fmt.Errorf("service %s leads nowhere", service)
}

func (w *World) pool(t testing.TB, namespace, cluster, host string, login Login, from dialer, find finder) *sql.DB {
	t.Helper()
	secret, err := w.Kubernetes.CoreV1().Secrets(namespace).Get(t.Context(), cluster+"-mysql-ca", metav1.GetOptions{})
	if err != nil {
		t.Fatalf("reading the CA of %s: %v", cluster, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret.Data["ca.crt"]) {
		t.Fatalf("the CA of %s holds no certificate", cluster)
	}
	config := configure(login)
	config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host}
	return open(t, config, from, find)
}

func configure(login Login) *driver.Config {
	config := driver.NewConfig()
	config.User, config.Passwd, config.DBName = login.User, login.Password, login.Database
	config.Net, config.Addr = "tcp", "by-name:"+mysqlPort
	config.Timeout, config.MultiStatements, config.AllowNativePasswords = dialTimeout, true, false
	config.Logger = log.New(io.Discard, "", 0) // errors are returned
	return config
}

// finder tells the address of a server; "" while it has none.
type finder func(ctx context.Context) (string, error)

// dialer opens a connection to an address with its port.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// here dials from the machine that runs the test.
func here(ctx context.Context, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
}

func open(t testing.TB, config *driver.Config, from dialer, find finder) *sql.DB {
	t.Helper()
	config.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
		address, err := find(ctx)
		if err == nil && address == "" {
			err = errors.New("no address yet")
		}
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
		return from(ctx, network, net.JoinHostPort(address, mysqlPort))
	}
	connector, err := driver.NewConnector(config)
	if err != nil {
		t.Fatalf("configuring a connection: %v", err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
