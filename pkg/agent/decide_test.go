// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
)

// report is what a healthy primary with one acknowledgement says.
func report() *mysql.Report {
	r := &mysql.Report{
		Vars: mycnf.Forced(mycnf.MinVersion),
		Status: map[string]string{
			"Rpl_semi_sync_source_status": "ON", "Rpl_semi_sync_source_no_tx": "3", "Rpl_semi_sync_source_no_times": "1",
		},
	}
	r.Vars["rpl_semi_sync_source_enabled"] = "ON"
	r.Vars["rpl_semi_sync_source_wait_for_replica_count"] = "1"
	return r
}

func TestViolation(t *testing.T) {
	one := expectation{start: "s", ackCount: 1, since: counters{noTx: 3, noTimes: 1}}
	alone := expectation{start: "s"}
	tests := map[string]struct {
		expected expectation
		alter    func(*mysql.Report)
		want     string
	}{
		"a healthy primary": {one, func(*mysql.Report) {}, ""},
		"nothing is expected of an instance that is not open": {expectation{}, func(r *mysql.Report) { clear(r.Vars) }, ""},
		"semi-sync was switched off":                          {one, func(r *mysql.Report) { r.Vars["rpl_semi_sync_source_enabled"] = "OFF" }, "semi-sync"},
		"semi-sync switched itself off":                       {one, func(r *mysql.Report) { r.Status["Rpl_semi_sync_source_status"] = "OFF" }, "semi-sync"},
		"fewer acknowledgements are waited for":               {expectation{start: "s", ackCount: 2, since: one.since}, func(*mysql.Report) {}, "1 acknowledgements"},
		"a transaction was not acknowledged":                  {one, func(r *mysql.Report) { r.Status["Rpl_semi_sync_source_no_tx"] = "4" }, "without acknowledgement"},
		"semi-sync was off for a moment":                      {one, func(r *mysql.Report) { r.Status["Rpl_semi_sync_source_no_times"] = "2" }, "without acknowledgement"},
		"alone it needs no semi-sync":                         {alone, func(r *mysql.Report) { r.Status["Rpl_semi_sync_source_status"] = "OFF" }, ""},
		"a forced setting counts for one that is alone, too":  {alone, func(r *mysql.Report) { r.Vars["sync_binlog"] = "0" }, "sync_binlog"},
		"another epoch has begun":                             {expectation{start: "s", ackCount: 1, since: one.since, deposed: true}, func(*mysql.Report) {}, "another epoch"},
		"a file system that is not flushed":                   {alone, func(r *mysql.Report) { r.Vars["innodb_flush_method"] = "nosync" }, "innodb_flush_method"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := report()
			test.alter(r)
			got := test.expected.violation(r)
			if !strings.Contains(got, test.want) || (test.want == "") != (got == "") {
				t.Errorf("got %q, want it to name %q", got, test.want)
			}
		})
	}
}

