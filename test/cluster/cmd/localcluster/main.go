// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Command localcluster runs real Kubernetes with three nodes on this machine.
// hack/local-cluster.sh builds and starts it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "local-cluster:", err)
		os.Exit(1)
	}
}
