// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"slices"
	"testing"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/test/mysqld"
)

// refusals are the numbers of the errors with which the server refuses for lack of a privilege, and nothing else.
var refusals = []uint16{
	1044, // ER_DBACCESS_DENIED_ERROR
	1045, // ER_ACCESS_DENIED_ERROR
	1095, // ER_KILL_DENIED_ERROR
	1142, // ER_TABLEACCESS_DENIED_ERROR
	1143, // ER_COLUMNACCESS_DENIED_ERROR
	1227, // ER_SPECIFIC_ACCESS_DENIED_ERROR
	3630, // ER_PERSIST_ONLY_ACCESS_DENIED_ERROR
	6038, // the GTID's tag needs TRANSACTION_GTID_TAG
}

// forbiddenToRoot is everything by which a tenant could undo what the protocol guarantees.
var forbiddenToRoot = map[string]string{
	"a graceful stop acknowledges writes no replica has": "SHUTDOWN",
	"so does a restart":                                      "RESTART",
	"semi-sync cannot be switched off":                       "SET GLOBAL rpl_semi_sync_source_enabled=OFF",
	"the number of acknowledgements cannot be lowered":       "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count=1",
	"the wait for acknowledgements cannot be cut short":      "SET GLOBAL rpl_semi_sync_source_timeout=1",
	"nothing can be persisted":                               "SET PERSIST max_connections=10",
	"nothing can be persisted for the next start":            "SET PERSIST_ONLY relay_log_recovery=ON",
	"read-only cannot be switched":                           "SET GLOBAL super_read_only=OFF",
	"offline mode cannot be switched":                        "SET GLOBAL offline_mode=OFF",
	"flushing of the binary log cannot be relaxed":           "SET GLOBAL sync_binlog=0",
	"flushing of the redo log cannot be relaxed":             "SET GLOBAL innodb_flush_log_at_trx_commit=0",
	"a session cannot hide from the binary log":              "SET SESSION sql_log_bin=0",
	"a session cannot choose its GTID":                       "SET SESSION gtid_next='11111111-2222-3333-4444-555555555555:moco_e9:1'",
	"the history cannot be reset":                            "RESET BINARY LOGS AND GTIDS",
	"binary logs cannot be purged":                           "PURGE BINARY LOGS BEFORE NOW()",
	"binary logs cannot be rotated":                          "FLUSH BINARY LOGS",
	"replication cannot be stopped":                          "STOP REPLICA",
	"replication cannot be started":                          "START REPLICA",
	"replication cannot be reset":                            "RESET REPLICA ALL",
	"the source cannot be changed":                           "CHANGE REPLICATION SOURCE TO SOURCE_HOST='x'",
	"replication cannot be filtered":                         "CHANGE REPLICATION FILTER REPLICATE_DO_DB=(x)",
	"group replication cannot be started":                    "START GROUP_REPLICATION",
	"events cannot be injected":                              "BINLOG 'AAAA'",
	"the instance cannot be overwritten by a clone":          "CLONE LOCAL DATA DIRECTORY='/tmp/never'",
	"plugins cannot be removed":                              "UNINSTALL PLUGIN rpl_semi_sync_source",
	"plugins cannot be installed":                            "INSTALL PLUGIN x SONAME 'adt_null.so'",
	"components cannot be installed":                         "INSTALL COMPONENT 'file://component_log_sink_json'",
	"functions cannot be loaded from libraries":              "CREATE FUNCTION x RETURNS STRING SONAME 'keyring_udf.so'",
	"redo logging cannot be switched off":                    "ALTER INSTANCE DISABLE INNODB REDO_LOG",
	"tables cannot be flushed, which is logged":              "FLUSH TABLES",
	"privileges cannot be flushed, which is logged":          "FLUSH PRIVILEGES",
	"the instance cannot be locked against DDL":              "LOCK INSTANCE FOR BACKUP",
	"the global read lock cannot be taken":                   "FLUSH TABLES WITH READ LOCK",
	"files cannot be read":                                   "SELECT LOAD_FILE('/etc/passwd') INTO OUTFILE '/tmp/never'",
	"the agent's account cannot be altered":                  "ALTER USER 'moco-admin'@'localhost' IDENTIFIED BY 'x'",
	"the agent's account cannot be dropped":                  "DROP USER 'moco-admin'@'127.0.0.1'",
	"the agent's account cannot be locked":                   "ALTER USER 'moco-admin'@'localhost' ACCOUNT LOCK",
	"the clone account cannot be altered":                    "ALTER USER 'moco-dataprotection'@'%' IDENTIFIED BY 'x'",
	"the monitoring account cannot be dropped":               "DROP USER 'moco-monitoring'@'localhost'",
	"the agent's account cannot be renamed":                  "RENAME USER 'moco-admin'@'localhost' TO 'x'@'localhost'",
	"the agent's account cannot be granted as a role":        "GRANT 'moco-admin'@'localhost' TO root",
	"nothing can be revoked from the agent":                  "REVOKE PROCESS ON *.* FROM 'moco-admin'@'localhost'",
	"what root lacks it cannot grant":                        "GRANT SHUTDOWN ON *.* TO root",
	"nor dynamic privileges":                                 "GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO root",
	"nor SYSTEM_USER":                                        "GRANT SYSTEM_USER ON *.* TO root",
	"nor replication":                                        "GRANT REPLICATION SLAVE ON *.* TO root",
	"nor the schema mysql":                                   "GRANT ALL ON mysql.* TO root",
	"nor the internal schema":                                "GRANT ALL ON moco.* TO root",
	"accounts cannot be written":                             "UPDATE mysql.user SET Super_priv='Y'",
	"accounts cannot be inserted":                            "INSERT INTO mysql.global_grants VALUES ('root','%','SYSTEM_USER','Y')",
	"plugins cannot be registered":                           "DELETE FROM mysql.plugin",
	"the schema mysql cannot be dropped":                     "DROP DATABASE mysql",
	"tables cannot be made in the schema mysql":              "CREATE TABLE mysql.x (i INT)",
	"the internal schema cannot be made":                     "CREATE DATABASE moco",
	"procedures cannot be defined as the agent":              "CREATE DEFINER='moco-admin'@'localhost' PROCEDURE mine.p() SELECT 1",
	"views cannot be defined as the agent":                   "CREATE DEFINER='moco-admin'@'localhost' SQL SECURITY DEFINER VIEW mine.v AS SELECT 1",
	"events cannot be defined as the agent":                  "CREATE DEFINER='moco-admin'@'localhost' EVENT mine.e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
	"nothing can be defined by an account that is yet to be": "CREATE DEFINER='moco-repl-x'@'%' PROCEDURE mine.q() SELECT 1",
}

