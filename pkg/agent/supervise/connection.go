// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Bounds of a connection.
const (
	// queued messages a slow client may leave unread before it is cut off: it reads the state anew when it comes back.
	queued       = 64
	writeTimeout = 5 * time.Second
	maxInFlight  = 16
)

// connection is one client.
type connection struct {
	conn *net.UnixConn
	out  chan Message
	once sync.Once
	// closed ends the connection's orders that are still being carried out.
	closed chan struct{}
}

func (c *connection) close() {
	c.once.Do(func() {
		close(c.closed)
		_ = c.conn.Close()
	})
}

// send queues a message; a client that does not read is cut off.
func (c *connection) send(m Message) {
	select {
	case c.out <- m:
	default:
		c.close()
	}
}

func (s *supervisor) accept(ctx context.Context, listener *net.UnixListener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return // the listener was closed
		}
		wg.Go(func() { s.serve(ctx, conn) })
	}
}

// serve registers the connection with the state as its first message, and carries out its orders until it breaks.
func (s *supervisor) serve(ctx context.Context, conn *net.UnixConn) {
	c := &connection{conn: conn, out: make(chan Message, queued), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.close()
	if err := s.greet(c); err != nil {
		klog.FromContext(ctx).V(2).Info("Client did not take the state", "err", err)
		return
	}
	defer s.forget(c)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { c.write() })
	slots := make(chan struct{}, maxInFlight)
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		var req Request
		if json.Unmarshal(lines.Bytes(), &req) != nil {
			break
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.send(Message{Reply: s.carryOut(ctx, req)})
		})
	}
	c.close()
}

// greet writes the first state, with the lock's descriptor, and subscribes the connection to what follows.
func (s *supervisor) greet(c *connection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := json.Marshal(Message{State: &s.state})
	if err != nil {
		return err
	}
	var rights []byte
	if s.lock != nil {
		rights = unix.UnixRights(int(s.lock.Fd()))
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, _, err := c.conn.WriteMsgUnix(append(line, '\n'), rights, nil); err != nil {
		return err
	}
	s.conns[c] = struct{}{}
	s.lonely = time.Time{}
	return nil
}

func (s *supervisor) forget(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) == 0 {
		s.lonely = time.Now()
	}
}

func (s *supervisor) closeConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.close()
	}
}

// write sends what is queued until the connection is closed.
func (c *connection) write() {
	encoder := json.NewEncoder(c.conn)
	for {
		select {
		case m := <-c.out:
			_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if encoder.Encode(m) != nil {
				c.close()
				return
			}
		case <-c.closed:
			return
		}
	}
}

func (s *supervisor) carryOut(ctx context.Context, req Request) *Reply {
	reply := &Reply{ID: req.ID}
	var err error
	switch req.Op {
	case OpStart:
		reply.StartID, err = s.start(ctx, req.StartID, req.Args)
	case OpRun:
		reply.Exit, reply.Output, err = s.run(ctx, req.Args, time.Duration(req.TimeoutMillis)*time.Millisecond)
	case OpStop, OpKill:
		err = s.end(ctx, req.Op, req.StartID)
	default:
		reply.Error = "unknown order " + string(req.Op)
	}
	if err != nil {
		reply.Error = err.Error()
	}
	return reply
}
