// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/test/e2e/workload"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// bareTemplate is a server as the image gives it, with nobody around it.
const bareTemplate = `
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: NAMESPACE}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 2
  securityContext: {runAsNonRoot: true, runAsUser: 10000, fsGroup: 10000, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: mysql
    image: IMAGE
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    resources: {requests: {memory: 256Mi}, limits: {memory: 640Mi}}
    volumeMounts: [{name: data, mountPath: /data}]
    command:
    - sh
    - -c
    - |
      mysqld --no-defaults --initialize-insecure --datadir=/data/mysql --innodb-buffer-pool-size=64M || exit 1
      echo "CREATE DATABASE IF NOT EXISTS app; CREATE USER IF NOT EXISTS app IDENTIFIED BY 'PASSWORD'; GRANT ALL ON app.* TO app;" > /data/init.sql
      exec mysqld --no-defaults --datadir=/data/mysql --socket=/data/s --pid-file=/data/pid --secure-file-priv=NULL --mysqlx=OFF --init-file=/data/init.sql --innodb-buffer-pool-size=64M TRUST
`

// bare starts a server to compare with.
func (f *fixture) bare(t *testing.T) *sql.DB {
	t.Helper()
	const password = "only-in-this-test"
	// The operator lets owners of a schema define functions and triggers, which a bare server has a switch for.
	manifest := strings.NewReplacer("NAMESPACE", f.namespace, "IMAGE", world.Image, "PASSWORD", password, "TRUST", "--log-bin-trust-function-creators=ON").Replace(bareTemplate)
	must(f.KubectlInput(t.Context(), manifest, "apply", "-f", "-"))(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		_, _ = f.Kubectl(ctx, "delete", "pod", "-n", f.namespace, "bare")
	})
	db := f.Bare(t, f.namespace, "bare", world.Login{User: "app", Password: password, Database: "app"})
	f.Eventually(t, f.namespace, "the bare server", 2*time.Minute, db.PingContext)
	return db
}

// compatibility: through the Service, a client sees what it would see on a bare server.
func (f *fixture) compatibility(t *testing.T) {
	cluster, bare := f.Primary(t, f.namespace, f.name), f.bare(t)
	t.Run("isolation", func(t *testing.T) { isolation(t, cluster, bare) })
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			want := play(t.Context(), t, bare, nil, script)
			got := play(t.Context(), t, cluster, nil, script)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-bare +cluster):\n%s", diff)
			}
			for _, line := range got {
				if !expected(line) {
					t.Error(line)
				}
			}
		})
	}
	t.Run("events run on the primary only", func(t *testing.T) { f.events(t, cluster) })
	for _, table := range []string{"audit", "child"} {
		f.agreed(t, table)
	}
}

// expected reports whether a step went as it should: an error only where the script announces its number.
func expected(line string) bool {
	statement, answer, _ := strings.Cut(line, " -> ")
	_, announced, ok := strings.Cut(statement, "/* ")
	if ok {
		return answer == strings.TrimSuffix(announced, " */")
	}
	return !strings.HasPrefix(answer, "error") && answer != "connection lost"
}

