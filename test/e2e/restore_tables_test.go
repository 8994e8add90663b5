// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/mysql/gtid"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// preciousRows are in the table that is dropped by mistake; the last ones come after the backup.
const preciousRows, preciousLater = 500, 20

// bringing is a cluster under load that loses a table and gets it back.
type bringing struct {
	*archived
	// mistake is the GTID of the DROP TABLE, sum the checksum of the table before it.
	mistake, sum string
	// former are the volumes of before a restore in place.
	former []string
}

// TestRestoreTables brings a dropped table of a backup and its archive back into the cluster that goes on running.
func TestRestoreTables(t *testing.T) {
	b := &bringing{archived: &archived{fixture: &fixture{suite: the, namespace: the.Namespace(t, "e2e-tables"), name: "shop"}}}
	if !scenario(t, "a cluster with an archive", b.prepare) {
		t.Fatal("what follows needs what was made here")
	}
	b.load = b.fixture.load(t, "orders", b.elsewhere(t, b.healthy(t).Status.Primary)) // it lives as long as this test
	for _, s := range []struct {
		name string
		body func(*testing.T)
	}{
		{"a backup", b.backUpOnce},
		{"a table is dropped by mistake", b.mistaken},
		{"a table that exists is not overwritten", b.refusedToOverwrite},
		{"the dropped table comes back under load, though the Pod of the restore is killed", b.bringBack},
		{"the client noticed nothing", func(t *testing.T) { b.load.settle(t) }},
		{"the whole cluster goes back to before the mistake, and its former volumes are kept", b.inPlace},
		{"the former volumes take its place again", b.andBack},
	} {
		if !scenario(t, s.name, s.body) {
			t.Fatal("what follows needs what was made here")
		}
	}
}

func (b *bringing) prepare(t *testing.T) {
	b.store = b.Bucket(t, b.namespace, "e2e-tables")
	b.Create(t, b.spec())
	b.healthy(t)
	b.Condition(t, b.namespace, b.name, v1beta1.ConditionArchiving, metav1.ConditionTrue, time.Minute)
	b.write(t, "CREATE TABLE app.precious (id INT PRIMARY KEY, v VARCHAR(100))",
		fmt.Sprintf("INSERT INTO app.precious WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i, SHA2(i, 256) FROM n", preciousRows))
}

func (b *bringing) backUpOnce(t *testing.T) {
	b.CreateBackup(t, &v1beta1.MySQLBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: "first"},
		Spec:       v1beta1.MySQLBackupSpec{ClusterName: b.name, BackupTemplate: v1beta1.BackupTemplate{Store: b.store, DeletionPolicy: v1beta1.DeletionKeep}},
	})
	b.BackupPhase(t, b.namespace, "first", v1beta1.BackupSucceeded)
}

// spec is that of the cluster; its volumes outlive it.
func (b *bringing) spec() *v1beta1.MySQLCluster {
	cluster := world.Cluster(b.namespace, b.name, 3)
	cluster.Spec.Backup = &v1beta1.ClusterBackup{Archive: &v1beta1.Archive{Store: b.store, IntervalSeconds: 1}}
	return cluster
}

// write runs statements on the primary.
func (b *bringing) write(t *testing.T, statements ...string) {
	t.Helper()
	db := b.Primary(t, b.namespace, b.name)
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// checksum of the table on the primary.
func (b *bringing) checksum(t *testing.T) string {
	t.Helper()
	var table, sum string
	if err := b.Primary(t, b.namespace, b.name).QueryRowContext(t.Context(), "CHECKSUM TABLE app.precious").Scan(&table, &sum); err != nil {
		t.Fatal(err)
	}
	return sum
}

// mistaken adds rows that only the archive has, then drops the table.
func (b *bringing) mistaken(t *testing.T) {
	b.write(t, fmt.Sprintf("INSERT INTO app.precious WITH RECURSIVE n (i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i < %d) SELECT i, 'later' FROM n", preciousRows+1, preciousRows+preciousLater))
	b.sum = b.checksum(t)
	b.write(t, "DROP TABLE app.precious")
	b.mistake = b.findDrop(t)
}

// findDrop finds the transaction in the binary log, as a person does.
func (b *bringing) findDrop(t *testing.T) string {
	t.Helper()
	primary := must(b.Get(t.Context(), b.namespace, b.name))(t).Status.Primary
	printed := must(b.Kubectl(t.Context(), "exec", "-n", b.namespace, primary, "-c", "mysql", "--", "sh", "-c",
		"mysqlbinlog /data/mysql/data/binlog.0* | grep -B 20 'DROP TABLE .*precious' | grep GTID_NEXT | tail -n 1"))(t)
	_, rest, _ := strings.Cut(printed, "'")
	found, _, _ := strings.Cut(rest, "'")
	if _, err := gtid.Parse(found); err != nil || found == "" {
		t.Fatalf("the DROP TABLE was not found: %q, %v", printed, err)
	}
	return found
}

func (b *bringing) restore(name string, tables ...string) *v1beta1.MySQLRestore {
	return &v1beta1.MySQLRestore{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.namespace, Name: name},
		Spec: v1beta1.MySQLRestoreSpec{
			ClusterName: b.name, Mode: v1beta1.RestoreTables, Tables: tables,
			Source: v1beta1.RestoreSource{BackupName: "first", At: &v1beta1.RestorePoint{BeforeGTID: b.mistake}},
		},
	}
}

