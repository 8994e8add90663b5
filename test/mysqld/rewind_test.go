// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/mysqld"
)

// waiting says how many sessions wait for an acknowledgement, the followers of a group commit included.
const waiting = "SELECT COUNT(*) FROM performance_schema.processlist WHERE state LIKE 'Waiting for semi-sync ACK%' OR state='waiting for handler commit'"

// returner is a pair whose replica takes over while commits wait on the primary.
type returner struct {
	pair
	t *testing.T
	// admin is a session of the agent's account on the old primary.
	admin *mysql.Session
}

// newReturner makes a pair with a table of three acknowledged rows in two binary log files.
func newReturner(t *testing.T, options ...string) returner {
	t.Helper()
	p := pair{Cluster: mysqld.NewCluster(t, &lab), primary: mysqld.NewInstance(t, &lab, "a"), replica: mysqld.NewInstance(t, &lab, "b")}
	p.MyCnf += "\n[mysqld]\n" + strings.Join(options, "\n") + "\n"
	p.primary.Start()
	p.Bootstrap(p.primary)
	p.replica.Start()
	p.Clone(p.replica, p.primary)
	p.Follow(p.replica, p.primary, api.AckOff)
	p.Grow(p.primary, 1, p.primary, p.replica)
	p.opened(1, p.primary, p.primary, p.replica)
	r := returner{pair: p, t: t, admin: p.primary.Session(adminEndpoint(p.primary, p.Passwords[agent.AccountAdmin]))}
	root := p.root(p.primary)
	execAll(t, root, "CREATE DATABASE d", "CREATE TABLE d.t (i INT PRIMARY KEY, v VARCHAR(200))", "INSERT INTO d.t VALUES (1, 'a')")
	execAll(t, r.admin, "FLUSH BINARY LOGS")
	execAll(t, root, "INSERT INTO d.t VALUES (2, 'a')", "INSERT INTO d.t VALUES (3, 'a')")
	awaitSQL(t, p.replica.Session(adminEndpoint(p.replica, p.Passwords[agent.AccountAdmin])), "3", "SELECT COUNT(*) FROM d.t")
	return r
}

// opened records an opened epoch with the server UUID of its primary.
func (p pair) opened(ackCount int32, primary *mysqld.Instance, voters ...*mysqld.Instance) {
	p.Opened(ackCount, 1, voters...)
	p.Record.LastOpened.ServerUUID = primary.Await("a server", func(s *api.Status) bool { return s.Server != nil }).Server.ServerUUID
}

// begin begins a commit with each of the statements, in sessions of their own, and waits until all wait. None may succeed.
func (r returner) begin(statements ...string) {
	r.t.Helper()
	var before int
	if err := r.admin.Row(r.t.Context(), []any{&before}, waiting); err != nil {
		r.t.Fatal(err)
	}
	for _, statement := range statements {
		outcome := commit(r.root(r.primary), statement)
		r.t.Cleanup(func() {
			if err := <-outcome; err == nil {
				r.t.Errorf("%s: acknowledged without a replica", statement)
			}
		})
	}
	awaitSQL(r.t, r.admin, fmt.Sprint(before+len(statements)), waiting)
}

// takeOver makes the replica the open primary of the next epoch with the given voters. The old primary is killed by its
// promise.
func (r returner) takeOver(voters ...*mysqld.Instance) {
	r.t.Helper()
	r.Record.Epoch++
	r.Record.Claim, r.Record.Phase, r.Record.Primary = fmt.Sprintf("claim-%d", r.Record.Epoch), v1beta1.RecordClaimed, nil
	r.Do(r.replica, api.CommandPromise, &api.PromiseRequest{Record: r.Record})
	r.Do(r.primary, api.CommandPromise, &api.PromiseRequest{Record: r.Record})
	r.Choose(r.replica)
	r.Lead(r.replica, 0)
	r.AwaitMarker(r.replica, r.Mark(r.replica, 1))
	r.opened(0, r.replica, voters...)
	r.Open(r.replica)
	r.Do(r.primary, api.CommandPromise, &api.PromiseRequest{Record: r.Record})
}

