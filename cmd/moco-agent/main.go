// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// version is set by the linker.
var version = "development"

func main() {
	root := &cobra.Command{
		Use: "moco-agent", Short: "Runs one MySQL instance of a MOCO cluster",
		SilenceUsage: true, SilenceErrors: true, Version: version,
	}
	logFlags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logFlags)
	root.PersistentFlags().AddGoFlag(logFlags.Lookup("v"))
	root.AddCommand(serveCommand(), superviseCommand(), installCommand())
	if err := root.ExecuteContext(klog.NewContext(context.Background(), klog.Background())); err != nil {
		fmt.Fprintln(os.Stderr, "moco-agent:", err)
		os.Exit(1)
	}
}

// environment returns a variable that the Pod sets, or otherwise.
func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

// bootID identifies this boot of the host.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return string(text[:min(len(text), 36)]), nil
}
