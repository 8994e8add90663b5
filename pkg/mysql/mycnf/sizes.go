// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mycnf

import (
	"slices"
	"strconv"
)

// Units of bytes.
const (
	kib int64 = 1 << 10
	mib int64 = 1 << 20
	gib int64 = 1 << 30
)

// MinMemoryBytes is the least memory that sizes are derived from; a smaller
// container is treated as if it had this much.
const MinMemoryBytes = 256 * mib

// assumedMilliCPU is used when the container has no CPU limit or request.
const assumedMilliCPU = 2000

// derive returns the options that follow from the memory and the cores of the
// container, in the order in which they are written. The sum of buffer pool,
// log buffer, internal temporary tables, performance_schema and all
// connections at their usual use stays below the memory.
func derive(memory, milliCPU int64) []setting {
	memory = max(memory, MinMemoryBytes)
	if milliCPU <= 0 {
		milliCPU = assumedMilliCPU
	}
	cores := max(1, (milliCPU+999)/1000)
	pool, chunk, instances := bufferPool(memory, cores)
	settings := []setting{
		number("innodb_buffer_pool_size", pool),
		number("innodb_buffer_pool_chunk_size", chunk),
		number("innodb_buffer_pool_instances", instances),
		// Redo logs are on disk: a quarter of the buffer pool keeps recovery
		// short and checkpoints rare.
		number("innodb_redo_log_capacity", clamp(pool/4, 128*mib, 4*gib)/mib*mib),
		number("innodb_log_buffer_size", clamp(memory/256, 4*mib, 64*mib)/mib*mib),
		// mysqld would derive these from the cores of the node.
		number("innodb_read_io_threads", clamp(cores, 2, 8)),
		number("innodb_write_io_threads", clamp(cores, 2, 8)),
		number("innodb_purge_threads", clamp(cores/4, 1, 4)),
		{"innodb_log_writer_threads", logWriters(cores)},
		number("max_connections", maxConnections(memory)),
		number("table_open_cache", clamp(memory/mib, 400, 4000)),
		number("table_open_cache_instances", clamp(cores*2, 2, 16)),
		number("table_definition_cache", clamp(memory/mib/2+400, 528, 2000)),
		number("key_buffer_size", mib),
		number("replica_parallel_workers", clamp(cores*2, 2, min(16, memory/(128*mib)))),
		// Events that wait for a worker of the applier; a larger one is let
		// through alone.
		number("replica_pending_jobs_size_max", clamp(memory/16/mib*mib, 16*mib, 128*mib)),
		// One entry takes some 64 bytes; MySQL 9.7 would keep ten million.
		number("binlog_transaction_dependency_history_size", clamp(memory/(16*kib), 25000, 1000000)),
	}
	settings = append(settings, temporaryTables(memory)...)
	switch {
	case memory < 512*mib:
		settings = slices.Concat(settings, frugal, austere)
	case memory < 2*gib:
		settings = slices.Concat(settings, frugal, fuller)
	}
	return settings
}

// bufferPool derives size, chunk size and number of instances of the buffer
// pool. mysqld itself takes some 160 MiB (MySQL 9.7 with a small
// performance_schema, measured); of the memory above that the pool gets 1/4 up
// to 512 MiB, 1/2 from there to 2 GiB, 2/3 to 8 GiB and 3/4 of what is above.
// mysqld rounds the size up to a multiple of chunk times instances, so it is
// rounded down to one here.
func bufferPool(memory, cores int64) (pool, chunk, instances int64) {
	for _, step := range []struct{ from, to, numerator, denominator int64 }{
		{160 * mib, 512 * mib, 1, 4}, {512 * mib, 2 * gib, 1, 2}, {2 * gib, 8 * gib, 2, 3}, {8 * gib, 1 << 62, 3, 4},
	} {
		if memory > step.from {
			pool += (min(memory, step.to) - step.from) / step.denominator * step.numerator
		}
	}
	chunk, instances = 8*mib, 1
	if pool >= gib {
		chunk = 128 * mib
		instances = clamp(min(pool/gib, cores), 1, 8)
	}
	unit := chunk * instances
	return pool / unit * unit, chunk, instances
}