// executed is the history of the new primary.
func (r returner) executed() string {
	r.t.Helper()
	return gtids(r.t, r.replica, r.Passwords[agent.AccountAdmin])
}

func gtids(t *testing.T, i *mysqld.Instance, password string) string {
	t.Helper()
	session := mysqld.AwaitSession(t, adminEndpoint(i, password))
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	column, err := session.Column(ctx, "SELECT @@GLOBAL.gtid_executed")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(column[0], "\n", "")
}

// comeBack sends return to the old primary.
func (r returner) comeBack() *api.Status {
	r.t.Helper()
	r.Do(r.primary, api.CommandReturn, &api.ReturnRequest{Record: r.Record, Executed: r.executed()})
	return r.primary.Status()
}

// wantSame demands that the old primary, once it follows the new one, has its rows and its history.
func (r returner) wantSame() {
	r.t.Helper()
	execAll(r.t, r.root(r.replica), "INSERT INTO d.t VALUES (9999, 'new')")
	want := r.executed()
	here := mysqld.AwaitSession(r.t, adminEndpoint(r.primary, r.Passwords[agent.AccountAdmin]))
	there := mysqld.AwaitSession(r.t, adminEndpoint(r.replica, r.Passwords[agent.AccountAdmin]))
	awaitSQL(r.t, here, "1", "SELECT COUNT(*) FROM d.t WHERE i=9999")
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	for _, query := range []string{"SELECT CONCAT(i, v) FROM d.t ORDER BY i", "SELECT column_name FROM information_schema.columns WHERE table_schema='d'"} {
		theirs, err := there.Column(ctx, query)
		if err != nil {
			r.t.Fatal(err)
		}
		mine, err := here.Column(ctx, query)
		if err != nil {
			r.t.Fatal(err)
		}
		if diff := cmp.Diff(theirs, mine); diff != "" {
			r.t.Errorf("%s (-new primary +returner):\n%s", query, diff)
		}
	}
	// A marker that nobody acknowledged may stay: it is empty, and no reason to cut.
	if diff := cmp.Diff(withoutMarkers(r.t, want), withoutMarkers(r.t, gtids(r.t, r.primary, r.Passwords[agent.AccountAdmin]))); diff != "" {
		r.t.Errorf("gtid_executed (-new primary +returner):\n%s", diff)
	}
}

func inserts(n int) []string {
	var statements []string
	for i := range n {
		statements = append(statements, fmt.Sprintf("INSERT INTO d.t VALUES (%d, REPEAT('x', 150))", 100+i))
	}
	return statements
}

func TestAnOldPrimaryIsRewound(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		options    []string
		statements []string
		marker     bool // a marker waits, too
	}{
		"one waiting insert":                        {statements: inserts(1)},
		"200 waiting inserts":                       {statements: inserts(200), options: []string{"max_connections=300"}},
		"50 waiting inserts, compressed":            {statements: inserts(50), options: []string{"max_connections=300", "binlog_transaction_compression=ON"}},
		"a waiting change of the schema":            {statements: []string{"ALTER TABLE d.t ADD COLUMN extra INT"}},
		"a new table and an account":                {statements: []string{"CREATE TABLE d.more (i INT PRIMARY KEY)", "CREATE USER extra IDENTIFIED BY 'Secret-1'"}},
		"a dropped table":                           {statements: []string{"DROP TABLE d.t"}},
		"an insert and a marker that was not acked": {statements: inserts(2), marker: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReturner(t, c.options...)
			before := r.primary.Status().Server.ServerUUID
			r.loseReplica(t)
			if c.marker {
				r.Next(1, r.primary, r.replica)
				r.Lead(r.primary, 1)
				r.Mark(r.primary, 7)
				awaitSQL(t, r.admin, "1", waiting)
				execAll(t, r.admin, "SET GLOBAL read_only=OFF")
			}
			r.begin(c.statements...)
			r.takeOver(r.primary, r.replica)
			if status := r.primary.Status(); status.Mysqld != api.MysqldDown || !status.NeedsReturn {
				t.Fatalf("after the takeover: %s", mysqld.Describe(status))
			}
			status := r.comeBack()
			if status.NeedsReturn || status.Unvouched == "" || status.Diverged != nil {
				t.Fatalf("after the return: %s", mysqld.Describe(status))
			}
			wantQuarantine(t, r.primary, "rewind", len(c.statements))
			r.StartServer(r.primary)
			status = r.primary.Status()
			if status.Server.ServerUUID == before {
				t.Error("the rewound instance has kept its server UUID, under which the cut GTIDs would come again")
			}
			if reason := r.Refused(r.primary, api.CommandStart, &api.StartRequest{}); reason != "" {
				t.Errorf("start: refused as %q", reason)
			}
			r.Follow(r.primary, r.replica, api.AckOn)
			r.wantSame()
			if status := r.primary.Status(); status.Diverged != nil {
				t.Errorf("after the rewind: %s", mysqld.Describe(status.Diverged))
			}
		})
	}
}

