// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf

import "regexp"

// Remedies of refused options.
const (
	remedyRemove     = "remove it"
	remedyLayout     = "remove it; the operator lays out the Pod and its volume"
	remedyTLS        = "remove it; the operator makes and renews the certificates"
	remedyController = "remove it; the operator sets it by the role of the instance"
)

// refusal is why a user may not set an option, and what to do instead.
type refusal struct{ reason, remedy string }

var (
	refusedForced  = refusal{"it is set by the operator: the cluster would lose acknowledged writes or its isolation with another value", remedyRemove}
	refusedLayout  = refusal{"it is a part of the layout of the instance", remedyLayout}
	refusedTLS     = refusal{"it belongs to the TLS material of the instance", remedyTLS}
	refusedRole    = refusal{"the operator switches it while the instance runs", remedyController}
	refusedLoss    = refusal{"acknowledged writes could be lost or differ between the instances", remedyRemove}
	refusedMode    = refusal{"it is not a setting but another mode of operation, in which the instance does not serve", remedyRemove}
	refusedSession = refusal{"it would change the sessions of the operator", "set it in the sessions of the application"}
	refusedMemory  = refusal{"a container has no right to it, or would be sized by the memory of its node", "remove it; sizes follow from the memory limit of the container mysql"}
	refusedPlugin  = refusal{"the operator loads the plugins", "remove it, and use components (INSTALL COMPONENT) where there is one"}
)

// guarded are the options that are refused although nothing in forcedAlways
// or forcedAtBoot has their name.
var guarded = map[string]refusal{
	"admin_address": refusedLayout, "admin_port": refusedLayout,
	"basedir": refusedLayout, "character_sets_dir": refusedLayout, "chroot": refusedLayout, "datadir": refusedLayout,
	"home": refusedLayout, "init_file": refusedLayout, "lc_messages_dir": refusedLayout, "pid_file": refusedLayout,
	"port": refusedLayout, "replica_load_tmpdir": refusedLayout, "server_id": refusedLayout, "server_id_bits": refusedLayout,
	"server_uuid": refusedLayout, "slow_query_log_file": refusedLayout, "socket": refusedLayout, "tmpdir": refusedLayout,
	"user": refusedLayout, "log_error": refusedLayout, "log_error_services": refusedLayout, "log_bin_basename": refusedLayout,
	"relay_log_basename": refusedLayout, "general_log_file": refusedLayout, "log_isam": refusedLayout, "log_tc": refusedLayout,
	"innodb_buffer_pool_filename": refusedLayout, "innodb_data_file_path": refusedLayout, "innodb_data_home_dir": refusedLayout,
	"innodb_directories": refusedLayout, "innodb_doublewrite_dir": refusedLayout, "innodb_log_group_home_dir": refusedLayout,
	"innodb_redo_log_archive_dirs": refusedLayout, "innodb_temp_data_file_path": refusedLayout,
	"innodb_temp_tablespaces_dir": refusedLayout, "innodb_tmpdir": refusedLayout, "innodb_undo_directory": refusedLayout,
	"report_host": refusedLayout, "report_password": refusedLayout, "report_port": refusedLayout, "report_user": refusedLayout,

	"ssl": refusedTLS, "ssl_ca": refusedTLS, "ssl_capath": refusedTLS, "ssl_cert": refusedTLS, "ssl_key": refusedTLS,
	"ssl_crl": refusedTLS, "ssl_crlpath": refusedTLS, "auto_generate_certs": refusedTLS,

	"read_only": refusedRole,

	"binlog_direct_non_transactional_updates": refusedLoss, "binlog_expire_logs_seconds": refusedLoss,
	"binlog_rotate_encryption_master_key_at_startup": refusedLoss,
	"binlog_gtid_simple_recovery":                    refusedLoss, "binlog_do_db": refusedLoss, "binlog_ignore_db": refusedLoss,
	"debug": refusedLoss, "debug_sync_timeout": refusedLoss, "disconnect_replica_event_count": refusedLoss,
	"expire_logs_days": refusedLoss, "init_replica": refusedLoss, "innodb_force_load_corrupted": refusedLoss,
	"innodb_force_recovery": refusedLoss, "innodb_log_checksums": refusedLoss, "log_tc_size": refusedLoss,
	"max_binlog_dump_events": refusedLoss, "replication_optimize_for_static_plugin_config": refusedLoss,
	"replication_sender_observe_commit_only": refusedLoss, "rpl_stop_replica_timeout": refusedLoss,
	"sporadic_binlog_dump_fail": refusedLoss, "sql_log_bin": refusedLoss, "tc_heuristic_recover": refusedLoss,
	"abort_replica_event_count": refusedLoss,

	"console": refusedMode, "daemonize": refusedMode, "gdb": refusedMode, "help": refusedMode, "initialize": refusedMode,
	"initialize_insecure": refusedMode, "innodb_read_only": refusedMode, "networking": refusedMode, "grant_tables": refusedMode,
	"skip_grant_tables": refusedMode, "skip_networking": refusedMode, "skip_new": refusedMode, "safe_mode": refusedMode,
	"super_large_pages": refusedMemory, "upgrade": refusedMode, "validate_config": refusedMode, "verbose": refusedMode,
	"version": refusedMode, "defaults_file": refusedMode, "defaults_extra_file": refusedMode,
	"defaults_group_suffix": refusedMode, "login_path": refusedMode, "no_defaults": refusedMode, "print_defaults": refusedMode,
	"no_login_paths": refusedMode, "no_monitor": refusedMode, "standalone": refusedMode,

	"autocommit": refusedSession, "completion_type": refusedSession, "terminology_use_previous": refusedSession,
	"transaction_read_only": refusedSession,

	"innodb_dedicated_server": refusedMemory, "large_pages": refusedMemory, "memlock": refusedMemory,

	"allow_suspicious_udfs": refusedPlugin, "early_plugin_load": refusedPlugin, "plugin_dir": refusedPlugin,
	"plugin_load": refusedPlugin, "plugin_load_add": refusedPlugin, "clone": refusedPlugin,
	"clone_valid_donor_list": refusedPlugin, "clone_ssl_ca": refusedTLS, "clone_ssl_cert": refusedTLS, "clone_ssl_key": refusedTLS,
}

