// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysql

import (
	"errors"

	driver "github.com/go-sql-driver/mysql"
)

// Error numbers of the server (MySQL Error Message Reference) on which the agent decides something.
const (
	ErrAccessDenied      uint16 = 1045 // ER_ACCESS_DENIED_ERROR: the password is wrong
	ErrDiskFull          uint16 = 1021 // ER_DISK_FULL
	ErrWrite             uint16 = 1026 // ER_ERROR_ON_WRITE
	ErrEngine            uint16 = 1030 // ER_GET_ERRNO: the storage engine failed
	ErrTooManyConns      uint16 = 1040 // ER_CON_COUNT_ERROR
	ErrNoSchema          uint16 = 1049 // ER_BAD_DB_ERROR
	ErrParse             uint16 = 1064 // ER_PARSE_ERROR
	ErrLockWaitTimeout   uint16 = 1205 // ER_LOCK_WAIT_TIMEOUT
	ErrReadOnly          uint16 = 1290 // ER_OPTION_PREVENTS_STATEMENT: mostly super_read_only
	ErrUnknownThread     uint16 = 1094 // ER_NO_SUCH_THREAD: what KILL says of a session that is gone
	ErrTableFull         uint16 = 1114 // ER_RECORD_FILE_FULL: mostly the disk is
	ErrNoTable           uint16 = 1146 // ER_NO_SUCH_TABLE
	ErrCommit            uint16 = 1180 // ER_ERROR_DURING_COMMIT
	ErrDiskFullNow       uint16 = 3675 // ER_DISK_FULL_NOWAIT
	ErrMustChangeReplica uint16 = 3081 // ER_REPLICA_CHANNEL_MUST_STOP: threads are running
	ErrServerOffline     uint16 = 3032 // ER_SERVER_OFFLINE_MODE: the password was right, the server is closed
	ErrCloneDonor        uint16 = 3862 // ER_CLONE_DONOR: the donor's own error is in the text
	ErrTooManyClones     uint16 = 3634 // ER_CLONE_TOO_MANY_CONCURRENT_CLONES, at the donor
)

// Number returns the server's error number, or 0 when err did not come from the server.
func Number(err error) uint16 {
	var answered *driver.MySQLError
	if errors.As(err, &answered) {
		return answered.Number
	}
	return 0
}

// Message returns the server's own words without number and state, or "" when err did not come from the server.
func Message(err error) string {
	var answered *driver.MySQLError
	if errors.As(err, &answered) {
		return answered.Message
	}
	return ""
}