// wantQuarantine looks for the newest entry, which must be of that kind and name at least so many GTIDs.
func wantQuarantine(t *testing.T, i *mysqld.Instance, kind string, count int) {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(i.Conf.DataRoot, "quarantine", "*-"+kind))
	if err != nil || len(entries) == 0 || len(entries) > 5 {
		t.Fatalf("quarantine: %v, %v", entries, err)
	}
	text, err := os.ReadFile(filepath.Join(entries[len(entries)-1], "about.json"))
	if err != nil {
		t.Fatal(err)
	}
	var about struct {
		GTIDs string `json:"gtids"`
		Epoch int64  `json:"epoch"`
	}
	if err := json.Unmarshal(text, &about); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(entries[len(entries)-1])
	if err != nil || len(files) < 2 || about.Epoch == 0 || count > 0 && about.GTIDs == "" {
		t.Errorf("quarantine holds %v (%v) and says %s", files, err, text)
	}
}

// TestWhatCannotBeRewoundIsReported starts an old primary whose tail stays, so that it is executed and found; then it is
// emptied and cloned. It is also the proof that the comparisons of a rewound instance can fail.
func TestWhatCannotBeRewoundIsReported(t *testing.T) {
	t.Parallel()
	t.Run("a distributed transaction in the tail", func(t *testing.T) {
		t.Parallel()
		r := newReturner(t)
		r.loseReplica(t)
		root := r.root(r.primary)
		execAll(t, root, "XA START 'x'", "INSERT INTO d.t VALUES (50, 'x')", "XA END 'x'")
		outcome := commit(root, "XA PREPARE 'x'")
		awaitSQL(t, r.admin, "1", waiting)
		r.takeOver(r.replica)
		if err := <-outcome; err == nil {
			t.Error("XA PREPARE was acknowledged without a replica")
		}
		r.wantDiverged(r.comeBack())
	})
	t.Run("a tail that was executed by a restart", func(t *testing.T) {
		t.Parallel()
		r := newReturner(t)
		r.loseReplica(t)
		r.begin(inserts(3)...)
		r.primary.Crash()
		r.primary.Start()
		r.StartServer(r.primary)
		r.takeOver(r.replica)
		r.wantDiverged(nil)
	})
}

