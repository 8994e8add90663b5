// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"time"
)

// Config is what an agent needs to know of its Pod. Paths must be the same in the containers of mysqld and agent.
type Config struct {
	// Pod, PodUID and BootID (of the host) are reported in Status; Version is the agent's build.
	Pod, PodUID, BootID, Version string
	// DataRoot is the mount point of the data volume, RunDir the directory of sockets shared by the containers. Socket
	// paths must fit in 107 bytes.
	DataRoot, RunDir string
	// Port of mysqld for clients and AdminPort of its administrative interface on the loopback address.
	Port, AdminPort int32
	// TimeZones yields the statements that fill the time zone tables of the schema mysql, or is nil to leave them empty.
	TimeZones func() iter.Seq2[string, error]
	// SlowLog receives mysqld's slow query log; nil drops it.
	SlowLog io.Writer
	// SlowLogLimit is the size in bytes at which the slow log file is begun anew.
	SlowLogLimit int64
	// PollInterval is the time between two looks at mysqld, BusyPollInterval the same for BusyPeriod after a change.
	PollInterval, BusyPollInterval, BusyPeriod time.Duration
	// TaskRetry is the pause between a failed initialisation or clone and the moment its volume is offered again.
	TaskRetry time.Duration
	// StatementTimeout bounds each statement of the agent's own accord.
	StatementTimeout time.Duration
	// StopBudget is how long the Pod may take to stop; an open primary serves until shortly before its end if nobody takes
	// over.
	StopBudget time.Duration
	// CloneStall ends a clone that has not moved for so long.
	CloneStall time.Duration
	// ResumeAfter is how long no coordinator must have read the status stream before the agent resumes by itself what it
	// was last shown to be: twice the time after which an instance is suspected.
	ResumeAfter time.Duration
}

// Defaults of Config.
const (
	DefaultPort             = 3306
	DefaultAdminPort        = 33062
	DefaultSlowLogLimit     = 64 << 20
	DefaultPollInterval     = time.Second
	DefaultBusyPollInterval = 200 * time.Millisecond
	DefaultBusyPeriod       = 5 * time.Second
	DefaultTaskRetry        = 3 * time.Second
	DefaultStatementTimeout = time.Second
	DefaultCloneStall       = 30 * time.Second
	DefaultStopBudget       = 2 * time.Minute
	DefaultResumeAfter      = 6 * time.Second
)

// Validate fills in the defaults and names what is missing or wrong.
func (c *Config) Validate() error {
	setDefault(&c.Port, DefaultPort)
	setDefault(&c.AdminPort, DefaultAdminPort)
	setDefault(&c.SlowLogLimit, DefaultSlowLogLimit)
	setDefault(&c.PollInterval, DefaultPollInterval)
	setDefault(&c.BusyPollInterval, DefaultBusyPollInterval)
	setDefault(&c.BusyPeriod, DefaultBusyPeriod)
	setDefault(&c.TaskRetry, DefaultTaskRetry)
	setDefault(&c.StatementTimeout, DefaultStatementTimeout)
	setDefault(&c.CloneStall, DefaultCloneStall)
	setDefault(&c.StopBudget, DefaultStopBudget)
	setDefault(&c.ResumeAfter, DefaultResumeAfter)
	if c.SlowLog == nil {
		c.SlowLog = io.Discard
	}
	switch {
	case c.Pod == "" || c.PodUID == "" || c.BootID == "":
		return errors.New("pod, pod UID and boot id are required")
	case !filepath.IsAbs(c.DataRoot) || !filepath.IsAbs(c.RunDir):
		return fmt.Errorf("data root %q and run directory %q must be absolute paths", c.DataRoot, c.RunDir)
	case len(c.ServerSocket()) > 107 || len(c.initSocket()) > 107:
		return fmt.Errorf("run directory %q is too long for a socket", c.RunDir)
	case c.PollInterval < 0 || c.BusyPollInterval < 0 || c.BusyPeriod < 0 || c.StatementTimeout < 0 || c.CloneStall < 0 || c.ResumeAfter < 0 || c.StopBudget < 0:
		return errors.New("a duration is negative")
	}
	return nil
}

func setDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// LockFile is the file whose lock guards the volume.
func (c *Config) LockFile() string { return filepath.Join(c.DataRoot, "lock") }

// SupervisorSocket is where the supervisor listens.
func (c *Config) SupervisorSocket() string { return filepath.Join(c.RunDir, "supervisor.sock") }

// ServerSocket is mysqld's own socket.
func (c *Config) ServerSocket() string { return filepath.Join(c.RunDir, "mysqld.sock") }

// initSocket is the socket of a mysqld that only the agent may reach.
func (c *Config) initSocket() string { return filepath.Join(c.RunDir, "init.sock") }

func (c *Config) dataDir() string    { return filepath.Join(c.DataRoot, "data") }
func (c *Config) partialDir() string { return filepath.Join(c.DataRoot, "data.partial") }
func (c *Config) tmpDir() string     { return filepath.Join(c.DataRoot, "tmp") }
func (c *Config) ownDir() string     { return filepath.Join(c.DataRoot, "moco") }
func (c *Config) slowLog() string    { return filepath.Join(c.DataRoot, "log", "slow.log") }

// restoreScratch holds what a restore fetches ahead.
func (c *Config) restoreScratch() string { return filepath.Join(c.DataRoot, "restore.scratch") }

// scratchPrefix begins the names of directories in which only the recipient of a clone works.
const scratchPrefix = "clone.scratch"

func (c *Config) own(name string) string { return filepath.Join(c.ownDir(), name) }
