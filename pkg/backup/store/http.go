// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// The keys of a store's credentials.
const (
	keyAccessKeyID     = "accessKeyID"
	keySecretAccessKey = "secretAccessKey"
	keySessionToken    = "sessionToken"
	keyServiceAccount  = "serviceAccount.json"
	keyAccountKey      = "accountKey"
	keyCA              = "ca.crt"
)

// credential returns a credential that must be there, without the white space that editors put at the end of a file.
func credential(s wire.Store, key string) (string, error) {
	value := strings.TrimSpace(s.Credentials[key])
	if value == "" {
		return "", invalid("the credentials of the store have no %s", key)
	}
	return value, nil
}

// client returns an HTTP client that trusts the system's CAs and those of the store.
func client(s wire.Store, o Options) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if ca := s.Credentials[keyCA]; ca != "" && !pool.AppendCertsFromPEM([]byte(ca)) {
		return nil, invalid("%s of the store's credentials holds no certificate in PEM", keyCA)
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: o.RequestTimeout,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConnsPerHost:   16,
			ForceAttemptHTTP2:     true,
			// What is stored is compressed already, and its length counts as it is.
			DisableCompression: true,
		},
		// A store that sends its clients elsewhere would get them to take the credentials there.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// checkEndpoint reports whether an endpoint is a URL of nothing but a scheme, a host and perhaps a path.
func checkEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// Not quoted: it may hold a password.
		return nil, invalid("the endpoint of the store is no URL like https://host:port")
	}
	return u, nil
}
