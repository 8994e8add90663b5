// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
)

// maxAnswer bounds what is read of an answer that is not an object: a page of a list has 1000 entries.
const maxAnswer = 8 * mib

// gcsTransport is the way of all requests to Google.
type gcsTransport struct {
	// base adds a token.
	base     http.RoundTripper
	endpoint *url.URL
}

// gcsCall is what belongs together of the requests that the library makes.
type gcsCall struct {
	// once: there is to be one request.
	once  bool
	asked atomic.Bool
	// session is the address of an upload, once there is one.
	session atomic.Pointer[string]
}

type gcsCallKey struct{}

func withCall(ctx context.Context, call *gcsCall) context.Context {
	return context.WithValue(ctx, gcsCallKey{}, call)
}

// errAskedAgain ends a call of one request.
var errAskedAgain = errors.New("the connection broke")

// RoundTrip sends a request to the endpoint, whatever host the address of an upload names, for with it goes the token. An
// answer that breaks off is none, unless it holds an object.
func (t *gcsTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	call, _ := request.Context().Value(gcsCallKey{}).(*gcsCall)
	if call != nil && call.once && call.asked.Swap(true) {
		if request.Body != nil {
			_ = request.Body.Close()
		}
		return nil, errAskedAgain
	}
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host, request.URL.User, request.Host = t.endpoint.Scheme, t.endpoint.Host, nil, ""
	response, err := t.base.RoundTrip(request)
	if err != nil || (request.URL.Query().Get("alt") == "media" && response.StatusCode < http.StatusMultipleChoices) {
		return response, err
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	_ = response.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	response.Body = io.NopCloser(bytes.NewReader(content))
	if session := response.Header.Get("Location"); call != nil && session != "" && response.StatusCode < http.StatusMultipleChoices {
		call.session.Store(&session)
	}
	return response, nil
}
