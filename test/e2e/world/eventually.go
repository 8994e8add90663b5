// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	// interval between two looks at a condition.
	interval = 250 * time.Millisecond
	// lookTimeout bounds one look.
	lookTimeout = 15 * time.Second
	// printTimeout bounds the printing of the world.
	printTimeout = 60 * time.Second
	// maxPrinted bounds each part of what is printed, in bytes; the end is kept.
	maxPrinted = 12 << 10
)

// Eventually waits until check returns nil. When that does not happen within the time it prints the world, the namespace
// above all, and ends the test. It must be called on the goroutine of the test.
func (w *World) Eventually(t testing.TB, namespace, what string, within time.Duration, check func(ctx context.Context) error) {
	t.Helper()
	if err := w.Wait(t.Context(), within, check); err != nil {
		t.Fatalf("waited %s for: %s\nstill: %v\n%s", within, what, err, w.Describe(namespace))
	}
}

// Wait waits until check returns nil and returns what it said last when the time has passed.
func (w *World) Wait(ctx context.Context, within time.Duration, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	end, _ := ctx.Deadline()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := errors.New("there was no time to look")
	for {
		look, done := context.WithTimeout(ctx, lookTimeout)
		err := check(look)
		hurried := look.Err() != nil || time.Until(end) < interval/2
		done()
		if err == nil {
			return nil
		}
		if !hurried {
			last = err // what a look says that was cut short is not news
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last
		}
	}
}

// Fatal ends a test with the world printed.
func (w *World) Fatal(t testing.TB, namespace, format string, arguments ...any) {
	t.Helper()
	t.Fatalf("%s\n%s", fmt.Sprintf(format, arguments...), w.Describe(namespace))
}

// Describe is what a person would look at when something in a namespace is wrong.
func (w *World) Describe(namespace string) string {
	ctx, cancel := context.WithTimeout(context.Background(), printTimeout)
	defer cancel()
	var out strings.Builder
	for _, look := range [][]string{
		{"get", "nodes,pv"},
		{"get", "mysqlclusters,pods,pvc,pdb,svc,endpointslices", "-n", namespace, "-o", "wide"},
		{"get", "mysqlclusters", "-n", namespace, "-o", "yaml"},
		{"get", "events", "-n", namespace, "--sort-by=.lastTimestamp"},
		{"get", "pods", "-n", SystemNamespace, "-o", "wide"},
		{"logs", "-n", SystemNamespace, "-l", "app.kubernetes.io/component=controller", "--tail=60", "--prefix"},
		{"logs", "-n", namespace, "-l", "moco.dev/cluster", "-c", "agent", "--tail=25", "--prefix"},
		{"logs", "-n", namespace, "-l", "moco.dev/cluster", "-c", "mysql", "--tail=15", "--prefix"},
	} {
		printed, err := w.Kubectl(ctx, look...)
		if err != nil {
			printed += "\n" + err.Error()
		}
		fmt.Fprintf(&out, "--- kubectl %s\n%s\n", strings.Join(look, " "), tail(printed))
	}
	return out.String()
}

func tail(text string) string {
	if len(text) <= maxPrinted {
		return text
	}
	return "…" + text[len(text)-maxPrinted:]
}
