// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
)

// accountTable lists every account and all it may do.
func accountTable() string {
	specs := slices.Clone(agent.Accounts)
	at := slices.IndexFunc(specs, func(s agent.AccountSpec) bool { return s.Name == agent.AccountReplicator })
	replication := agent.ReplicationSpec(api.ReplicationUser("…"))
	if at >= 0 {
		specs = slices.Insert(specs, at+1, replication)
	}
	rows := make([][]string, 0, len(specs))
	for _, s := range specs {
		rows = append(rows, []string{code(s.Name), hosts(s), s.Purpose, privileges(s)})
	}
	return table([]string{"Account", "Connects from", "Purpose", "Privileges"}, rows)
}

func hosts(s agent.AccountSpec) string {
	if len(s.Hosts) == 0 {
		return "(not a MySQL account)"
	}
	text := codes(s.Hosts)
	if s.RequireSSL {
		text += ", over TLS only"
	}
	return text
}

// privileges of an account; those of root have a list of their own.
func privileges(s agent.AccountSpec) string {
	if s.Name == agent.AccountRoot {
		return "see below"
	}
	var parts []string
	for _, g := range s.Grants {
		parts = append(parts, strings.Join(g.Privileges, ", ")+" on "+code(g.On))
	}
	if len(parts) == 0 {
		return "none"
	}
	if s.GrantOption {
		parts = append(parts, "GRANT OPTION")
	}
	return strings.Join(parts, "; ")
}

// rootPrivileges tells what the tenant's administrator has, and what is taken back.
func rootPrivileges() string {
	at := slices.IndexFunc(agent.Accounts, func(s agent.AccountSpec) bool { return s.Name == agent.AccountRoot })
	root := agent.Accounts[at]
	var b strings.Builder
	for _, g := range root.Grants {
		fmt.Fprintf(&b, "- On %s: %s.\n", code(g.On), strings.Join(g.Privileges, ", "))
	}
	for _, r := range root.Revokes {
		fmt.Fprintf(&b, "- Not on %s: %s.\n", code(r.On), strings.Join(r.Privileges, ", "))
	}
	if root.GrantOption {
		b.WriteString("- GRANT OPTION: root can pass on what it has.\n")
	}
	return b.String()
}
