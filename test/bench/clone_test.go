// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/moco-mysql/moco/test/e2e/world"
)

const (
	// clones of either kind.
	clones = 3
	// cloneMiB is the size of the data to clone.
	cloneMiB = 1024
	// cloneLook is how often the donor is asked whether it sends; it bounds the precision.
	cloneLook = 20 * time.Millisecond
	// cloneWithin bounds one clone.
	cloneWithin = 5 * time.Minute
)

// twinTemplate is a bare server for a hand-typed clone, on a volume of the same class.
const twinTemplate = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: twin, namespace: NAMESPACE}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 4Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: twin, namespace: NAMESPACE}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 2
  securityContext: {runAsNonRoot: true, runAsUser: 10000, fsGroup: 10000, seccompProfile: {type: RuntimeDefault}}
  volumes: [{name: data, persistentVolumeClaim: {claimName: twin}}]
  containers:
  - name: mysql
    image: IMAGE
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    resources: {requests: {memory: 384Mi}, limits: {memory: 640Mi}}
    volumeMounts: [{name: data, mountPath: /data}]
    command:
    - sh
    - -c
    - |
      mkdir -p /data/own
      mysqld --no-defaults --initialize-insecure --datadir=/data/own/mysql --innodb-buffer-pool-size=64M || exit 1
      exec mysqld --no-defaults --datadir=/data/own/mysql --socket=/data/own/s --pid-file=/data/own/pid --secure-file-priv=NULL --mysqlx=OFF --disable-log-bin --innodb-buffer-pool-size=64M --innodb-redo-log-capacity=64M --plugin-load-add=semisync_source.so --plugin-load-add=semisync_replica.so --plugin-load-add=mysql_clone.so
`

// lab is a cluster to clone from and a bare server to clone to.
type lab struct {
	*world.World
	namespace string
	replicas  int
}

// TestClone measures a clone as the product does it against CLONE INSTANCE typed by hand, in turns, both by how long the
// donor serves one.
func TestClone(t *testing.T) {
	l := &lab{World: open(t), replicas: 1}
	l.namespace = l.Namespace(t, "bench-clone")
	cluster := world.Cluster(l.namespace, "source", 1)
	cluster.Spec.Storage.Size = resource.MustParse("5Gi")
	l.Create(t, cluster)
	if _, err := l.KubectlInput(t.Context(), strings.NewReplacer("NAMESPACE", l.namespace, "IMAGE", world.Image).Replace(twinTemplate), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	l.Healthy(t, l.namespace, "source")
	l.fill(t)
	product := &Distribution{Name: "clone by the product", Unit: "MiB/s"}
	hand := &Distribution{Name: "CLONE INSTANCE typed by hand", Unit: "MiB/s"}
	ratio := &Distribution{Name: "clone, product against hand", Unit: "1", Aim: 0.95, Direction: AtLeast}
	for range clones {
		typed := cloneMiB / l.serving(t, l.byHand(t)).Seconds()
		made := cloneMiB / l.serving(t, l.byProduct(t)).Seconds()
		l.Healthy(t, l.namespace, "source")
		hand.Add(typed)
		product.Add(made)
		ratio.Add(made / typed)
	}
	t.Log(product)
	t.Log(hand)
	t.Log(ratio)
}

// fill writes the data, by doubling.
func (l *lab) fill(t *testing.T) {
	t.Helper()
	db := l.Primary(t, l.namespace, "source")
	statements := []string{
		"CREATE TABLE ballast (id INT PRIMARY KEY AUTO_INCREMENT, text MEDIUMBLOB NOT NULL)",
		"INSERT INTO ballast (text) WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < 512) SELECT REPEAT(RANDOM_BYTES(1024), 64) FROM n",
	}
	for size := 32; size < cloneMiB; size *= 2 {
		statements = append(statements, "INSERT INTO ballast (text) SELECT text FROM ballast")
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// byHand clones into a directory of the bare server.
func (l *lab) byHand(t *testing.T) func(context.Context) error {
	t.Helper()
	login, err := l.SecretLogin(t.Context(), l.namespace, "source", "account-moco-dataprotection")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := l.Pod(t.Context(), l.namespace, "source-mysql-0")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("SET GLOBAL clone_valid_donor_list='%[1]s:3306'; CLONE INSTANCE FROM '%[2]s'@'%[1]s':3306 IDENTIFIED BY '%[3]s' DATA DIRECTORY='/data/clone' REQUIRE SSL",
		pod.Status.PodIP, login.User, login.Password)
	return func(ctx context.Context) error {
		if _, err := l.Kubectl(ctx, "exec", "-n", l.namespace, "twin", "--", "rm", "-rf", "/data/clone"); err != nil {
			return err
		}
		_, err := l.KubectlInput(ctx, script, "exec", "-i", "-n", l.namespace, "twin", "--", "mysql", "--socket=/data/own/s", "--user=root")
		return err
	}
}

// byProduct adds an instance.
func (l *lab) byProduct(t *testing.T) func(context.Context) error {
	t.Helper()
	l.replicas++
	return func(ctx context.Context) error {
		return l.Change(ctx, l.namespace, "source", map[string]any{"replicas": l.replicas})
	}
}

// serving starts a clone and returns how long one of the instances that exist served it.
func (l *lab) serving(t *testing.T, start func(context.Context) error) time.Duration {
	t.Helper()
	donors := l.donors(t)
	ctx, cancel := context.WithTimeout(t.Context(), cloneWithin)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- start(ctx) }()
	tick := time.NewTicker(cloneLook)
	defer tick.Stop()
	var began, last time.Time
	for {
		select {
		case <-tick.C:
		case err := <-failed:
			if err != nil {
				t.Fatal(err)
			}
		case <-ctx.Done():
			l.Fatal(t, l.namespace, "waiting for the end of a clone that began %s", began)
		}
		sends, err := sending(ctx, donors)
		switch {
		case err != nil:
			l.Fatal(t, l.namespace, "asking the donors: %v", err)
		case sends && began.IsZero():
			began = time.Now()
		case sends:
			last = time.Now()
		case !last.IsZero():
			return last.Sub(began)
		}
	}
}

// donors are the instances that serve now.
func (l *lab) donors(t *testing.T) []*sql.DB {
	t.Helper()
	login, err := l.SecretLogin(t.Context(), l.namespace, "source", "account-root")
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := l.Get(t.Context(), l.namespace, "source")
	if err != nil {
		t.Fatal(err)
	}
	var all []*sql.DB
	for _, i := range cluster.Status.Instances {
		all = append(all, l.Instance(t, l.namespace, "source", i.Name, login))
	}
	return all
}

// sending reports whether one of the servers has a client that clones.
func sending(ctx context.Context, donors []*sql.DB) (bool, error) {
	for _, db := range donors {
		var n int
		err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM performance_schema.processlist WHERE user='moco-dataprotection'").Scan(&n)
		if err != nil && !errors.Is(err, context.Canceled) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}
