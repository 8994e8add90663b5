// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/moco-mysql/moco/pkg/backup/wire"
)

// load copies the tables into the schemas they are loaded into, one after the other, and compares each.
func (j *job) load(ctx context.Context, programs clients, into *recipient, tables []*chosen) error {
	options, err := j.writeLogin()
	if err != nil {
		return err
	}
	j.stage(ctx, "loading tables into the cluster")
	total := int64(0)
	for _, c := range tables {
		total += c.bytes
	}
	j.cfg.Progress.set(0, total)
	for _, c := range tables {
		if err := j.loadTable(ctx, programs, options, c); err != nil {
			return fmt.Errorf("loading table %s: %w", c.quoted(), err)
		}
		if err := into.compare(ctx, c); err != nil {
			return err
		}
		j.cfg.Progress.add(c.bytes)
	}
	return nil
}

// writeLogin puts the login of the cluster where the client reads it: a command line is seen by everybody.
func (j *job) writeLogin() (string, error) {
	host, port, err := net.SplitHostPort(j.in.Primary)
	if err != nil {
		return "", fail(wire.ReasonRefused, fmt.Errorf("reading an address: %w", err))
	}
	ca, err := j.writeCA()
	if err != nil {
		return "", err
	}
	lines := []string{"[client]"}
	for _, option := range [][2]string{
		{"protocol", "TCP"}, {"host", host}, {"port", port}, {"user", j.in.User}, {"password", j.in.Password}, {"ssl-mode", "VERIFY_IDENTITY"}, {"ssl-ca", ca},
	} {
		if strings.ContainsAny(option[1], "\r\n\x00") {
			return "", fail(wire.ReasonRefused, fmt.Errorf("option %s of the login has a control character", option[0]))
		}
		lines = append(lines, fmt.Sprintf(`%s="%s"`, option[0], strings.ReplaceAll(option[1], `\`, `\\`)))
	}
	path := j.cfg.work("login.cnf")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("writing the login: %w", err)
	}
	return path, nil
}

// loadTable pipes one table from the private server into the cluster. The client takes no commands of its own from what it
// reads, so names and rows can say what they like. Each statement is a transaction, of about a megabyte.
func (j *job) loadTable(ctx context.Context, programs clients, options string, c *chosen) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _, _ = read.Close(), write.Close() }() // closed twice in the good case
	load, err := launch(programs.load, []string{
		"--defaults-file=" + options, "--binary-mode", "--local-infile=0", "--default-character-set=utf8mb4", "--max-allowed-packet=1G", "--database=" + c.draft,
	}, func(cmd *exec.Cmd) { cmd.Stdin = read })
	if err != nil {
		return err
	}
	defer load.kill()
	dump, err := launch(programs.dump, []string{
		"--no-defaults", "--socket=" + j.cfg.socket(), "--user=" + initialUser, "--default-character-set=utf8mb4", "--single-transaction",
		"--skip-lock-tables", "--skip-add-locks", "--skip-add-drop-table", "--skip-triggers", "--skip-comments", "--hex-blob", "--no-tablespaces",
		"--set-gtid-purged=OFF", "--net-buffer-length=1M", "--max-allowed-packet=1G", "--", c.schema, c.name,
	}, func(cmd *exec.Cmd) { cmd.Stdout = write })
	if err != nil {
		return err
	}
	defer dump.kill()
	_ = read.Close()
	_ = write.Close() // only the two programs hold the pipe now
	dumpErr, loadErr := dump.wait(ctx), load.wait(ctx)
	if said := dump.output.complaints(); dumpErr == nil && strings.Contains(said, "Error") {
		dumpErr = fmt.Errorf("mysqldump: %s", said)
	}
	return errors.Join(loadErr, dumpErr)
}
