// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/moco-mysql/moco/pkg/agent/api"
)

// Bounds of the connections a Client makes.
const (
	clientDialTimeout = 2 * time.Second
	clientIdleTimeout = 2 * time.Minute
	// clientGrace is added to a command's own deadline for the way there and back.
	clientGrace = 2 * time.Second
)

// Client talks to the control API of one agent. It is safe for concurrent use. Errors that the agent itself answered
// are *api.Error (errors.As); everything else means that the outcome of the call is unknown.
type Client struct {
	base string
	http *http.Client
}

// NewClient makes a client of the agent at host, an IP address, and port. tlsConfig holds the coordinator's certificate
// and what it demands of the agent's; nil means plain HTTP, which no agent outside of a test serves. Nothing is dialled
// before the first call.
func NewClient(host string, port int32, tlsConfig *tls.Config) *Client {
	scheme := "https"
	if tlsConfig == nil {
		scheme = "http"
	}
	dialer := &net.Dialer{Timeout: clientDialTimeout, KeepAlive: 5 * time.Second}
	return &Client{
		base: scheme + "://" + net.JoinHostPort(host, strconv.Itoa(int(port))),
		http: &http.Client{Transport: &http.Transport{
			DialContext:         dialer.DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: clientDialTimeout,
			IdleConnTimeout:     clientIdleTimeout,
			MaxIdleConns:        4,
		}},
	}
}

// Close drops the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Stream calls handle with every Status the agent pushes: the first at once, then one on every change and at least one
// a second. It returns when ctx ends, when the connection breaks, or with the error of handle, never nil. The caller
// watches for silence itself, by its own clock, and ends ctx when it has lasted too long. handle owns what it is given
// and must not block: nothing is read meanwhile.
func (c *Client) Stream(ctx context.Context, handle func(*api.Status) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+api.StatusStreamPath, nil)
	if err != nil {
		return fmt.Errorf("preparing the status stream: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("opening the status stream: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return readError(resp)
	}
	return readStatuses(resp.Body, handle)
}

func readStatuses(body io.Reader, handle func(*api.Status) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 16<<10), api.MaxBody)
	for lines.Scan() {
		status := &api.Status{}
		if err := json.Unmarshal(lines.Bytes(), status); err != nil {
			return fmt.Errorf("decoding a status: %w", err)
		}
		if err := handle(status); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading the status stream: %w", err)
	}
	return fmt.Errorf("reading the status stream: %w", io.ErrUnexpectedEOF)
}

// Command sends one command: name is one of the api.Command constants and request its request type, whose envelope
// holds a deadline. The call ends when ctx does or, at the latest, shortly after the command's own deadline.
func (c *Client) Command(ctx context.Context, name api.CommandName, request api.Request) (api.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, request.Header().Deadline()+clientGrace)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return api.Reply{}, fmt.Errorf("encoding %s: %w", name, err)
	}
	if len(body) > api.MaxBody {
		return api.Reply{}, &api.Error{Reason: api.ErrorInvalid, Message: fmt.Sprintf("%s has %d bytes, the most is %d", name, len(body), api.MaxBody)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+api.CommandPath(name), bytes.NewReader(body))
	if err != nil {
		return api.Reply{}, fmt.Errorf("preparing %s: %w", name, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return api.Reply{}, fmt.Errorf("sending %s: %w", name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return api.Reply{}, readError(resp)
	}
	var reply api.Reply
	if err := json.NewDecoder(io.LimitReader(resp.Body, api.MaxBody)).Decode(&reply); err != nil {
		return api.Reply{}, fmt.Errorf("decoding the reply to %s: %w", name, err)
	}
	return reply, nil
}

// readError turns an answer that is not 200 into the agent's own error, if it holds one.
func readError(resp *http.Response) error {
	answered := &api.Error{}
	err := json.NewDecoder(io.LimitReader(resp.Body, api.MaxBody)).Decode(answered)
	if err != nil || answered.Reason == "" {
		return errors.Join(fmt.Errorf("reading the agent's answer: unexpected status %s", resp.Status), err)
	}
	return answered
}