// wantDiverged lets the returner start, if it is down, and wants it to be found to have executed too much. Then it is
// discarded and cloned.
func (r returner) wantDiverged(down *api.Status) {
	r.t.Helper()
	if down != nil {
		if down.Mysqld != api.MysqldDown || down.NeedsReturn || down.Unvouched == "" {
			r.t.Fatalf("after the return: %s", mysqld.Describe(down))
		}
		r.StartServer(r.primary)
	}
	status := r.comeBack()
	if status.Diverged == nil || status.Diverged.GTIDs == "" {
		r.t.Fatalf("executed more than the new primary, and is not diverged: %s", mysqld.Describe(status))
	}
	named := r.Record
	named.Earlier = []v1beta1.Configuration{{Voters: []v1beta1.Member{mysqld.Member(r.primary)}}}
	request := func(record v1beta1.ReplicationRecord) *api.DiscardRequest {
		return &api.DiscardRequest{Record: record, Executed: r.executed()}
	}
	if reason := r.Refused(r.primary, api.CommandDiscard, request(named)); reason != api.ErrorPrecondition {
		r.t.Errorf("discarding an earlier voter: refused as %q, want Precondition", reason)
	}
	before := r.primary.Status()
	r.Record.Earlier = nil
	r.Do(r.primary, api.CommandDiscard, request(r.Record))
	status = r.primary.Status()
	if status.Volume != api.VolumeEmpty || status.Incarnation == before.Incarnation || status.PromisedEpoch != before.PromisedEpoch ||
		status.PromisedClaim != before.PromisedClaim || status.Mysqld != api.MysqldDown || status.Diverged == nil || status.Diverged.Quarantine == "" {
		r.t.Fatalf("after the discard: %s", mysqld.Describe(status))
	}
	wantQuarantine(r.t, r.primary, "discard", 1)
	r.Clone(r.primary, r.replica)
	r.Follow(r.primary, r.replica, api.AckOff)
	if status := r.primary.Status(); status.Diverged != nil || status.Unvouched != "" || status.PromisedEpoch != before.PromisedEpoch {
		r.t.Errorf("after the clone: %s", mysqld.Describe(status))
	}
	r.wantSame()
}