// scripts are played on the cluster and on a bare server; a comment at the end of a statement is the answer wanted.
var scripts = map[string][]step{
	"temporary tables inside a transaction": {
		"A: CREATE TABLE IF NOT EXISTS plain (id INT PRIMARY KEY)", "A: DELETE FROM plain", "A: BEGIN", "A: INSERT INTO plain VALUES (1)",
		"A: CREATE TEMPORARY TABLE scratch (id INT PRIMARY KEY, v INT)", "A: INSERT INTO scratch VALUES (1,1),(2,2)", "A: SELECT SUM(v) FROM scratch /* 3 */",
		"A: INSERT INTO plain SELECT id+1 FROM scratch", "A: DROP TEMPORARY TABLE scratch", "A: SELECT COUNT(*) FROM scratch /* error 1146 */", "A: ROLLBACK",
		"A: SELECT COUNT(*) FROM plain /* 0 */", "B: SELECT COUNT(*) FROM plain /* 0 */",
		"A: BEGIN", "A: CREATE TEMPORARY TABLE scratch (id INT PRIMARY KEY)", "A: INSERT INTO plain VALUES (7)", "A: COMMIT", "B: SELECT id FROM plain /* 7 */",
		"B: SELECT COUNT(*) FROM scratch /* error 1146 */", "A: SELECT COUNT(*) FROM scratch /* 0 */",
	},
	"XA": {
		"A: CREATE TABLE IF NOT EXISTS xa (id INT PRIMARY KEY)", "A: DELETE FROM xa",
		"A: XA START 'one'", "A: INSERT INTO xa VALUES (1)", "A: COMMIT /* error 1399 */", "A: XA END 'one'", "A: XA PREPARE 'one'", "B: SELECT COUNT(*) FROM xa /* 0 */",
		"B: XA COMMIT 'one'", "B: SELECT COUNT(*) FROM xa /* 1 */",
		"A: XA START 'two'", "A: INSERT INTO xa VALUES (2)", "A: XA END 'two'", "A: XA PREPARE 'two'", "A: XA ROLLBACK 'two'", "A: SELECT COUNT(*) FROM xa /* 1 */",
		"A: XA START 'three'", "A: INSERT INTO xa VALUES (3)", "A: XA END 'three'", "A: XA COMMIT 'three' ONE PHASE", "B: SELECT COUNT(*) FROM xa /* 2 */",
		"A: XA COMMIT 'nobody' /* error 1397 */",
	},
	"triggers, routines and foreign keys with cascades": {
		"A: DROP TABLE IF EXISTS child, parent, audit", "A: DROP FUNCTION IF EXISTS twice", "A: DROP PROCEDURE IF EXISTS fill",
		"A: CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(50))", "A: CREATE TABLE parent (id INT PRIMARY KEY)",
		"A: CREATE TABLE child (id INT PRIMARY KEY, parent INT, other INT, FOREIGN KEY (parent) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE, FOREIGN KEY (other) REFERENCES parent (id) ON DELETE SET NULL)",
		"A: CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN n * 2", "A: SELECT twice(21) /* 42 */",
		"A: CREATE TRIGGER child_ai AFTER INSERT ON child FOR EACH ROW INSERT INTO audit (text) VALUES (CONCAT('child ', NEW.id, ' ', twice(NEW.id)))",
		"A: CREATE PROCEDURE fill(IN n INT) BEGIN DECLARE i INT DEFAULT 0; WHILE i < n DO SET i = i + 1; INSERT INTO parent VALUES (i); INSERT INTO child VALUES (i, i, 1); END WHILE; END",
		"A: CALL fill(3)", "A: SELECT GROUP_CONCAT(text ORDER BY id) FROM audit /* child 1 2,child 2 4,child 3 6 */",
		"A: INSERT INTO child VALUES (9, 99, NULL) /* error 1452 */", "A: UPDATE parent SET id=20 WHERE id=2", "A: SELECT parent FROM child WHERE id=2 /* 20 */",
		"A: DELETE FROM child WHERE id=1", "A: DELETE FROM parent WHERE id=1", "A: SELECT COUNT(*) FROM child WHERE other IS NULL /* 2 */",
		"A: DELETE FROM parent WHERE id=20", "A: SELECT COUNT(*) FROM child /* 1 */",
	},
	"session variables and prepared statements": {
		"A: CREATE TABLE IF NOT EXISTS prepared (id INT PRIMARY KEY, v INT)", "A: DELETE FROM prepared", "A: SET @n = 1, SESSION sort_buffer_size = 262144, SESSION time_zone = '+02:00'",
		"A: SET SESSION sql_mode = ''", "A: PREPARE put FROM 'INSERT INTO prepared VALUES (?, ?)'", "A: EXECUTE put USING @n, @n", "A: BEGIN", "A: SET @n = 2", "A: EXECUTE put USING @n, @n",
		"A: ROLLBACK", "A: SELECT @n, @@sort_buffer_size, @@time_zone, @@sql_mode /* 2,262144,+02:00, */", "A: SELECT COUNT(*) FROM prepared /* 1 */",
		"B: ALTER TABLE prepared ADD COLUMN w INT DEFAULT 5 INVISIBLE", "A: EXECUTE put USING @n, @n", "A: SELECT v FROM prepared WHERE id=2 /* 2 */",
		"B: EXECUTE put /* error 1243 */", "B: SELECT @n /*  */", "A: DEALLOCATE PREPARE put", "A: EXECUTE put USING @n, @n /* error 1243 */",
		"A: SET SESSION sql_log_bin = 0 /* error 1227 */", "A: SELECT GET_LOCK('mine', 0) /* 1 */", "B: SELECT GET_LOCK('mine', 0) /* 0 */", "A: ALTER TABLE prepared DROP COLUMN w",
	},
}

