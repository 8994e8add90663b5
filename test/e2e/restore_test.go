// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// restoresAtOnce is how many restored clusters live at the same time.
	restoresAtOnce = 4
	// soakPoints is how many moments are restored with soakVariable set; without it fewPoints.
	soakPoints, fewPoints = 20, 8
	// restoredWithin ends a restore that hangs.
	restoredWithin = 5 * time.Minute
)

// point is a moment to restore: a time, or a transaction.
type point struct {
	name string
	at   time.Time
	// transaction up to which, or before which, is restored; "" restores to at.
	transaction string
	before      bool
}

// mark remembers this moment, and the newest transaction of the primary, if that can be had.
func (a *archived) mark(t *testing.T, name string) {
	t.Helper()
	a.points = append(a.points, point{name: name, at: time.Now().Truncate(time.Microsecond)})
	db := a.ServiceFrom(t, a.elsewhere(t), a.namespace, a.name, a.name+"-mysql", must(a.SecretLogin(t.Context(), a.namespace, a.name, "account-root"))(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	newest, err := newestWrite(ctx, db)
	if err != nil {
		return // there is no primary just now, as the moment may be the middle of a failover
	}
	before := len(a.points)%2 == 0
	a.points = append(a.points, point{name: fmt.Sprintf("%s: %s (before it: %t)", name, newest, before), at: time.Now(), transaction: newest, before: before})
}

// newestWrite is the last transaction of the primary's own line.
func newestWrite(ctx context.Context, db *sql.DB) (string, error) {
	var uuid, executed string
	if err := db.QueryRowContext(ctx, "SELECT @@server_uuid, @@gtid_executed").Scan(&uuid, &executed); err != nil {
		return "", err
	}
	set, err := gtid.Parse(executed)
	if err != nil {
		return "", err
	}
	ranges := set.Intervals(gtid.Source{UUID: uuid})
	if len(ranges) == 0 {
		return "", errors.New("the primary has written nothing yet")
	}
	return fmt.Sprintf("%s:%d", uuid, ranges[len(ranges)-1].Last), nil
}

// dropTable stops the load and drops a table, which is one transaction, and goes on with another one.
func (a *archived) dropTable(t *testing.T) {
	a.load.settle(t)
	db := a.Primary(t, a.namespace, a.name)
	before := executed(t, db)
	for _, statement := range []string{"DROP TABLE app.orders", "CREATE TABLE app.later (id INT PRIMARY KEY)", "INSERT INTO app.later VALUES (1)"} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	added := executed(t, db).Subtract(before)
	var uuid string
	if err := db.QueryRowContext(t.Context(), "SELECT @@server_uuid").Scan(&uuid); err != nil {
		t.Fatal(err)
	}
	ranges := added.Intervals(gtid.Source{UUID: uuid})
	if len(ranges) != 1 || ranges[0].Last-ranges[0].First != 2 {
		t.Fatalf("three statements made the transactions %s", added)
	}
	a.points = append(a.points, point{name: "drop", at: time.Now(), transaction: fmt.Sprintf("%s:%d", uuid, ranges[0].First), before: true})
}

func executed(t *testing.T, db *sql.DB) gtid.Set {
	t.Helper()
	var text string
	if err := db.QueryRowContext(t.Context(), "SELECT @@gtid_executed").Scan(&text); err != nil {
		t.Fatal(err)
	}
	return must(gtid.Parse(text))(t)
}

// restored makes a cluster of one instance from what is in the store.
func (a *archived) restored(name string, p point) *v1beta1.MySQLCluster {
	cluster := world.Cluster(a.namespace, name, 1)
	cluster.Spec.Storage.Retain = v1beta1.RetainDelete
	cluster.Spec.Bootstrap.FromBackup = &v1beta1.RestoreSource{
		Object: &v1beta1.StoredBackup{Store: a.store, Namespace: a.namespace, ClusterName: a.name, ClusterUID: a.uid},
		At:     &v1beta1.RestorePoint{},
	}
	at := cluster.Spec.Bootstrap.FromBackup.At
	switch {
	case p.transaction == "":
		at.Time = &metav1.MicroTime{Time: p.at}
	case p.before:
		at.BeforeGTID = p.transaction
	default:
		at.GTID = p.transaction
	}
	return cluster
}

// refused asks for moments that the archive does not reach.
func (a *archived) refused(t *testing.T) {
	for name, p := range map[string]point{
		"early":   {at: time.Now().Add(-24 * time.Hour)},
		"late":    {at: time.Now().Add(24 * time.Hour)},
		"nowhere": {transaction: "00000000-1111-2222-3333-444444444444:7"},
	} {
		a.Create(t, a.restored(name, p))
		a.Eventually(t, a.namespace, name+" is refused", 2*time.Minute, func(ctx context.Context) error {
			cluster, err := a.Get(ctx, a.namespace, name)
			if err != nil {
				return err
			}
			c := apimeta.FindStatusCondition(cluster.Status.Conditions, v1beta1.ConditionInitialized)
			if c == nil || c.Status != metav1.ConditionFalse || c.Reason != "RestoreRefused" {
				return fmt.Errorf("condition Initialized is %+v", c)
			}
			return nil
		})
		must(a.Kubectl(t.Context(), "delete", "mysqlcluster", "-n", a.namespace, name, "--timeout=120s"))(t)
	}
}

// restoreAll restores to the moments that were remembered and compares with what the client was told.
func (a *archived) restoreAll(t *testing.T) {
	most := fewPoints
	if os.Getenv(soakVariable) != "" {
		most = soakPoints
	}
	moments := chosen(a.points[:len(a.points)-1], most)
	for n := 0; n < len(moments); n += restoresAtOnce {
		some := moments[n:min(n+restoresAtOnce, len(moments))]
		for m, p := range some {
			a.Create(t, a.restored(fmt.Sprintf("at-%d", n+m), p))
		}
		for m, p := range some {
			a.exactly(t, fmt.Sprintf("at-%d", n+m), p)
		}
	}
}

// chosen are the moments within and right after kills, where a history may be cut off, and then others from all over the life
// of the cluster, until there are enough.
func chosen(points []point, most int) []point {
	byDanger := slices.Clone(points)
	slices.SortStableFunc(byDanger, func(x, y point) int { return danger(x) - danger(y) })
	sharp := slices.IndexFunc(byDanger, func(p point) bool { return danger(p) > 1 })
	if sharp < 0 || sharp >= most {
		return byDanger[:min(most, len(byDanger))]
	}
	moments, others := byDanger[:sharp:sharp], byDanger[sharp:]
	for n, more := 0, min(most-sharp, len(others)); n < more; n++ {
		moments = append(moments, others[n*len(others)/more])
	}
	return moments
}

// danger orders moments by how near to a cut they are.
func danger(p point) int {
	switch {
	case strings.HasPrefix(p.name, "during kill"):
		return 0
	case strings.HasPrefix(p.name, "after kill"):
		return 1
	default:
		return 2
	}
}

// exactly waits for a restored cluster, compares its rows with the history of the client, and deletes it.
func (a *archived) exactly(t *testing.T, name string, p point) {
	t.Helper()
	t.Logf("%s is restored to: %s", name, p.name)
	a.Condition(t, a.namespace, name, v1beta1.ConditionAvailable, metav1.ConditionTrue, restoredWithin)
	db := a.Primary(t, a.namespace, name)
	if err := workload.CheckPrefix(t.Context(), db, "app.orders", a.load.service.History(), p.bounds()); err != nil {
		a.Fatal(t, a.namespace, "%s, restored to %s: %v", name, p.name, err)
	}
	if err := p.holds(executed(t, db)); err != nil {
		a.Fatal(t, a.namespace, "%s, restored to %s: %v", name, p.name, err)
	}
	must(a.Kubectl(t.Context(), "delete", "mysqlcluster", "-n", a.namespace, name, "--timeout=120s"))(t)
}

// bounds is the time up to which rows are expected; none for a transaction, whose time the client does not know.
func (p point) bounds() time.Time {
	if p.transaction != "" {
		return time.Time{}
	}
	return p.at
}

// holds says whether a set ends where it should: at the transaction, or just before it.
func (p point) holds(set gtid.Set) error {
	if p.transaction == "" {
		return nil
	}
	uuid, number, _ := strings.Cut(p.transaction, ":")
	last := int64(0)
	for _, i := range set.Intervals(gtid.Source{UUID: uuid}) {
		last = max(last, i.Last)
	}
	want := number
	if p.before {
		var n int64
		if _, err := fmt.Sscan(number, &n); err != nil {
			return err
		}
		want = fmt.Sprint(n - 1)
	}
	if fmt.Sprint(last) != want {
		return fmt.Errorf("the last transaction of %s is %d, not %s", uuid, last, want)
	}
	return nil
}

// undo restores to just before the table was dropped.
func (a *archived) undo(t *testing.T) {
	p := a.points[len(a.points)-1]
	a.Create(t, a.restored(a.survivorName(), p))
	a.Condition(t, a.namespace, a.survivorName(), v1beta1.ConditionAvailable, metav1.ConditionTrue, restoredWithin)
	db := a.Primary(t, a.namespace, a.survivorName())
	if err := workload.Check(t.Context(), db, "app.orders", a.load.service.History()); err != nil {
		a.Fatal(t, a.namespace, "the table is not as it was: %v", err)
	}
	var later int
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.tables WHERE table_name='later'").Scan(&later); err != nil || later != 0 {
		a.Fatal(t, a.namespace, "what came after the mistake is there: %d, %v", later, err)
	}
}

func (a *archived) survivorName() string { return "undone" }

// survivor is the restored cluster that stays.
func (a *archived) survivor(t *testing.T) string {
	t.Helper()
	a.Healthy(t, a.namespace, a.survivorName())
	return a.survivorName()
}
