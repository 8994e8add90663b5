// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// setting is a variable with the value it is given.
type setting struct{ name, value string }

// forced is what acknowledged writes depend on (mycnf.Forced), in the order of the names. The option file holds it, too;
// it is given to mysqld on the command line, which wins over any file, and read back before the instance is opened and
// every second while it is open.
func forced() []setting {
	values := mycnf.Forced(mycnf.MinVersion)
	settings := make([]setting, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		settings = append(settings, setting{name, values[name]})
	}
	return settings
}

// closed is how mysqld boots; the agent switches these by role, and never persists them.
var closed = []setting{
	{"super_read_only", "ON"},
	{"offline_mode", "ON"},
	{"skip_replica_start", "ON"},
	{"event_scheduler", "OFF"},
	{"rpl_semi_sync_source_enabled", "OFF"},
	{"rpl_semi_sync_replica_enabled", "OFF"},
}

// unsafeButFast speeds up a mysqld whose work is thrown away unless it ends cleanly and the whole volume is flushed.
var unsafeButFast = []setting{
	{"innodb_flush_method", "nosync"},
	{"innodb_flush_log_at_trx_commit", "0"},
	{"innodb_doublewrite", "OFF"},
	{"sync_binlog", "0"},
}

// unopened lets the agent work in a mysqld that nobody else can reach.
var unopened = []setting{
	{"super_read_only", "OFF"},
	{"read_only", "OFF"},
	{"offline_mode", "OFF"},
}

// forcedNames are the variables to read back.
func forcedNames() []string {
	names := []string{"innodb_flush_method"}
	for _, s := range forced() {
		names = append(names, s.name)
	}
	return names
}

// options renders settings as arguments. Semi-sync is a plugin, whose options mysqld does not know while it initialises.
func options(settings []setting) []string {
	args := make([]string, 0, len(settings))
	for _, s := range settings {
		prefix := "--"
		if strings.HasPrefix(s.name, "rpl_semi_sync") {
			prefix = "--loose-"
		}
		args = append(args, prefix+strings.ReplaceAll(s.name, "_", "-")+"="+s.value)
	}
	return args
}

// baseArguments are the first arguments of every mysqld: the option file must come first of all.
func (c *Config) baseArguments(optionFile, dataDir string) []string {
	args := []string{
		"--defaults-file=" + optionFile,
		"--datadir=" + dataDir,
		"--tmpdir=" + c.tmpDir(),
		"--replica-load-tmpdir=" + c.tmpDir(),
		"--log-bin=" + mycnf.LogBin,
		"--relay-log=" + mycnf.RelayLog,
		"--slow-query-log-file=" + c.slowLog(),
		"--ssl-ca=" + c.own(fileCA),
		"--ssl-cert=" + c.own(fileCertificate),
		"--ssl-key=" + c.own(fileKey),
	}
	// Triggers and functions need SUPER otherwise, which no tenant has. With row-based logging what they do is logged, not
	// that they were called.
	args = append(args, "--loose-log-bin-trust-function-creators=ON")
	return append(args, options(forced())...)
}

// serverArguments start the instance on its data, closed.
func (c *Config) serverArguments(seed string) []string {
	args := c.baseArguments(c.own(fileMyCnf), c.dataDir())
	args = append(args,
		"--socket="+c.ServerSocket(),
		"--pid-file="+filepath.Join(c.RunDir, "mysqld.pid"),
		"--port="+strconv.Itoa(int(c.Port)),
		"--admin-address=127.0.0.1",
		"--admin-port="+strconv.Itoa(int(c.AdminPort)),
		"--server-id="+strconv.FormatUint(uint64(serverID(seed)), 10),
		"--init-file="+c.own(fileInitSQL),
	)
	return append(args, options(closed)...)
}

// privateArguments start a mysqld that only the agent can reach, through a socket of its own.
func (c *Config) privateArguments(dataDir string) []string {
	args := c.baseArguments(c.own(fileInitCnf), dataDir)
	args = append(args, "--skip-networking", "--socket="+c.initSocket(), "--pid-file="+filepath.Join(c.RunDir, "init.pid"),
		"--slow-query-log=OFF", "--general-log=OFF", "--skip-replica-start=ON", "--event-scheduler=OFF", "--server-id=1")
	return append(append(args, options(unsafeButFast)...), options(unopened)...)
}

// serverID makes a server_id of a seed: stable, never 0, and different for different seeds but for one chance in four
// thousand million. The source counts acknowledgements by it.
func serverID(seed string) uint32 {
	sum := sha256.Sum256([]byte(seed))
	return max(1, binary.BigEndian.Uint32(sum[:]))
}

// loosen makes the options of plugins optional, because mysqld does not load any while it initialises.
func loosen(myCnf string) string {
	lines := strings.Split(myCnf, "\n")
	for i, line := range lines {
		name := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(line)), "-", "_")
		if strings.HasPrefix(name, "rpl_semi_sync") || strings.HasPrefix(name, "clone_") {
			lines[i] = "loose_" + strings.TrimSpace(line)
		}
	}
	return strings.Join(lines, "\n")
}
