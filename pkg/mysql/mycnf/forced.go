// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf

// MaxBinlogCacheBytes is the largest transaction that can be written, in
// bytes of binary log: just below 4 GiB, where the positions in a binary log
// file end (Event_log_pos has 32 bits).
const MaxBinlogCacheBytes = 4<<30 - 4<<10

// setting is one option with the value that SHOW GLOBAL VARIABLES prints.
type setting struct{ name, value string }

// forcedAlways are the options that hold as long as an instance runs. Each is
// written as a value that mysqld takes and prints alike, so that the running
// server can be compared with the table.
var forcedAlways = []setting{
	// Every change is in the binary log, by row, with a GTID, before it is
	// acknowledged, and the log is on disk (manual: "Binary Logging Options").
	{"gtid_mode", "ON"},
	{"enforce_gtid_consistency", "ON"},
	{"log_replica_updates", "ON"},
	{"binlog_format", "ROW"},
	{"sync_binlog", "1"},
	{"innodb_flush_log_at_trx_commit", "1"},
	{"innodb_doublewrite", "ON"},
	{"binlog_error_action", "ABORT_SERVER"},
	{"binlog_order_commits", "ON"},
	// The agent reads these files, to find and to cut what was never
	// acknowledged: in clear, and able to tell a torn event.
	{"binlog_checksum", "CRC32"},
	{"binlog_encryption", "OFF"},
	{"xa_detach_on_prepare", "ON"},
	{"max_binlog_cache_size", "4294963200"},
	// The agent purges, never past what a voter still needs.
	{"binlog_expire_logs_auto_purge", "OFF"},
	// A transaction that is not acknowledged waits; it never falls back to
	// asynchronous replication. The longest timeout mysqld takes is in
	// milliseconds and longer than anything.
	{"rpl_semi_sync_source_wait_point", "AFTER_SYNC"},
	{"rpl_semi_sync_source_timeout", "1000000000000000000"},
	{"rpl_semi_sync_source_wait_no_replica", "ON"},
	// What a replica received stays, all of it, and is applied in order.
	{"relay_log_recovery", "OFF"},
	{"relay_log_space_limit", "0"},
	{"relay_log_purge", "ON"},
	{"replica_preserve_commit_order", "ON"},
	{"replica_skip_errors", "OFF"},
	{"replica_exec_mode", "STRICT"},
	{"replica_sql_verify_checksum", "ON"},
	{"replica_net_timeout", "10"},
	// A row that the primary takes must fit through every replica.
	{"max_allowed_packet", "1073741824"},
	{"replica_max_allowed_packet", "1073741824"},
	// Only InnoDB is crash-safe, replicated exactly and cloned.
	{"disabled_storage_engines", "MyISAM,MRG_MYISAM,CSV,MEMORY,ARCHIVE,BLACKHOLE,FEDERATED,EXAMPLE,NDBCLUSTER"},
	{"default_storage_engine", "InnoDB"},
	{"default_tmp_storage_engine", "InnoDB"},
	// Nothing that was persisted with SET PERSIST, possibly by another
	// instance before a clone, counts.
	{"persisted_globals_load", "OFF"},
	// Without it nobody could make a trigger or a function: that would take a
	// privilege no tenant has. By row, neither can make instances differ.
	{"log_bin_trust_function_creators", "ON"},
	// Tenants stay within their data.
	{"partial_revokes", "ON"},
	{"local_infile", "OFF"},
	{"secure_file_priv", "NULL"},
	{"skip_name_resolve", "ON"},
	// The agent and the exporter read these tables.
	{"performance_schema", "ON"},
	// The agent streams and rotates the slow log file.
	{"log_output", "FILE"},
	{"general_log", "OFF"},
}

// forcedAtBoot are the options that make a mysqld that starts without its
// agent serve nobody. The agent switches them later, by the role of the
// instance.
var forcedAtBoot = []setting{
	{"super_read_only", "ON"},
	{"offline_mode", "ON"},
	{"skip_replica_start", "ON"},
	{"event_scheduler", "OFF"},
	{"rpl_semi_sync_source_enabled", "OFF"},
	{"rpl_semi_sync_source_wait_for_replica_count", "1"},
	{"rpl_semi_sync_replica_enabled", "OFF"},
	{"mysqlx", "OFF"},
	{"create_admin_listener_thread", "ON"},
	{"log_bin", LogBin},
	{"log_bin_index", LogBin + ".index"},
	{"relay_log", RelayLog},
	{"relay_log_index", RelayLog + ".index"},
	{"bind_address", "*"},
}

// The base names of the logs, in the data directory.
const (
	LogBin   = "binlog"
	RelayLog = "relay"
)

// pluginLibraries are loaded in this order, before the options of the plugins
// are looked at.
var pluginLibraries = []string{"semisync_source.so", "semisync_replica.so", "mysql_clone.so"}

// Forced returns the variables that must have the same value as long as an
// instance of this version runs, as SHOW GLOBAL VARIABLES prints them. What
// the agent switches by role (super_read_only, offline_mode, event_scheduler,
// the semi-sync switches and the number of acknowledgements) is not among
// them. The map is the caller's. Version must be MinVersion or newer; all of
// those have the same table so far.
func Forced(_ Version) map[string]string {
	values := make(map[string]string, len(forcedAlways))
	for _, s := range forcedAlways {
		values[s.name] = s.value
	}
	return values
}