// TestARewindIsEndedByTheNextAgent leaves the intent of a rewind behind, as an agent does that dies right after it was
// written, and again after the cut.
func TestARewindIsEndedByTheNextAgent(t *testing.T) {
	t.Parallel()
	r := newReturner(t)
	r.loseReplica(t)
	r.begin(inserts(5)...)
	r.takeOver(r.primary, r.replica)
	data := filepath.Join(r.primary.Conf.DataRoot, "data")
	logs, err := filepath.Glob(filepath.Join(data, "binlog.[0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	last := logs[len(logs)-1]
	whole, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	auto, err := os.ReadFile(filepath.Join(data, "auto.cnf"))
	if err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(filepath.Join(r.primary.Conf.DataRoot, "moco", "state"))
	if err != nil {
		t.Fatal(err)
	}
	r.comeBack()
	cut := fileSize(t, last)
	intent, err := json.Marshal(map[string]any{
		"file": filepath.Base(last), "offset": cut, "size": len(whole), "gtids": "11111111-1111-1111-1111-111111111111:1",
		"epoch": r.Record.Epoch, "entry": filepath.Join(r.primary.Conf.DataRoot, "quarantine", "00000077-rewind"),
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"before the cut": whole, "after the cut": whole[:cut]} {
		r.primary.Crash()
		for path, text := range map[string][]byte{
			last: content, filepath.Join(data, "auto.cnf"): auto, filepath.Join(r.primary.Conf.DataRoot, "moco", "state"): state,
			filepath.Join(r.primary.Conf.DataRoot, "moco", "rewind.json"): intent,
		} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r.primary.Start()
		status := r.primary.Status()
		if size := fileSize(t, last); size != cut || status.NeedsReturn || status.Unvouched == "" {
			t.Fatalf("%s: the file has %d bytes, want %d; %s", name, size, cut, mysqld.Describe(status))
		}
		if left, err := filepath.Glob(filepath.Join(data, "auto.cnf")); err != nil || len(left) > 0 {
			t.Fatalf("%s: the server UUID is still there: %v, %v", name, left, err)
		}
	}
	kept := filepath.Join(r.primary.Conf.DataRoot, "quarantine", "00000077-rewind", filepath.Base(last)+".tail")
	if diff := cmp.Diff(int64(len(whole))-cut, fileSize(t, kept)); diff != "" {
		t.Errorf("bytes in quarantine (-want +got): %s", diff)
	}
	r.StartServer(r.primary)
	r.Follow(r.primary, r.replica, api.AckOn)
	r.wantSame()
}

// TestAVoteIsLostWithTheHostAndRegained restarts the host of a replica.
func TestAVoteIsLostWithTheHostAndRegained(t *testing.T) {
	t.Parallel()
	r := newReturner(t)
	for _, i := range []*mysqld.Instance{r.primary, r.replica} {
		r.Do(i, api.CommandPromise, &api.PromiseRequest{Record: r.Record})
	}
	r.replica.Crash()
	r.replica.Conf.BootID = "boot-2"
	r.replica.Start()
	if status := r.replica.Status(); status.Unvouched == "" {
		t.Fatalf("after a restart of the host: %s", mysqld.Describe(status))
	}
	r.primary.Crash()
	r.primary.Conf.BootID = "boot-2"
	r.primary.Start()
	if status := r.primary.Status(); status.Unvouched != "" {
		t.Fatalf("the primary, which has no relay log, lost its vote: %s", status.Unvouched)
	}
	r.StartServer(r.primary)
	r.Lead(r.primary, 1)
	r.StartServer(r.replica)
	attempt := int64(5)
	awaited := agent.MarkerGTID(&r.Record, attempt)
	await := &api.AwaitRequest{Record: r.Record, GTID: awaited}
	if reason := r.Refused(r.replica, api.CommandAwait, await); reason != api.ErrorPrecondition {
		t.Errorf("awaiting before the relay log was given up: refused as %q, want Precondition", reason)
	}
	r.Do(r.replica, api.CommandFollow, r.FollowRequest(r.replica, r.primary, api.AckOn)) // the account is there
	r.replica.Await("it is connected", func(s *api.Status) bool {
		return s.Server != nil && s.Server.Channel != nil && s.Server.Channel.Receiver == "Yes"
	})
	wantQuarantine(t, r.replica, "relay", 0)
	r.AwaitMarker(r.primary, r.Mark(r.primary, 4))
	if reason := r.Refused(r.replica, api.CommandAwait, &api.AwaitRequest{Record: r.Record, GTID: agent.MarkerGTID(&r.Record, 4)}); reason != api.ErrorPrecondition {
		t.Errorf("awaiting a marker that is there already: refused as %q, want Precondition", reason)
	}
	r.Do(r.replica, api.CommandAwait, await)
	r.AwaitMarker(r.primary, r.Mark(r.primary, 6))
	r.replica.Await("another marker", func(s *api.Status) bool {
		return s.Server != nil && strings.Contains(s.Server.GTIDExecuted, ":4:6")
	})
	if status := r.replica.Status(); status.Unvouched == "" || status.Awaiting != awaited {
		t.Fatalf("another marker gave the vote back: %s", mysqld.Describe(status))
	}
	r.AwaitMarker(r.primary, r.Mark(r.primary, attempt))
	r.replica.Await("the vote is back", func(s *api.Status) bool { return s.Unvouched == "" && s.Awaiting == "" })

	t.Run("a clean stop keeps it", func(t *testing.T) {
		r.Do(r.replica, api.CommandStop, &api.StopRequest{})
		r.replica.Await("mysqld has ended", func(s *api.Status) bool { return s.Mysqld == api.MysqldDown })
		r.replica.StopAgent() // which waits for the flush
		r.replica.Crash()
		r.replica.Conf.BootID = "boot-3"
		r.replica.Start()
		if status := r.replica.Status(); status.Unvouched != "" {
			t.Errorf("after a clean stop and a restart of the host: %s", status.Unvouched)
		}
	})
}

// TestARelayLogBeyondTheHistoryIsDropped has a replica that received what no primary has, and has not applied it.
func TestARelayLogBeyondTheHistoryIsDropped(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(*testing.T, returner, *mysqld.Instance){
		"the applier is stopped": func(t *testing.T, r returner, third *mysqld.Instance) {
			execAll(t, third.Session(adminEndpoint(third, r.Passwords[agent.AccountAdmin])), "STOP REPLICA SQL_THREAD")
		},
		"the applier waits for the lock of a reader": func(t *testing.T, r returner, third *mysqld.Instance) {
			r.Open(third)
			execAll(t, r.root(third), "LOCK TABLES d.t READ")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			relayLogIsDropped(t, hold)
		})
	}
}

func relayLogIsDropped(t *testing.T, hold func(*testing.T, returner, *mysqld.Instance)) {
	r := newReturner(t)
	third := mysqld.NewInstance(t, &lab, "c")
	third.Start()
	r.Clone(third, r.primary)
	r.Follow(third, r.primary, api.AckOff)
	admin := third.Session(adminEndpoint(third, r.Passwords[agent.AccountAdmin]))
	awaitSQL(t, admin, "3", "SELECT COUNT(*) FROM d.t")
	hold(t, r, third)
	r.loseReplica(t)
	r.begin(inserts(2)...)
	third.Await("two transactions are received", func(s *api.Status) bool {
		return s.Server != nil && s.Server.Received != s.Server.GTIDExecuted
	})
	r.takeOver(r.primary, r.replica)
	r.Do(third, api.CommandPromise, &api.PromiseRequest{Record: r.Record})
	r.Do(third, api.CommandReturn, &api.ReturnRequest{Record: r.Record, Executed: r.executed()})
	status := third.Await("the channel is gone", func(s *api.Status) bool { return s.Server != nil && s.Server.Channel == nil })
	if status.Diverged != nil || status.Unvouched == "" {
		t.Fatalf("after the return: %s", mysqld.Describe(status))
	}
	wantQuarantine(t, third, "relay", 2)
	r.Follow(third, r.replica, api.AckOff)
	execAll(t, mysqld.AwaitSession(t, adminEndpoint(third, r.Passwords[agent.AccountAdmin])), "SET GLOBAL offline_mode=ON") // readers go
	r.primary = third
	r.wantSame()
}

// TestARepointKeepsTheRelayLog repoints a replica to a primary that lacks what only its relay log holds.
func TestARepointKeepsTheRelayLog(t *testing.T) {
	t.Parallel()
	r := newReturner(t)
	third := mysqld.NewInstance(t, &lab, "c")
	third.Start()
	r.Clone(third, r.primary)
	r.Follow(third, r.primary, api.AckOff)
	admin := third.Session(adminEndpoint(third, r.Passwords[agent.AccountAdmin]))
	awaitSQL(t, admin, "3", "SELECT COUNT(*) FROM d.t")
	execAll(t, admin, "STOP REPLICA SQL_THREAD")
	r.loseReplica(t)
	r.begin(inserts(2)...)
	third.Await("two transactions are received", func(s *api.Status) bool {
		return s.Server != nil && s.Server.Received != s.Server.GTIDExecuted
	})
	r.takeOver(r.primary, r.replica)
	r.Do(third, api.CommandPromise, &api.PromiseRequest{Record: r.Record})
	r.Follow(third, r.replica, api.AckOff)
	// The promise has ended the session from before.
	awaitSQL(t, mysqld.AwaitSession(t, adminEndpoint(third, r.Passwords[agent.AccountAdmin])), "5", "SELECT COUNT(*) FROM d.t")
	if status := third.Status(); status.Unvouched != "" {
		t.Errorf("a repoint cost the vote: %s", status.Unvouched)
	}
	t.Run("what was executed so is reported", func(t *testing.T) {
		r.Do(third, api.CommandReturn, &api.ReturnRequest{Record: r.Record, Executed: r.executed()})
		if status := third.Status(); status.Diverged == nil {
			t.Errorf("status %s", mysqld.Describe(status))
		}
	})
}

// withoutMarkers is a GTID set without the markers of the cluster.
func withoutMarkers(t *testing.T, text string) string {
	t.Helper()
	set, err := gtid.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set.WithoutTagPrefix(gtid.MarkerTagPrefix).String()
}
