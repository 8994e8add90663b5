// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moco-mysql/moco/test/e2e/world"
)

// installTimeout bounds the installation of the product.
const installTimeout = 5 * time.Minute

// suite is what all tests of this package share.
type suite struct {
	*world.World
	mu    sync.Mutex
	times []string
}

// the is set by TestMain before any test runs.
var the = &suite{}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	opened, err := world.Open(ctx)
	if errors.Is(err, world.ErrNoCluster) {
		fmt.Fprintln(os.Stderr, "run hack/local-cluster.sh up:", err)
		return 1
	}
	if err == nil {
		the.World = opened
		err = opened.Install(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	fmt.Printf("time per scenario:\n%s\n", strings.Join(the.times, "\n"))
	return code
}

// scenario runs one scenario and notes how long it took.
func scenario(t *testing.T, name string, body func(t *testing.T)) bool {
	t.Helper()
	return t.Run(name, func(t *testing.T) {
		began := time.Now()
		defer func() {
			the.mu.Lock()
			defer the.mu.Unlock()
			verdict := "ok  "
			if t.Failed() {
				verdict = "FAIL"
			}
			the.times = append(the.times, fmt.Sprintf("  %s %7.1fs  %s", verdict, time.Since(began).Seconds(), t.Name()))
		}()
		body(t)
	})
}

// must ends the test on an error.
func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}