// allowedToRoot is what a tenant needs, in order.
var allowedToRoot = []string{
	"CREATE DATABASE mine",
	"CREATE TABLE mine.t (i INT PRIMARY KEY, v INT)",
	"CREATE TRIGGER mine.tr BEFORE INSERT ON mine.t FOR EACH ROW SET NEW.v = 1",
	"CREATE FUNCTION mine.f() RETURNS INT RETURN 1",
	"CREATE PROCEDURE mine.r() SELECT 1",
	"CREATE EVENT mine.ev ON SCHEDULE EVERY 1 DAY DO SELECT 1",
	"CREATE VIEW mine.vi AS SELECT 1",
	"INSERT INTO mine.t VALUES (1, 2)",
	"CREATE USER someone@'%' IDENTIFIED BY 'x'",
	"GRANT ALL ON mine.* TO someone@'%'",
	"CREATE ROLE reader",
	"GRANT SELECT ON *.* TO reader",
	"GRANT reader TO someone@'%'",
	"CREATE DEFINER=someone@'%' PROCEDURE mine.s() SELECT 1",
	"ALTER USER someone@'%' ACCOUNT LOCK",
	"SELECT user, host FROM mysql.user",
	"SHOW GRANTS FOR someone@'%'",
	"SELECT * FROM sys.version",
	"SELECT * FROM performance_schema.threads LIMIT 1",
	"SHOW PROCESSLIST",
	"SHOW REPLICA STATUS",
	"SHOW BINARY LOG STATUS",
	"SELECT COUNT(*) FROM mysql.time_zone_name",
	"XA RECOVER",
	"ALTER USER root@'%' IDENTIFIED BY 'changed'",
	"DROP DATABASE mine",
	"DROP USER someone@'%'",
}

func TestRootHasEverythingButWhatUndoesTheProtocol(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "root")
	i.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(i)
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	root := i.Session(i.Endpoint(agent.AccountRoot, c.Passwords[agent.AccountRoot]))
	exec := func(statement string) {
		t.Helper()
		if err := root.Exec(ctx, statement); err != nil {
			t.Errorf("root may not do %s: %v", statement, err)
		}
	}
	exec("CREATE DATABASE mine")
	exec("CREATE TABLE mine.t (i INT PRIMARY KEY)")
	for name, statement := range forbiddenToRoot {
		t.Run(name, func(t *testing.T) { mustBeRefused(ctx, t, root, statement) })
	}
	t.Run("the agent's sessions cannot be killed", func(t *testing.T) {
		ids, err := root.Column(ctx, "SELECT id FROM performance_schema.processlist WHERE user=?", agent.AccountAdmin)
		if err != nil || len(ids) == 0 {
			t.Fatalf("the agent has no session: %v", err)
		}
		mustBeRefused(ctx, t, root, "KILL "+ids[0])
	})
	exec("DROP DATABASE mine")
	for _, statement := range allowedToRoot {
		exec(statement)
	}
}

func mustBeRefused(ctx context.Context, t *testing.T, session *mysql.Session, statement string) {
	t.Helper()
	err := session.Exec(ctx, statement)
	if !slices.Contains(refusals, mysql.Number(err)) {
		t.Errorf("%s: got error %v, want a refusal for lack of a privilege", statement, err)
	}
}
