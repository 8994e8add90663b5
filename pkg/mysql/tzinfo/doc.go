// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tzinfo turns the time zone database that comes with Go into the SQL
// statements that fill the time zone tables of MySQL (mysql.time_zone and its
// kin), so that named zones work from the first day of a cluster, whatever the
// image has in /usr/share/zoneinfo.
//
// The tables are those of MySQL 8.4 and later (manual: "MySQL Server Time Zone
// Support"). They hold what mysqld can use: it converts no instant before
// 1970, so of the transitions before that only the last is kept, and, like
// mysql_tzinfo_to_sql, the rules of a zone are written out through 2037, after
// which mysqld stays with the last offset. Zones with equal rules share them.
//
// The package is pure: the database is handed in as bytes, the statements are
// yielded, nobody is asked for the time. It is called by the agent when it
// initialises a data directory. Functions may be called concurrently.
package tzinfo
