// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Report is what one mysqld says about itself, read in one pass.
type Report struct {
	// Vars are the global variables of reportVariables and of the caller's choice, by lower-case name, as SHOW VARIABLES
	// prints them.
	Vars map[string]string
	// Status are the status variables of reportStatus, by name.
	Status map[string]string
	// GTIDExecuted and GTIDPurged without line breaks; Received is executed and everything complete in the relay log.
	GTIDExecuted, GTIDPurged, Received string
	// Channel is the default replication channel, or nil.
	Channel *Channel
}

// On says whether a variable is switched on.
func (r *Report) On(variable string) bool { return strings.EqualFold(r.Vars[variable], "ON") }

// Int returns a status variable as a number, 0 when the server does not have it.
func (r *Report) Int(status string) int64 {
	n, err := strconv.ParseInt(r.Status[status], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Channel is the default replication channel as SHOW REPLICA STATUS prints it.
type Channel struct {
	Host, User, SourceUUID string
	Port                   int32
	// Receiver is Yes, No or Connecting.
	Receiver       string
	ApplierRunning bool
	ReceiverError  string
	ReceiverErrno  int64
	ApplierError   string
	// LagSeconds is -1 when the server does not know.
	LagSeconds int64
	Retrieved  string
	// Contact is a text that changes whenever anything comes from the source: an event or a heartbeat.
	Contact string
}

// Source is the address of the channel's source.
func (c *Channel) Source() string { return net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))) }

// Variables and status variables that every Report holds.
var (
	reportVariables = []string{
		"version", "server_uuid", "server_id", "super_read_only", "offline_mode", "event_scheduler",
		"rpl_semi_sync_source_enabled", "rpl_semi_sync_source_wait_for_replica_count", "rpl_semi_sync_replica_enabled",
	}
	reportStatus = []string{
		"Uptime", "Rpl_semi_sync_source_status", "Rpl_semi_sync_source_clients", "Rpl_semi_sync_source_no_tx",
		"Rpl_semi_sync_source_no_times", "Rpl_semi_sync_source_wait_sessions", "Rpl_semi_sync_replica_status",
	}
)

// reportSets reads the GTID sets, given Retrieved, and what tells that a heartbeat has come.
const reportSets = `SELECT x.e, @@GLOBAL.gtid_purged, GTID_SUBTRACT(CONCAT(x.e, ',', ?), ''),
 (SELECT CONCAT(count_received_heartbeats, ' ', last_heartbeat_timestamp)
  FROM performance_schema.replication_connection_status WHERE channel_name='')
 FROM (SELECT @@GLOBAL.gtid_executed AS e) x`

// Read asks for a Report that also holds the given variables.
func (s *Session) Read(ctx context.Context, variables []string) (*Report, error) {
	r := &Report{}
	var err error
	names := append(append([]string{}, reportVariables...), variables...)
	r.Vars, err = s.named(ctx, "global_variables", names)
	if err != nil {
		return nil, fmt.Errorf("reading variables: %w", err)
	}
	if r.Status, err = s.named(ctx, "global_status", reportStatus); err != nil {
		return nil, fmt.Errorf("reading status variables: %w", err)
	}
	if r.Channel, err = s.channel(ctx); err != nil {
		return nil, err
	}
	retrieved := ""
	if r.Channel != nil {
		retrieved = r.Channel.Retrieved
	}
	// GTID_SUBTRACT of nothing brings the union into its normal form. Executed is read after Retrieved: what moves from
	// one to the other meanwhile is in both, never in neither.
	var beats sql.NullString
	err = s.Row(ctx, []any{&r.GTIDExecuted, &r.GTIDPurged, &r.Received, &beats}, reportSets, retrieved)
	if err != nil {
		return nil, fmt.Errorf("reading GTID sets: %w", err)
	}
	if r.Channel != nil {
		r.Channel.Contact += " " + beats.String
	}
	for _, set := range []*string{&r.GTIDExecuted, &r.GTIDPurged, &r.Received} {
		*set = strings.ReplaceAll(*set, "\n", "")
	}
	return r, nil
}

// named reads rows of a performance_schema table of names and values.
func (s *Session) named(ctx context.Context, table string, names []string) (map[string]string, error) {
	args := make([]any, len(names))
	for i, name := range names {
		args[i] = name
	}
	return s.Pairs(ctx, "SELECT variable_name, variable_value FROM performance_schema."+table+
		" WHERE variable_name IN (?"+strings.Repeat(",?", len(names)-1)+")", args...)
}

func (s *Session) channel(ctx context.Context) (*Channel, error) {
	row, err := s.Record(ctx, "SHOW REPLICA STATUS FOR CHANNEL ''")
	if err != nil {
		return nil, fmt.Errorf("reading the replication channel: %w", err)
	}
	if row == nil {
		return nil, nil
	}
	port, err := strconv.ParseInt(row["Source_Port"], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("reading the replication channel: %w", err)
	}
	lag, err := strconv.ParseInt(row["Seconds_Behind_Source"], 10, 64)
	if err != nil {
		lag = -1 // NULL: the applier is not running, or the receiver is not connected
	}
	errno, err := strconv.ParseInt(row["Last_IO_Errno"], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading the replication channel: %w", err)
	}
	return &Channel{
		Host: row["Source_Host"], Port: int32(port), User: row["Source_User"], SourceUUID: row["Source_UUID"],
		Receiver: row["Replica_IO_Running"], ApplierRunning: row["Replica_SQL_Running"] == "Yes",
		ReceiverError: row["Last_IO_Error"], ReceiverErrno: errno, ApplierError: row["Last_SQL_Error"],
		LagSeconds: lag, Retrieved: strings.ReplaceAll(row["Retrieved_Gtid_Set"], "\n", ""),
		// Relay_Log_Space is left out: it also changes when an applied relay log is removed.
		Contact: row["Source_UUID"] + " " + row["Source_Log_File"] + " " + row["Read_Source_Log_Pos"],
	}, nil
}

// Contains says whether the GTID set superset contains subset.
func (s *Session) Contains(ctx context.Context, superset, subset string) (bool, error) {
	var contained bool
	if err := s.Row(ctx, []any{&contained}, "SELECT GTID_SUBSET(?, ?)", subset, superset); err != nil {
		return false, fmt.Errorf("comparing GTID sets: %w", err)
	}
	return contained, nil
}
