// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	greetTimeout = 5 * time.Second
	firstRead    = 64 << 10
)

// ErrDisconnected is wrapped by errors of a Client whose supervisor is gone or has closed the connection. Whether an
// order was carried out is unknown then.
var ErrDisconnected = errors.New("supervisor is disconnected")

// Client is one connection to a supervisor. It is safe for concurrent use. Once Done is closed it is of no more use but
// to Close, which must be called in any case: it gives the lock of the volume back.
type Client struct {
	conn *net.UnixConn
	lock *os.File

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed and replaced on every change
	nextID  int64
	waiting map[int64]chan Reply
	done    chan struct{}
}

// Dial connects to the supervisor that listens on socket and waits for its first state.
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to the supervisor: %w", err)
	}
	c := &Client{
		conn: conn.(*net.UnixConn), changed: make(chan struct{}),
		waiting: map[int64]chan Reply{}, done: make(chan struct{}),
	}
	rest, err := c.greet()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the supervisor's first state: %w", err), c.conn.Close(), c.closeLock())
	}
	go c.read(rest)
	return c, nil
}

// greet reads the first line, with which the descriptor of the lock comes, and returns what was read beyond it.
func (c *Client) greet() (io.Reader, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(greetTimeout)); err != nil {
		return nil, err
	}
	buffer, rights := make([]byte, firstRead), make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := c.conn.ReadMsgUnix(buffer, rights)
	if err != nil {
		return nil, err
	}
	if err := c.keepLock(rights[:oobn]); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(io.MultiReader(bytes.NewReader(buffer[:n]), c.conn))
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var first Message
	if err := json.Unmarshal(line, &first); err != nil {
		return nil, err
	}
	if first.State == nil {
		return nil, errors.New("the first message holds no state")
	}
	c.state = *first.State
	return reader, c.conn.SetReadDeadline(time.Time{})
}

func (c *Client) keepLock(rights []byte) error {
	if len(rights) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			if c.lock != nil {
				_ = unix.Close(fd)
				continue
			}
			c.lock = os.NewFile(uintptr(fd), "volume lock")
		}
	}
	return nil
}

func (c *Client) closeLock() error {
	if c.lock == nil {
		return nil
	}
	return c.lock.Close()
}

// Close ends the connection and gives back the lock of the volume: the caller has stopped using the volume.
func (c *Client) Close() error {
	err := c.conn.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // the supervisor was first
	}
	<-c.done
	return errors.Join(err, c.closeLock())
}

// Locked says whether the caller may use the volume until it calls Close.
func (c *Client) Locked() bool { return c.lock != nil }

// State returns the last state and a channel that is closed with the next one, or when the connection is lost.
func (c *Client) State() (State, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.changed
}

// Done is closed when the connection is lost, which is how the end of a whole container shows.
func (c *Client) Done() <-chan struct{} { return c.done }

func (c *Client) read(from io.Reader) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.done)
		close(c.changed)
		c.changed = make(chan struct{})
	}()
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		var m Message
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			break
		}
		c.take(m)
	}
	_ = c.conn.Close()
}

func (c *Client) take(m Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.State != nil {
		c.state = *m.State
		close(c.changed)
		c.changed = make(chan struct{})
	}
	if m.Reply != nil {
		if waiting, ok := c.waiting[m.Reply.ID]; ok {
			delete(c.waiting, m.Reply.ID)
			waiting <- *m.Reply
		}
	}
}

func (c *Client) order(ctx context.Context, req Request) (Reply, error) {
	answer := make(chan Reply, 1)
	if err := c.send(&req, answer); err != nil {
		return Reply{}, fmt.Errorf("ordering %s: %w: %w", req.Op, ErrDisconnected, err)
	}
	defer func() {
		c.mu.Lock()
		delete(c.waiting, req.ID)
		c.mu.Unlock()
	}()
	select {
	case reply := <-answer:
		if reply.Error != "" {
			return reply, fmt.Errorf("ordering %s: supervisor answered: %s", req.Op, reply.Error)
		}
		return reply, nil
	case <-c.done:
		return Reply{}, fmt.Errorf("ordering %s: %w", req.Op, ErrDisconnected)
	case <-ctx.Done():
		return Reply{}, fmt.Errorf("ordering %s: %w", req.Op, ctx.Err())
	}
}

func (c *Client) send(req *Request, answer chan Reply) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nextID++
	req.ID = c.nextID
	line, err := json.Marshal(req)
	if err != nil {
		return err
	}
	c.waiting[req.ID] = answer
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err = c.conn.Write(append(line, '\n'))
	return err
}

// Start starts mysqld with args, to be known as startID.
func (c *Client) Start(ctx context.Context, startID string, args []string) error {
	_, err := c.order(ctx, Request{Op: OpStart, StartID: startID, Args: args})
	return err
}

// Run runs the program with args for at most timeout. The error is nil when it ran to its end, whatever its exit code.
func (c *Client) Run(ctx context.Context, args []string, timeout time.Duration) (Exit, string, error) {
	reply, err := c.order(ctx, Request{Op: OpRun, Args: args, TimeoutMillis: timeout.Milliseconds()})
	if err != nil {
		return Exit{}, reply.Output, err
	}
	if reply.Exit == nil {
		return Exit{}, reply.Output, errors.New("ordering run: the reply holds no exit status")
	}
	return *reply.Exit, reply.Output, nil
}

// Stop sends SIGTERM to that start of mysqld, or to any for "". It does not wait for the end.
func (c *Client) Stop(ctx context.Context, startID string) error {
	_, err := c.order(ctx, Request{Op: OpStop, StartID: startID})
	return err
}

// Kill sends SIGKILL to that start of mysqld, or to any for "". It returns nil only after the process was reaped.
func (c *Client) Kill(ctx context.Context, startID string) error {
	_, err := c.order(ctx, Request{Op: OpKill, StartID: startID})
	return err
}

// AwaitExit waits until that start of mysqld is gone.
func (c *Client) AwaitExit(ctx context.Context, startID string) error {
	for {
		state, changed := c.State()
		if !state.Running || state.StartID != startID {
			return nil
		}
		select {
		case <-changed:
		case <-c.done:
			return fmt.Errorf("waiting for the end of mysqld: %w", ErrDisconnected)
		case <-ctx.Done():
			return fmt.Errorf("waiting for the end of mysqld: %w", ctx.Err())
		}
	}
}
