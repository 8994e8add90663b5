// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/moco-mysql/moco/pkg/agent/supervise"
)

func superviseCommand() *cobra.Command {
	var dataRoot, runDir string
	cfg := supervise.Config{Stdout: os.Stdout, Stderr: os.Stderr}
	cmd := &cobra.Command{
		Use: "supervise", Short: "Runs mysqld on the orders of the agent, as PID 1 of its container", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			boot, err := bootID()
			if err != nil {
				return err
			}
			cfg.Holder.BootID = boot
			cfg.LockFile = filepath.Join(dataRoot, "lock")
			cfg.Socket = filepath.Join(runDir, "supervisor.sock")
			return supervise.Run(cmd.Context(), cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dataRoot, "data-root", "/data/mysql", "mount point of the data volume")
	flags.StringVar(&runDir, "run-dir", "/run/moco", "directory of sockets shared with the agent")
	flags.StringVar(&cfg.Program, "mysqld", "mysqld", "the mysqld to run, a path or a name on the PATH")
	flags.StringVar(&cfg.Holder.PodUID, "pod-uid", environment("POD_UID", ""), "UID of this Pod (env POD_UID)")
	flags.DurationVar(&cfg.Abandoned, "abandoned", supervise.DefaultAbandoned,
		"how long mysqld outlives a missing agent once the container is told to stop")
	return cmd
}
