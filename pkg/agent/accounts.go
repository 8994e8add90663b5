// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/mysql"
)

// Names of the fixed accounts.
const (
	AccountRoot           = "root"
	AccountAdmin          = "moco-admin"
	AccountDataProtection = "moco-dataprotection"
	AccountProbe          = "moco-probe"
	AccountMonitoring     = "moco-monitoring"
	AccountReplicator     = "moco-replicator"
)

// ApplicationPrivileges is what bootstrap.user gets on bootstrap.database.
const ApplicationPrivileges = "ALL PRIVILEGES"

// InternalSchema is the schema that no tenant can reach.
const InternalSchema = "moco"

// Grant is a set of privileges on one object.
type Grant struct {
	// Privileges as GRANT names them.
	Privileges []string
	// On is the object, for example *.* or sys.*.
	On string
}

// AccountSpec is one fixed account and all it may do.
type AccountSpec struct {
	Name string
	// Hosts it may come from; one MySQL account each. None: only the password is used, by the accounts of ReplicationSpec.
	Hosts []string
	// RequireSSL refuses connections without TLS.
	RequireSSL bool
	Grants     []Grant
	// Revokes take parts of the grants on *.* back (partial_revokes).
	Revokes []Grant
	// GrantOption lets the account pass on what it has.
	GrantOption bool
	// Purpose in one sentence, for the documentation.
	Purpose string
}

// internalOnly keeps tenants from altering or dropping an account: only who has SYSTEM_USER, too, can.
const internalOnly = "SYSTEM_USER"

// rootPrivileges is every privilege on data and accounts. What is missing is missing on purpose. SHUTDOWN: a graceful
// stop acknowledges writes that no replica has. SUPER, SYSTEM_VARIABLES_ADMIN, SESSION_VARIABLES_ADMIN, BINLOG_ADMIN,
// REPLICATION_SLAVE_ADMIN, REPLICATION_APPLIER, GROUP_REPLICATION_ADMIN, CLONE_ADMIN, PERSIST_RO_VARIABLES_ADMIN: they
// change replication, the binary log or forced settings. CONNECTION_ADMIN: writes past offline_mode. RELOAD and FLUSH_*:
// they write transactions on a replica. REPLICATION SLAVE: a stranger could acknowledge. FILE: it reads the volume.
// ALLOW_NONEXISTENT_DEFINER: an object could be defined by an internal account of the future. SYSTEM_USER: it alters
// internal accounts. OPTIMIZE_LOCAL_TABLE: it bypasses the binary log.
var rootPrivileges = []string{
	"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE TEMPORARY TABLES",
	"LOCK TABLES", "EXECUTE", "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER",
	"CREATE USER", "CREATE ROLE", "DROP ROLE", "PROCESS", "SHOW DATABASES", "REPLICATION CLIENT",
	"ROLE_ADMIN", "SET_ANY_DEFINER", "SHOW_ROUTINE", "XA_RECOVER_ADMIN", "APPLICATION_PASSWORD_ADMIN",
}

// schemaPrivileges is all that can be granted on a schema, for REVOKE ... ON schema.*. SELECT is the first.
var schemaPrivileges = []string{
	"SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REFERENCES", "INDEX", "ALTER", "CREATE TEMPORARY TABLES",
	"LOCK TABLES", "EXECUTE", "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER",
}

