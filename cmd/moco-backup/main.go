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
		Use: "moco-backup", Short: "Backs up a MOCO cluster and keeps what is stored in order",
		SilenceUsage: true, SilenceErrors: true, Version: version,
	}
	logFlags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logFlags)
	root.PersistentFlags().AddGoFlag(logFlags.Lookup("v"))
	root.AddCommand(runCommand(), installCommand())
	if err := root.ExecuteContext(klog.NewContext(context.Background(), klog.Background())); err != nil {
		fmt.Fprintln(os.Stderr, "moco-backup:", err)
		os.Exit(1)
	}
}