// ask makes a restore.
func (b *bringing) ask(t *testing.T, restore *v1beta1.MySQLRestore) {
	t.Helper()
	if _, err := b.Moco.MocoV1beta1().MySQLRestores(b.namespace).Create(t.Context(), restore, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// phase waits until a restore has come to a phase.
func (b *bringing) phase(t *testing.T, name string, phase v1beta1.RestorePhase) *v1beta1.MySQLRestore {
	t.Helper()
	var found *v1beta1.MySQLRestore
	b.Eventually(t, b.namespace, fmt.Sprintf("restore %s is %s", name, phase), restoredWithin, func(ctx context.Context) error {
		var err error
		found, err = b.Moco.MocoV1beta1().MySQLRestores(b.namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && found.Status.Phase != phase {
			err = fmt.Errorf("it is %s: %s", found.Status.Phase, found.Status.Message)
		}
		return err
	})
	return found
}

// refusedToOverwrite asks for the table that the client writes to.
func (b *bringing) refusedToOverwrite(t *testing.T) {
	b.ask(t, b.restore("over", "app.orders"))
	if refused := b.phase(t, "over", v1beta1.RestoreFailed); !strings.Contains(refused.Status.Message, "`app`.`orders`") || refused.Status.Attempts != 1 {
		b.Fatal(t, b.namespace, "the restore is %+v", refused.Status)
	}
	b.noRemains(t)
}

func (b *bringing) bringBack(t *testing.T) {
	b.Eventually(t, b.namespace, "the mistake is archived", time.Minute, func(ctx context.Context) error {
		now, err := b.Get(ctx, b.namespace, b.name)
		if err == nil && (now.Status.Archive == nil || now.Status.Archive.RecoverableUpTo == nil || time.Since(now.Status.Archive.RecoverableUpTo.Time) > 15*time.Second) {
			err = fmt.Errorf("the archive is at %+v", now.Status.Archive)
		}
		return err
	})
	b.ask(t, b.restore("back", "app.precious"))
	b.phase(t, "back", v1beta1.RestoreRunning)
	b.killPods(t, "back")
	done := b.phase(t, "back", v1beta1.RestoreSucceeded)
	if done.Status.Tables != 1 || done.Status.Attempts < 2 {
		b.Fatal(t, b.namespace, "the restore is %+v", done.Status)
	}
	if sum := b.checksum(t); sum != b.sum {
		b.Fatal(t, b.namespace, "the table has the checksum %s, before it was dropped %s", sum, b.sum)
	}
	b.noRemains(t)
}

// killPods deletes the Pods of a restore at once.
func (b *bringing) killPods(t *testing.T, restore string) {
	t.Helper()
	pods, err := b.Kubernetes.CoreV1().Pods(b.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: v1beta1.LabelBackup + "=" + restore})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodRunning {
			must(b.Kubectl(t.Context(), "delete", "pod", "-n", b.namespace, pod.Name, "--grace-period=0", "--force", "--wait=false"))(t)
		}
	}
}

// noRemains: a restore leaves no schema of its own behind.
func (b *bringing) noRemains(t *testing.T) {
	t.Helper()
	var left int
	err := b.Primary(t, b.namespace, b.name).QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE 'moco\\_restore\\_%'").Scan(&left)
	if err != nil || left != 0 {
		b.Fatal(t, b.namespace, "%d schemas are left, %v", left, err)
	}
}