// temporaryTables bounds the internal temporary tables of queries. With the
// default engine, TempTable, each session keeps 1 MiB of temptable_max_ram once
// it has used any, and when other sessions have used it up, a common table
// expression that is recursive or is referenced twice fails with "Table …
// doesn't exist" instead of going to disk (seen with 9.7.4). So a container
// that cannot afford the least value of the server's own, 1 GiB, uses the
// engine MEMORY for them, whose tables have a bound each and go to disk beyond
// it; the bound is low because every connection may have several.
func temporaryTables(memory int64) []setting {
	size := clamp(memory/256/mib*mib, 2*mib, 16*mib)
	settings := []setting{number("tmp_table_size", size), number("max_heap_table_size", size)}
	if memory < 4*gib {
		return append(settings, setting{"internal_tmp_mem_storage_engine", "MEMORY"})
	}
	return append(settings, number("temptable_max_ram", clamp(memory/16/mib*mib, gib, 4*gib)))
}

// maxConnections gives a fifth of the memory to connections, at 2 MiB each: a
// thread's stack in use, the network buffer, one sort and one join buffer,
// and its share of performance_schema.
func maxConnections(memory int64) int64 { return clamp(memory/5/(2*mib), 25, 4000) }

// logWriters switches the threads that write the redo log on where there are
// cores to spare for them: they spin. 32 is the bound of mysqld itself (manual:
// "innodb_log_writer_threads"), which counts the cores of the node, however.
func logWriters(cores int64) string {
	if cores >= 32 {
		return "ON"
	}
	return "OFF"
}

// frugal makes performance_schema small. What the agent and the exporter read
// stays: replication, clone, threads, connections and global status.
var frugal = []setting{
	{"performance_schema_accounts_size", "16"},
	{"performance_schema_error_size", "0"},
	{"performance_schema_events_stages_history_long_size", "0"},
	{"performance_schema_events_stages_history_size", "0"},
	{"performance_schema_events_statements_history_long_size", "0"},
	{"performance_schema_events_transactions_history_long_size", "0"},
	{"performance_schema_events_transactions_history_size", "0"},
	{"performance_schema_events_waits_history_long_size", "0"},
	{"performance_schema_events_waits_history_size", "0"},
	{"performance_schema_hosts_size", "16"},
	{"performance_schema_max_cond_classes", "0"},
	{"performance_schema_max_cond_instances", "0"},
	{"performance_schema_max_file_classes", "0"},
	{"performance_schema_max_file_handles", "0"},
	{"performance_schema_max_file_instances", "0"},
	{"performance_schema_max_index_stat", "200"},
	{"performance_schema_max_memory_classes", "0"},
	{"performance_schema_max_mutex_classes", "0"},
	{"performance_schema_max_mutex_instances", "0"},
	{"performance_schema_max_prepared_statements_instances", "100"},
	{"performance_schema_max_program_instances", "100"},
	{"performance_schema_max_rwlock_classes", "0"},
	{"performance_schema_max_rwlock_instances", "0"},
	{"performance_schema_max_socket_instances", "0"},
	{"performance_schema_max_table_handles", "400"},
	{"performance_schema_max_table_instances", "400"},
	{"performance_schema_max_table_lock_stat", "200"},
	{"performance_schema_session_connect_attrs_size", "256"},
	{"performance_schema_users_size", "16"},
}

// fuller and austere complete frugal for containers that have some room and for
// those that have none, where statements are not counted at all.
var (
	fuller = []setting{
		{"performance_schema_digests_size", "1000"},
		{"performance_schema_events_statements_history_size", "5"},
		{"performance_schema_max_thread_instances", "300"},
	}
	austere = []setting{
		{"performance_schema_digests_size", "0"},
		{"performance_schema_events_statements_history_size", "0"},
		{"performance_schema_max_stage_classes", "0"},
		{"performance_schema_max_statement_classes", "0"},
		{"performance_schema_max_thread_instances", "100"},
	}
)

// clamp bounds n; low wins when the bounds cross.
func clamp(n, low, high int64) int64 { return max(low, min(n, high)) }

func number(name string, n int64) setting { return setting{name, strconv.FormatInt(n, 10)} }
