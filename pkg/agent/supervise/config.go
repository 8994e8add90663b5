// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Defaults of Config.
const (
	DefaultAbandoned   = 10 * time.Second
	DefaultOutputLimit = 64 << 10
)

// Config is what a supervisor needs to know.
type Config struct {
	// Program is mysqld, by path or by name on the PATH.
	Program string
	// LockFile on the data volume; made if it is not there.
	LockFile string
	// Socket to listen on; one that is left over is replaced.
	Socket string
	// Holder is written into the lock file.
	Holder Holder
	// Abandoned is how long a terminating supervisor without any connection lets mysqld live; 0 means DefaultAbandoned.
	Abandoned time.Duration
	// OutputLimit bounds the output of a run in bytes; 0 means DefaultOutputLimit.
	OutputLimit int
	// Stdout and Stderr are handed to mysqld.
	Stdout, Stderr *os.File
}

// Validate fills in the defaults and names the first thing that is missing.
func (c *Config) Validate() error {
	if c.Abandoned == 0 {
		c.Abandoned = DefaultAbandoned
	}
	if c.OutputLimit == 0 {
		c.OutputLimit = DefaultOutputLimit
	}
	switch {
	case c.Program == "":
		return errors.New("no program to supervise")
	case c.LockFile == "":
		return errors.New("no lock file")
	case c.Socket == "":
		return errors.New("no socket")
	case c.Stdout == nil || c.Stderr == nil:
		return errors.New("no standard output or error for mysqld")
	case c.Abandoned < 0 || c.OutputLimit < 0:
		return fmt.Errorf("negative bound: abandoned %v, output %d", c.Abandoned, c.OutputLimit)
	}
	return nil
}
