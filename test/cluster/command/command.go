// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// maxComplaint bounds how much of a tool's standard error an error quotes.
const maxComplaint = 2000

// Run runs argv to its end. The error names the tool, its arguments and what it
// wrote to standard error.
func Run(ctx context.Context, argv ...string) error {
	_, err := Output(ctx, argv...)
	return err
}

// Output is Run that returns what the tool wrote to standard output.
func Output(ctx context.Context, argv ...string) (string, error) {
	return With(ctx, nil, argv...)
}

// With is Output with stdin as the tool's standard input.
func With(ctx context.Context, stdin []byte, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(complaint.String())
		if len(said) > maxComplaint {
			said = "…" + said[len(said)-maxComplaint:]
		}
		return out.String(), fmt.Errorf("running %s: %w: %s", strings.Join(argv, " "), err, said)
	}
	return out.String(), nil
}

// All runs the command lines in order and stops at the first that fails. A line
// is split at white space; nothing is quoted.
func All(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		if err := Run(ctx, strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}
