// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fault puts a proxy between pkg/backup/store and a server, which refuses, cuts off, loses and delays requests,
// and holds what must be true of a store nevertheless.
package fault

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"testing/iotest"
)

// Kind of a fault.
type Kind string

// The kinds.
const (
	None        Kind = ""
	Refuse      Kind = "503"                   // the server asks to slow down
	CutRequest  Kind = "cut request"           // the connection breaks after a part of the request's body reached the server
	CutAnswer   Kind = "cut answer"            // the connection breaks after a part of the answer's body
	LoseAnswer  Kind = "lost answer"           // the server does what is asked; the connection breaks before it says so
	Hang        Kind = "no answer"             // nothing happens
	Garbage     Kind = "answer of a proxy"     // something else answers with 502 and HTML
	BreakAtOnce Kind = "connection is refused" // the connection breaks at once
)

// cutAfter is how much of the body of an answer passes before a cut.
const cutAfter = 1000

var errCut = errors.New("cut off")

// Proxy forwards requests to a server, some of them badly.
type Proxy struct {
	// URL of the proxy.
	URL string

	lock  sync.Mutex
	seen  int
	judge func(n int, r *http.Request) Kind
}

// New starts a proxy for the server at target; it ends with the test.
func New(t *testing.T, target string) *Proxy {
	t.Helper()
	p := &Proxy{}
	p.Heal()
	server := httptest.NewServer(p.handler(t, target))
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p
}

// NewTLS is New with a certificate, which is returned.
func NewTLS(t *testing.T, target string) (*Proxy, *httptest.Server) {
	t.Helper()
	p := &Proxy{}
	p.Heal()
	server := httptest.NewTLSServer(p.handler(t, target))
	t.Cleanup(server.Close)
	p.URL = server.URL
	return p, server
}

// Judge sets what becomes of requests, which are counted from 1 on beginning now.
func (p *Proxy) Judge(judge func(n int, r *http.Request) Kind) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.seen, p.judge = 0, judge
}

// Heal lets all requests pass, and counts them anew.
func (p *Proxy) Heal() { p.Judge(func(int, *http.Request) Kind { return None }) }

// Seen is how many requests came since Judge or Heal.
func (p *Proxy) Seen() int {
	p.lock.Lock()
	defer p.lock.Unlock()
	return p.seen
}

func (p *Proxy) next(r *http.Request) Kind {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.seen++
	return p.judge(p.seen, r)
}

func (p *Proxy) handler(t *testing.T, target string) http.Handler {
	t.Helper()
	address, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forward := &httputil.ReverseProxy{
			FlushInterval: -1,
			ErrorLog:      log.New(io.Discard, "", 0),
			// The host stays as the client named it, for it is signed.
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = address.Scheme, address.Host, r.In.Host
			},
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		}
		serve(forward, p.next(r), w, r)
	})
}

func serve(forward *httputil.ReverseProxy, kind Kind, w http.ResponseWriter, r *http.Request) {
	switch kind {
	case None:
	case Refuse, Garbage:
		_, _ = io.Copy(io.Discard, r.Body)
		refuse(w, kind)
		return
	case CutRequest:
		if r.ContentLength == 0 {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, r.ContentLength/2), iotest.ErrReader(errCut)))
	case CutAnswer:
		forward.ModifyResponse = func(answer *http.Response) error {
			answer.Body = io.NopCloser(io.MultiReader(io.LimitReader(answer.Body, cutAfter), iotest.ErrReader(errCut)))
			return nil
		}
	case LoseAnswer:
		// What the client does when it hears nothing must not reach the server.
		forward.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
		panic(http.ErrAbortHandler)
	case Hang:
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case BreakAtOnce:
		panic(http.ErrAbortHandler)
	}
	forward.ServeHTTP(w, r)
}

func refuse(w http.ResponseWriter, kind Kind) {
	if kind == Garbage {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html><body>bad gateway</body></html>")
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
}