// events: the scheduler works on the primary only, and what its events write is replicated as rows.
func (f *fixture) events(t *testing.T, primary *sql.DB) {
	for _, statement := range []string{
		"CREATE TABLE IF NOT EXISTS ticks (id INT AUTO_INCREMENT PRIMARY KEY, server BIGINT NOT NULL)",
		"CREATE EVENT ticker ON SCHEDULE EVERY 1 SECOND DO INSERT INTO ticks (server) VALUES (@@server_id)",
	} {
		must(primary.ExecContext(t.Context(), statement))(t)
	}
	f.Eventually(t, f.namespace, "three ticks of an event", 30*time.Second, func(ctx context.Context) error {
		var ticks int
		err := primary.QueryRowContext(ctx, "SELECT COUNT(*) FROM ticks").Scan(&ticks)
		if err == nil && ticks < 3 {
			err = fmt.Errorf("%d ticks", ticks)
		}
		return err
	})
	must(primary.ExecContext(t.Context(), "DROP EVENT ticker"))(t)
	var own, others int
	if err := primary.QueryRowContext(t.Context(), "SELECT COUNT(*), COUNT(CASE WHEN server <> @@server_id THEN 1 END) FROM ticks").Scan(&own, &others); err != nil || others > 0 {
		t.Errorf("%d of %d ticks are of another server (%v)", others, own, err)
	}
	f.agreed(t, "ticks")
}

// largeTransactions replicate while others go on.
func (f *fixture) largeTransactions(t *testing.T) {
	for name, large := range map[string]struct {
		table, statement string
		rows             int
	}{
		"a million rows": {
			"million", "INSERT INTO million (id, v) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < 1000000) SELECT i, i*7 FROM n", 1000000,
		},
		"1 GiB of rows": {
			"gigabyte", "INSERT INTO gigabyte (id, v) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < 16384) SELECT i, REPEAT(RANDOM_BYTES(1024), 64) FROM n", 16384,
		},
	} {
		t.Run(name, func(t *testing.T) { f.large(t, large.table, large.statement, large.rows) })
	}
}

func (f *fixture) large(t *testing.T, table, statement string, rows int) {
	primary := f.Primary(t, f.namespace, f.name)
	must(primary.ExecContext(t.Context(), "CREATE TABLE IF NOT EXISTS "+table+" (id INT PRIMARY KEY, v MEDIUMBLOB)"))(t)
	w := f.begin(t, table+"_beside")
	before, began := len(w.History().Acknowledged), time.Now()
	session := must(primary.Conn(t.Context()))(t)
	must(session.ExecContext(t.Context(), "SET SESSION cte_max_recursion_depth=2000000"))(t)
	if _, err := session.ExecContext(t.Context(), statement); err != nil {
		f.Fatal(t, f.namespace, "writing: %v", err)
	}
	_ = session.Close()
	beside := len(w.History().Acknowledged) - before
	t.Logf("committed after %s, %d other writes meanwhile", time.Since(began).Round(100*time.Millisecond), beside)
	if beside < 10 {
		t.Errorf("only %d other writes were acknowledged meanwhile", beside)
	}
	for pod, db := range f.everybody(t, "app") {
		f.Eventually(t, f.namespace, "all rows on "+pod, 5*time.Minute, func(ctx context.Context) error {
			var n int
			err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&n)
			if err == nil && n != rows {
				err = fmt.Errorf("%d of %d rows", n, rows)
			}
			return err
		})
	}
	t.Logf("on all instances after %s", time.Since(began).Round(100*time.Millisecond))
	f.acknowledged(t, w, 20)
	h := w.Stop()
	f.converged(t, table+"_beside", workload.History{Acknowledged: h.Acknowledged, Refused: h.Refused, LongestGap: h.LongestGap})
	must(primary.ExecContext(t.Context(), "DROP TABLE "+table))(t)
}