// guardedFamilies are refused by their first letters, because their members
// depend on the version and on plugins.
var guardedFamilies = []struct {
	prefix string
	why    refusal
}{
	{"admin_", refusedLayout},
	{"group_replication", refusedPlugin},
	{"keyring_migration", refusedMode},
	{"mysqlx", refusal{"the X protocol is off: nothing routes it", remedyRemove}},
	{"ndb", refusal{"only InnoDB is supported", remedyRemove}},
	{"replicate_", refusal{"a replica that leaves changes out cannot become primary", remedyRemove}},
	{"rpl_semi_sync", refusedForced},
}

// values bounds options of which only some values are safe. Only full words
// are taken: mysqld also understands numbers and beginnings of words.
var values = map[string][]string{
	// nosync and littlesync leave the flushing of data to chance.
	"innodb_flush_method": {"fsync", "O_DSYNC", "O_DIRECT", "O_DIRECT_NO_FSYNC"},
	// The rows of a transaction must be complete enough to be applied
	// anywhere; all three are.
	"binlog_row_image": {"full", "minimal", "noblob"},
	// Without checksums a torn page is taken for a whole one.
	"innodb_checksum_algorithm": {"crc32", "strict_crc32"},
	// mysqld does not start with 2 on a case-sensitive file system.
	"lower_case_table_names": {"0", "1"},
	// An empty list would switch TLS off, over which replicas connect.
	"tls_version": {"TLSv1.2", "TLSv1.3", "TLSv1.2,TLSv1.3"},
}

// zonePattern is what default_time_zone may be. mysqld does not start with a
// named zone unless the tables of time zones are filled, which they are not
// when it initialises; zones of applications are a matter of their sessions.
var zonePattern = regexp.MustCompile(`^(SYSTEM|[+-](0?[0-9]|1[0-3]):[0-5][0-9]|\+14:00)$`)

// initOnly are options that count when the first instance is initialised and
// must stay as they were: mysqld refuses data made with another value.
var initOnly = map[string]bool{
	"innodb_page_size":       true,
	"lower_case_table_names": true,
}

// aliases are the names from before MySQL 8.0.26 that do not follow from
// replacing master by source and slave by replica, and other second names.
var aliases = map[string]string{
	"log_slave_updates":      "log_replica_updates",
	"skip_slave_start":       "skip_replica_start",
	"init_slave":             "init_replica",
	"rpl_stop_slave_timeout": "rpl_stop_replica_timeout",
	"tx_isolation":           "transaction_isolation",
	"tx_read_only":           "transaction_read_only",
	"language":               "lc_messages_dir",
	"sync_master_info":       "sync_source_info",
	"master_verify_checksum": "source_verify_checksum",
	"default_table_type":     "default_storage_engine",
	"storage_engine":         "default_storage_engine",
}
