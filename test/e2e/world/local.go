// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// repairTimeout bounds the undoing of a fault after a test.
const repairTimeout = 60 * time.Second

// Local runs hack/local-cluster.sh.
func (w *World) Local(ctx context.Context, arguments ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(w.Repo, "hack/local-cluster.sh"), arguments...)
	command.Dir = w.Repo
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("local-cluster %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Break brings a fault on with one command of the local cluster and returns what ends it with another. The fault ends with
// the test, too.
func (w *World) Break(t testing.TB, fault, repair []string) (mend func()) {
	t.Helper()
	mend = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), repairTimeout)
		defer cancel()
		if err := w.Local(ctx, repair...); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(mend)
	if err := w.Local(t.Context(), fault...); err != nil {
		t.Fatal(err)
	}
	return mend
}

// CutNode takes the cable of a node out until the returned function is called. What runs on the node goes on.
func (w *World) CutNode(t testing.TB, node string) (heal func()) {
	t.Helper()
	return w.Break(t, []string{"node-cut", node}, []string{"node-heal", node})
}

// StopAPI stops the API server until the returned function is called.
func (w *World) StopAPI(t testing.TB) (start func()) {
	t.Helper()
	return w.Break(t, []string{"api-stop"}, []string{"api-start"})
}

// ServiceFrom opens a pool of connections to the address of a Service of a cluster, from the network of a node, as the
// login and over verified TLS: the way of a client that runs there, kube-proxy included. It needs no API server later.
func (w *World) ServiceFrom(t testing.TB, node, namespace, cluster, service string, login Login) *sql.DB {
	t.Helper()
	address := w.clusterIP(t, namespace, service)
	return w.pool(t, namespace, cluster, service+"."+namespace+".svc", login, from(node), func(context.Context) (string, error) { return address, nil })
}

// BareServiceFrom is ServiceFrom for servers of a test's own, whose certificate nobody vouches for.
func (w *World) BareServiceFrom(t testing.TB, node, namespace, service string, login Login) *sql.DB {
	t.Helper()
	address := w.clusterIP(t, namespace, service)
	config := configure(login)
	config.TLSConfig = "skip-verify"
	return open(t, config, from(node), func(context.Context) (string, error) { return address, nil })
}

func (w *World) clusterIP(t testing.TB, namespace, service string) string {
	t.Helper()
	found, err := w.Kubernetes.CoreV1().Services(namespace).Get(t.Context(), service, metav1.GetOptions{})
	if err != nil {
		t.Fatalf("reading Service %s: %v", service, err)
	}
	return found.Spec.ClusterIP
}

// Beside opens a pool of connections to one instance from the network of the node it runs on, so that they are up while
// the node is cut off. When the API server does not answer the instance is looked for where it was last.
func (w *World) Beside(t testing.TB, node, namespace, cluster, pod string, login Login) *sql.DB {
	t.Helper()
	host := fmt.Sprintf("%s.%s-mysql-headless.%s.svc", pod, cluster, namespace)
	find := w.address(namespace, pod)
	last, err := find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	return w.pool(t, namespace, cluster, host, login, from(node), func(ctx context.Context) (string, error) {
		address, err := find(ctx)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && address != "" {
			last = address
		}
		return last, nil
	})
}

// from dials from the network namespace of a node of the local cluster. A socket belongs to the namespace that its thread
// was in when it was made, so every dial has a thread of its own, which ends with its goroutine.
func from(node string) dialer {
	type dialed struct {
		conn net.Conn
		err  error
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		done := make(chan dialed, 1)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread must not be used again
			if err := enter("/run/netns/moco-" + node); err != nil {
				done <- dialed{err: &net.OpError{Op: "dial", Net: network, Err: err}}
				return
			}
			conn, err := here(ctx, network, address)
			done <- dialed{conn: conn, err: err}
		}()
		d := <-done
		return d.conn, d.err
	}
}

// enter moves the thread into a network namespace.
func enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering %s: %w", path, err)
	}
	return nil
}

// BareServersFrom opens a pool of connections, from the network of a node, to whichever of some servers of a test's own
// takes writes: every new connection goes to the next one, and one to a server that is read-only is given up.
func (w *World) BareServersFrom(t testing.TB, node, namespace string, pods []string, login Login) *sql.DB {
	t.Helper()
	var addresses []string
	for _, pod := range pods {
		address, err := w.address(namespace, pod)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, address)
	}
	var dials atomic.Uint64
	config := configure(login)
	config.TLSConfig, config.RejectReadOnly = "skip-verify", true
	return open(t, config, from(node), func(context.Context) (string, error) {
		return addresses[dials.Add(1)%uint64(len(addresses))], nil
	})
}
