// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// programName is what install calls the copy.
const programName = "moco-backup"

func installCommand() *cobra.Command {
	return &cobra.Command{
		Use: "install DIRECTORY", Short: "Copies this program into DIRECTORY, whole or not at all", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			return install(self, filepath.Join(args[0], programName))
		},
	}
}

// install copies an executable file by way of a draft beside the target.
func install(source, target string) error {
	from, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("installing: %w", err)
	}
	defer func() { _ = from.Close() }()
	draft := target + ".new"
	to, err := os.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("installing: %w", err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Chmod(0o755), to.Sync(), to.Close()); err != nil {
		return fmt.Errorf("installing: %w", err)
	}
	if err := os.Rename(draft, target); err != nil {
		return fmt.Errorf("installing: %w", err)
	}
	return nil
}