// Accounts is the table of the fixed accounts, in the order in which they are made.
var Accounts = []AccountSpec{
	{
		Name: AccountAdmin, Hosts: []string{"localhost", "127.0.0.1"}, GrantOption: true,
		Purpose: "The agent's own account; usable inside the Pod only.",
		Grants: []Grant{{On: "*.*", Privileges: []string{
			internalOnly, "SELECT", "CREATE USER", "PROCESS", "RELOAD", "REPLICATION CLIENT", "REPLICATION SLAVE",
			"CONNECTION_ADMIN", "SERVICE_CONNECTION_ADMIN", "SYSTEM_VARIABLES_ADMIN", "SESSION_VARIABLES_ADMIN",
			"REPLICATION_SLAVE_ADMIN", "REPLICATION_APPLIER", "TRANSACTION_GTID_TAG", "BINLOG_ADMIN", "BACKUP_ADMIN",
			"EVENT", "SET_ANY_DEFINER", // a new primary enables the scheduled events, which keep their definers
		}}, {On: InternalSchema + ".*", Privileges: []string{"CREATE", "INSERT", "UPDATE", "DELETE"}}},
	},
	{
		Name: AccountRoot, Hosts: []string{"%"}, GrantOption: true,
		Purpose: "The tenant's administrator: everything on the data, nothing by which acknowledged writes could be lost.",
		Grants: []Grant{
			{On: "*.*", Privileges: rootPrivileges},
		},
		// SELECT on the schema mysql stays: SHOW GRANTS FOR needs it.
		Revokes: []Grant{{On: "mysql.*", Privileges: schemaPrivileges[1:]}, {On: InternalSchema + ".*", Privileges: schemaPrivileges}},
	},
	{
		Name: AccountDataProtection, Hosts: []string{"%"}, RequireSSL: true,
		Purpose: "Clones and backups: reads the data files of this instance.",
		Grants:  []Grant{{On: "*.*", Privileges: []string{internalOnly, "BACKUP_ADMIN"}}},
	},
	{
		Name: AccountProbe, Hosts: []string{"localhost"},
		Purpose: "Logs in and can do nothing.",
		Grants:  []Grant{{On: "*.*", Privileges: []string{internalOnly}}},
	},
	{
		Name: AccountMonitoring, Hosts: []string{"localhost"},
		Purpose: "The metrics exporter, over the socket inside the Pod.",
		Grants: []Grant{
			{On: "*.*", Privileges: []string{internalOnly, "PROCESS", "REPLICATION CLIENT"}},
			{On: "performance_schema.*", Privileges: []string{"SELECT"}},
			{On: "sys.*", Privileges: []string{"SELECT"}},
		},
	},
	{Name: AccountReplicator, Purpose: "Its password is that of the replication accounts, one for each incarnation."},
}

// ReplicationSpec is the account with which one incarnation replicates. CONNECTION_ADMIN: otherwise offline_mode on the
// source ends the replication connections, and a closed primary could not get its marker acknowledged.
func ReplicationSpec(user string) AccountSpec {
	return AccountSpec{
		Name: user, Hosts: []string{"%"}, RequireSSL: true,
		Purpose: "Replication of one incarnation.",
		Grants:  []Grant{{On: "*.*", Privileges: []string{internalOnly, "REPLICATION SLAVE", "CONNECTION_ADMIN"}}},
	}
}

// ensureAccount makes the account, or sets the password and privileges of the one there is. Each statement is written to
// the binary log unless the session has switched that off.
func ensureAccount(ctx context.Context, s *mysql.Session, spec AccountSpec, password string) error {
	for _, host := range spec.Hosts {
		require := " REQUIRE NONE"
		if spec.RequireSSL {
			require = " REQUIRE SSL"
		}
		for _, statement := range []string{"CREATE USER IF NOT EXISTS ?@? IDENTIFIED BY ?", "ALTER USER ?@? IDENTIFIED BY ?"} {
			if err := s.Exec(ctx, statement+require, spec.Name, host, password); err != nil {
				return fmt.Errorf("making the account %s: %w", spec.Name, err)
			}
		}
		if err := grant(ctx, s, spec, host); err != nil {
			return err
		}
	}
	return nil
}

// grant gives the privileges the table names and takes parts back.
func grant(ctx context.Context, s *mysql.Session, spec AccountSpec, host string) error {
	option := ""
	if spec.GrantOption {
		option = " WITH GRANT OPTION"
	}
	for _, g := range spec.Grants {
		statement := "GRANT " + strings.Join(g.Privileges, ", ") + " ON " + g.On + " TO ?@?"
		if err := s.Exec(ctx, statement+option, spec.Name, host); err != nil {
			return fmt.Errorf("granting to %s on %s: %w", spec.Name, g.On, err)
		}
	}
	for _, r := range spec.Revokes {
		statement := "REVOKE " + strings.Join(r.Privileges, ", ") + " ON " + r.On + " FROM ?@?"
		if err := s.Exec(ctx, statement, spec.Name, host); err != nil {
			return fmt.Errorf("revoking from %s on %s: %w", spec.Name, r.On, err)
		}
	}
	return nil
}

// setPassword changes the password of the account's every host.
func setPassword(ctx context.Context, s *mysql.Session, spec AccountSpec, password string) error {
	for _, host := range spec.Hosts {
		if err := s.Exec(ctx, "ALTER USER IF EXISTS ?@? IDENTIFIED BY ?", spec.Name, host, password); err != nil {
			return fmt.Errorf("setting the password of %s: %w", spec.Name, err)
		}
	}
	return nil
}

// accountSpec finds a fixed account in the table.
func accountSpec(name string) (AccountSpec, bool) {
	i := slices.IndexFunc(Accounts, func(spec AccountSpec) bool { return spec.Name == name })
	if i < 0 {
		return AccountSpec{}, false
	}
	return Accounts[i], true
}