func TestDeposed(t *testing.T) {
	me, other := &v1beta1.Member{Incarnation: "me"}, &v1beta1.Member{Incarnation: "other"}
	tests := map[string]struct {
		durable state.Durable
		want    bool
	}{
		"nothing was promised": {state.Durable{Incarnation: "me"}, false},
		"its own epoch":        {state.Durable{Incarnation: "me", PromisedEpoch: 2, Record: &v1beta1.ReplicationRecord{Epoch: 2, Primary: me}}, false},
		"an epoch is claimed":  {state.Durable{Incarnation: "me", PromisedEpoch: 3, Record: &v1beta1.ReplicationRecord{Epoch: 3}}, true},
		"another leads":        {state.Durable{Incarnation: "me", PromisedEpoch: 3, Record: &v1beta1.ReplicationRecord{Epoch: 3, Primary: other}}, true},
		"an epoch is promised whose record was not shown": {
			state.Durable{Incarnation: "me", PromisedEpoch: 4, Record: &v1beta1.ReplicationRecord{Epoch: 3, Primary: other}}, false,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := deposed(test.durable); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestDonorIsBusy(t *testing.T) {
	answered := func(number uint16, message string) error {
		return fmt.Errorf("cloning: %w", &driver.MySQLError{Number: number, Message: message})
	}
	tests := map[string]struct {
		err  error
		want bool
	}{
		"the donor's limit, told by the recipient": {answered(3862, "Clone Donor Error: 3634 : Too many concurrent clone operations. Maximum allowed - 1.."), true},
		"the donor's limit, told by itself":        {answered(3634, "Too many concurrent clone operations. Maximum allowed - 1."), true},
		"another error of the donor":               {answered(3862, "Clone Donor Error: Connect failed: 1045 : Access denied."), false},
		"another error":                            {answered(1045, "Access denied: 3634 : x"), false},
		"no answer of a server":                    {fmt.Errorf("broken pipe"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := donorIsBusy(test.err); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestComplaints(t *testing.T) {
	tests := map[string]struct{ output, want string }{
		"errors without their decoration": {
			"2026-11-21T01:47:30.025198Z 0 [ERROR] [MY-000067] [Server] unknown variable 'foo_bar=3'.\n" +
				"2026-11-21T01:47:30.025200Z 0 [Warning] [MY-000081] [Server] option adjusted\n" +
				"2026-11-21T01:47:30.025221Z 0 [ERROR] [MY-010119] [Server] Aborting\n",
			"unknown variable 'foo_bar=3'.",
		},
		"several errors":     {"x [ERROR] [a] one\nx [ERROR] [b] two\n", "one; two"},
		"none that is known": {"Segmentation fault\n", "mysqld --validate-config ended with code 7: Segmentation fault"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, complaints(test.output, 7)); diff != "" {
				t.Errorf("complaints (-want +got):\n%s", diff)
			}
		})
	}
	if got := len(complaints("x [ERROR] "+strings.Repeat("y", 1<<20), 1)); got > maxValidateOutput {
		t.Errorf("the message has %d bytes", got)
	}
}

func TestLoosen(t *testing.T) {
	text := "[mysqld]\nrpl_semi_sync_source_timeout=1\n  rpl-semi-sync-replica-enabled = OFF\nclone_ddl_timeout=3\nmax_connections=5\n# rpl_semi\n"
	want := "[mysqld]\nloose_rpl_semi_sync_source_timeout=1\nloose_rpl-semi-sync-replica-enabled = OFF\nloose_clone_ddl_timeout=3\nmax_connections=5\n# rpl_semi\n"
	if diff := cmp.Diff(want, loosen(text)); diff != "" {
		t.Errorf("loosened (-want +got):\n%s", diff)
	}
}

func TestPreviousAdminPasswordsAreKeptNewestFirstAndBounded(t *testing.T) {
	var kept *settings
	for n := range maxPrevious + 5 {
		req := &api.ConfigureRequest{Accounts: []api.Account{{Username: AccountAdmin, Password: fmt.Sprint("p", n)}}}
		kept = &settings{ConfigureRequest: *req, PreviousAdmin: previousAdmin(kept, req)}
	}
	got := kept.adminPasswords()
	if len(got) != maxPrevious+1 || got[0] != "p12" || got[1] != "p11" || got[maxPrevious] != "p4" {
		t.Errorf("passwords %v", got)
	}
	back := &api.ConfigureRequest{Accounts: []api.Account{{Username: AccountAdmin, Password: "p11"}}}
	again := settings{ConfigureRequest: *back, PreviousAdmin: previousAdmin(kept, back)}
	if got := again.adminPasswords(); got[0] != "p11" || got[1] != "p12" || strings.Count(fmt.Sprint(got), "p11") != 1 {
		t.Errorf("after going back: %v", got)
	}
}

func TestServerIDIsStableAndNeverZero(t *testing.T) {
	seen := map[uint32]string{}
	for n := range 1000 {
		incarnation := fmt.Sprint("incarnation-", n)
		id := serverID(incarnation)
		if id == 0 || id != serverID(incarnation) || seen[id] != "" {
			t.Errorf("%s has server id %d, as has %q", incarnation, id, seen[id])
		}
		seen[id] = incarnation
	}
}

// TestEveryInternalAccountIsOutOfATenantsReach keeps the table honest: only SYSTEM_USER protects an account.
func TestEveryInternalAccountIsOutOfATenantsReach(t *testing.T) {
	for _, spec := range append([]AccountSpec{ReplicationSpec("moco-repl-x")}, Accounts...) {
		privileges := fmt.Sprint(spec.Grants)
		if internal := strings.Contains(privileges, internalOnly); internal == (spec.Name == AccountRoot) && len(spec.Hosts) > 0 {
			t.Errorf("%s has %s: %v", spec.Name, internalOnly, internal)
		}
		if spec.Purpose == "" {
			t.Errorf("%s has no purpose", spec.Name)
		}
	}
}
