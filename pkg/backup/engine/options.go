// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// inherited are the options of the cluster without which its data cannot be read, which a donor compares with the recipient's
// before it lets itself be cloned (manual: "Cloning Remote Data", the prerequisites), or by which statements are judged. All
// others are this package's own: the cluster's sizes are for another container.
var inherited = []string{
	"lower_case_table_names", "innodb_page_size", "innodb_data_file_path", "innodb_undo_tablespaces",
	"character_set_server", "character_set_filesystem", "collation_server",
	"innodb_checksum_algorithm", "innodb_ft_min_token_size", "innodb_ft_max_token_size", "ngram_token_size",
	"plugin_load_add",
	// A trial replays statements that change tables: what the cluster accepted must be accepted here.
	"innodb_strict_mode", "innodb_default_row_format", "innodb_file_per_table", "explicit_defaults_for_timestamp",
	"sql_generate_invisible_primary_key", "sql_require_primary_key",
}

// optionLines returns the lines of the inherited options in an option file, in their order.
func optionLines(myCnf string) []string {
	var kept []string
	for line := range strings.Lines(myCnf) {
		name, _, assigned := strings.Cut(line, "=")
		if assigned && slices.Contains(inherited, mycnf.Normalize(name)) {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return kept
}

const mib = 1 << 20

// poolBytes is the buffer pool of a private mysqld: an eighth of the memory, or more where there is plenty, for the rest is
// for packing, the page cache and mysqld itself. Recovery and scans gain little from more.
func poolBytes(memory int64) int64 {
	pool := memory / 8
	if memory > 4<<30 {
		pool = memory / 4
	}
	return max(64*mib, min(pool, 16<<30)) / (8 * mib) * (8 * mib)
}

// writeOptions makes the option file of the private servers.
func (j *job) writeOptions() error {
	pool := strconv.FormatInt(poolBytes(j.cfg.MemoryBytes), 10)
	lines := append([]string{"[mysqld]"}, optionLines(j.in.MyCnf)...)
	lines = append(lines,
		"innodb_buffer_pool_size="+pool, "innodb_buffer_pool_chunk_size="+strconv.Itoa(8*mib), "innodb_buffer_pool_instances=1",
		"innodb_redo_log_capacity=67108864", "innodb_log_buffer_size=8388608",
		"innodb_read_io_threads=4", "innodb_write_io_threads=4", "innodb_buffer_pool_dump_at_shutdown=OFF", "innodb_buffer_pool_load_at_startup=OFF",
		"innodb_stats_auto_recalc=OFF", "loose_innodb_numa_interleave=OFF",
		"max_connections=50", "table_open_cache=2000", "table_definition_cache=2000", "key_buffer_size=1048576",
		// Clone needs its tables of performance_schema, which cost little once everything else is off.
		"performance_schema=ON", "performance_schema_max_table_instances=400", "performance_schema_max_table_handles=400",
		"performance_schema_events_statements_history_long_size=0", "performance_schema_events_waits_history_long_size=0",
		"performance_schema_events_stages_history_long_size=0", "performance_schema_events_transactions_history_long_size=0",
		"max_allowed_packet=1073741824",
		// Nothing of this server counts before it has ended cleanly and everything it wrote was read again.
		"innodb_flush_log_at_trx_commit=0", "innodb_doublewrite=OFF", "innodb_flush_method=fsync",
		"gtid_mode=ON", "enforce_gtid_consistency=ON", "disable_log_bin", "log_replica_updates=OFF",
		"skip_networking=ON", "mysqlx=OFF", "skip_name_resolve=ON", "skip_replica_start=ON", "event_scheduler=OFF",
		"persisted_globals_load=OFF", "local_infile=OFF", "secure_file_priv=NULL", "partial_revokes=ON", "auto_generate_certs=OFF",
		"general_log=OFF", "slow_query_log=OFF", "log_error_verbosity=2",
		"relay_log="+mycnf.RelayLog, "tmpdir="+j.cfg.work("tmp"), "replica_load_tmpdir="+j.cfg.work("tmp"),
		"socket="+j.cfg.socket(), "pid_file="+filepath.Join(j.cfg.RunDir, "private.pid"), "server_id=1",
	)
	err := errors.Join(os.MkdirAll(j.cfg.work("tmp"), 0o700),
		os.WriteFile(j.cfg.optionFile(), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	if err != nil {
		return fmt.Errorf("writing options: %w", err)
	}
	return nil
}

func (c *Config) optionFile() string { return c.work("private.cnf") }

// arguments are those of a private mysqld on a data directory.
func (c *Config) arguments(dir string, more ...string) []string {
	return append([]string{"--defaults-file=" + c.optionFile(), "--datadir=" + dir}, more...)
}

// readOnly are the arguments of a server on a copy: everybody may do everything, but nobody can come, and nothing can be
// written into it. The copy's accounts need no password known here.
var readOnly = []string{"--skip-grant-tables", "--super-read-only=ON"}

// prepare empties the work volume and lays it out.
func (j *job) prepare() error {
	if err := j.clear(); err != nil {
		return err
	}
	return j.writeOptions()
}

// writeCA puts the certificates of the cluster where mysqld finds them.
func (j *job) writeCA() (string, error) {
	if j.in.CA == "" {
		return "", fail(wire.ReasonRefused, errors.New("the certificates of the cluster are missing"))
	}
	path := j.cfg.work("ca.pem")
	if err := os.WriteFile(path, []byte(j.in.CA), 0o600); err != nil {
		return "", fmt.Errorf("writing the certificates of the cluster: %w", err)
	}
	return path, nil
}
