// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/test/mysqld"
)

// bootstrap is an application's schema whose script must have run exactly once.
var bootstrap = api.InitialiseRequest{
	Database: "shop", User: "app",
	InitSQL: `CREATE TABLE once (i INT PRIMARY KEY AUTO_INCREMENT);
INSERT INTO once VALUES (1);
CREATE PROCEDURE add_one() BEGIN INSERT INTO once VALUES (); SELECT COUNT(*) FROM once; END;
CREATE TRIGGER counted AFTER INSERT ON once FOR EACH ROW SET @seen = NEW.i;
INSERT INTO once VALUES (2)`,
}

// TestInitialisationSurvivesACrashAtAnyStage loses the Pod at each stage in turn; then it must go through.
func TestInitialisationSurvivesACrashAtAnyStage(t *testing.T) {
	t.Parallel()
	i := mysqld.NewInstance(t, &lab, "a")
	c := mysqld.NewCluster(t, &lab)
	c.Application = &api.Account{Username: "app", Password: "app's"}
	i.Start()
	incarnation := i.Status().Incarnation
	for _, stage := range []string{"initialising the data directory", "making accounts", "loading time zones", "running initSQL", "stopping cleanly"} {
		c.BeginInitialise(i, bootstrap)
		i.Await("the stage "+stage, func(s *api.Status) bool { return s.Task != nil && s.Task.Stage == stage })
		i.Crash()
		i.Start()
		status := i.Status()
		if status.Volume != api.VolumeEmpty || status.Incarnation != incarnation || status.PromisedEpoch != 1 {
			t.Fatalf("after a crash while %s: %s", stage, mysqld.Describe(status))
		}
	}
	c.Initialise(i, bootstrap)
	c.Lead(i, 0)
	gtid := c.Mark(i, 1)
	c.AwaitMarker(i, gtid)
	c.Opened(0, 1, i)
	c.Open(i)

	app := i.Session(i.Endpoint("app", "app's"))
	awaitSQL(t, app, "1,2", "SELECT i FROM shop.once ORDER BY i")
	execAll(t, app, "CALL shop.add_one()")
	awaitSQL(t, app, "2026-07-01 14:00:00", "SELECT CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'Europe/Berlin')")
	admin := i.Session(adminEndpoint(i, c.Passwords[agent.AccountAdmin]))
	awaitSQL(t, admin, "", "SELECT user FROM mysql.user WHERE user='root' AND host='localhost'")
	// The history begins with the marker: nothing that was done before it is a transaction.
	ctx, cancel := context.WithTimeout(context.Background(), mysqld.Patience)
	defer cancel()
	rest, err := admin.Column(ctx, "SELECT GTID_SUBTRACT(@@GLOBAL.gtid_purged, '')")
	if diff := cmp.Diff([]string{""}, rest); err != nil || diff != "" {
		t.Errorf("purged GTIDs (-want +got):\n%s%v", diff, err)
	}
	awaitSQL(t, admin, "1", "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)", gtid)
	if left, err := filepath.Glob(filepath.Join(i.Conf.DataRoot, "data.*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestDataWithoutReadableStateTakesPartInNothing damages the agent's state beside complete data.
func TestDataWithoutReadableStateTakesPartInNothing(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(path string) error{
		"the state file is gone":    os.Remove,
		"the state file is garbage": func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			i := mysqld.NewInstance(t, &lab, "a")
			i.Start()
			c := mysqld.NewCluster(t, &lab)
			c.Do(i, api.CommandConfigure, c.Configuration(i))
			i.Crash()
			if err := os.Mkdir(filepath.Join(i.Conf.DataRoot, "data"), 0o750); err != nil {
				t.Fatal(err)
			}
			if err := damage(filepath.Join(i.Conf.DataRoot, "moco", "state")); err != nil {
				t.Fatal(err)
			}
			i.Start()
			if status := i.Status(); status.Volume != api.VolumeUnreadable || status.Incarnation != "" {
				t.Errorf("status %s", mysqld.Describe(status))
			}
			for command, req := range map[api.CommandName]api.Request{
				api.CommandConfigure: c.Configuration(i), api.CommandStart: &api.StartRequest{},
				api.CommandPromise: &api.PromiseRequest{Record: c.Record}, api.CommandClone: &api.CloneRequest{},
			} {
				if reason := c.Refused(i, command, req); reason != api.ErrorPrecondition {
					t.Errorf("%s: refused as %q, want Precondition", command, reason)
				}
			}
		})
	}
}

// TestAMysqldThatOutlivesItsSupervisorKeepsTheVolume is a Pod that was force-deleted and whose mysqld still runs.
func TestAMysqldThatOutlivesItsSupervisorKeepsTheVolume(t *testing.T) {
	t.Parallel()
	old := mysqld.NewInstance(t, &lab, "old")
	old.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Initialise(old, api.InitialiseRequest{})
	old.LoseSupervisor()
	next := old.Beside("next")
	next.StartSupervisor()
	next.StartAgent()
	status := next.Await("the holder is named", func(s *api.Status) bool { return s.VolumeHolder != "" })
	if status.Volume != api.VolumeWaiting || status.VolumeHolder != old.PodUID {
		t.Errorf("status %s", mysqld.Describe(status))
	}
	if reason := c.Refused(next, api.CommandConfigure, c.Configuration(next)); reason != api.ErrorUnavailable {
		t.Errorf("configure on a volume of somebody else: refused as %q, want Unavailable", reason)
	}
	old.KillChildren()
	next.Await("the volume is taken over", func(s *api.Status) bool { return s.Volume == api.VolumeReady })
	c.StartServer(next)
}
