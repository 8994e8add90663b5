// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func (f *fixture) writeAndReadBack(t *testing.T) {
	primary := f.Primary(t, f.namespace, f.name)
	if _, err := primary.ExecContext(t.Context(), "INSERT INTO greetings VALUES (1, 'hello')"); err != nil {
		f.Fatal(t, f.namespace, "writing through the primary Service: %v", err)
	}
	for pod, db := range f.everybody(t, "app") {
		f.Eventually(t, f.namespace, "the row on "+pod, 20*time.Second, func(ctx context.Context) error {
			var text string
			if err := db.QueryRowContext(ctx, "SELECT text FROM greetings WHERE id=1").Scan(&text); err != nil {
				return err
			}
			if text != "hello" {
				return fmt.Errorf("the row says %q", text)
			}
			return nil
		})
	}
	login := must(f.SecretLogin(t.Context(), f.namespace, f.name, "app"))(t)
	replica := f.Service(t, f.namespace, f.name, f.name+"-mysql-ro", login)
	if _, err := replica.ExecContext(t.Context(), "INSERT INTO greetings VALUES (2, 'wrong way')"); err == nil {
		t.Error("the read Service takes writes")
	}
}

// always is what safety rests on, whatever the role of an instance. It is written here once more, by hand, so that a
// change of the product's own table fails a test.
var always = map[string]string{
	"gtid_mode": "ON", "enforce_gtid_consistency": "ON", "log_replica_updates": "ON", "binlog_format": "ROW", "sync_binlog": "1",
	"innodb_flush_log_at_trx_commit": "1", "binlog_error_action": "ABORT_SERVER", "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
	"rpl_semi_sync_source_timeout": "1000000000000000000", "rpl_semi_sync_source_wait_no_replica": "ON", "skip_replica_start": "ON",
	"relay_log_recovery": "OFF", "replica_preserve_commit_order": "ON", "replica_net_timeout": "10",
	"binlog_expire_logs_auto_purge": "OFF", "persisted_globals_load": "OFF", "offline_mode": "OFF",
	"default_storage_engine": "InnoDB", "partial_revokes": "ON",
}

// byRole is what the agent switches.
var byRole = map[v1beta1.InstanceRole]map[string]string{
	v1beta1.RolePrimary: {
		"super_read_only": "OFF", "rpl_semi_sync_source_enabled": "ON", "rpl_semi_sync_source_wait_for_replica_count": "1",
		"rpl_semi_sync_replica_enabled": "OFF", "event_scheduler": "ON",
	},
	v1beta1.RoleReplica: {
		"super_read_only": "ON", "rpl_semi_sync_source_enabled": "OFF", "rpl_semi_sync_replica_enabled": "ON", "event_scheduler": "OFF",
	},
}

func (f *fixture) safetyVariables(t *testing.T) {
	ids := map[string]string{}
	cluster := must(f.Get(t.Context(), f.namespace, f.name))(t)
	servers := f.everybody(t, "account-root")
	for _, instance := range cluster.Status.Instances {
		want := map[string]string{}
		for _, table := range []map[string]string{always, byRole[instance.Role]} {
			maps.Copy(want, table)
		}
		values := must(variables(t.Context(), servers[instance.Name]))(t)
		got := map[string]string{}
		for name := range want {
			got[name] = values[name]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, %s (-want +got):\n%s", instance.Name, instance.Role, diff)
		}
		if other := ids[values["server_id"]]; other != "" {
			t.Errorf("%s and %s have the same server_id %s", other, instance.Name, values["server_id"])
		}
		ids[values["server_id"]] = instance.Name
	}
}

func (f *fixture) encrypted(t *testing.T) {
	_, replicas := f.pods(t)
	for pod, db := range f.everybody(t, "account-root") {
		var name, cipher string
		if err := db.QueryRowContext(t.Context(), "SHOW STATUS LIKE 'Ssl_cipher'").Scan(&name, &cipher); err != nil || cipher == "" {
			t.Errorf("%s: no cipher (%v)", pod, err)
		}
	}
	for _, pod := range replicas {
		var allowed string
		err := f.everybody(t, "account-root")[pod].QueryRowContext(t.Context(),
			"SELECT ssl_allowed FROM performance_schema.replication_connection_configuration").Scan(&allowed)
		if err != nil || allowed != "YES" {
			t.Errorf("%s replicates with ssl_allowed=%q (%v)", pod, allowed, err)
		}
	}
}

// clientTemplate is a Pod as a user would run it: everything it needs is in the Secret of the application and the CA.
const clientTemplate = `
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: NAMESPACE}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
  volumes:
  - {name: ca, secret: {secretName: CLUSTER-mysql-ca, items: [{key: ca.crt, path: ca.crt}]}}
  containers:
  - name: client
    image: IMAGE
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: ca, mountPath: /ca}]
    env:
    - {name: MYSQL_PWD, valueFrom: {secretKeyRef: {name: CLUSTER-mysql-app, key: password}}}
    - {name: LOGIN, valueFrom: {secretKeyRef: {name: CLUSTER-mysql-app, key: username}}}
    - {name: SERVER, valueFrom: {secretKeyRef: {name: CLUSTER-mysql-app, key: host}}}
    - {name: SCHEMA, valueFrom: {secretKeyRef: {name: CLUSTER-mysql-app, key: database}}}
    command: [sh, -c, 'exec mysql --host="$SERVER" --user="$LOGIN" --ssl-mode=VERIFY_IDENTITY --ssl-ca=/ca/ca.crt --connect-timeout=10 --batch --skip-column-names -e "SELECT text FROM greetings WHERE id=1" "$SCHEMA"']
`

func (f *fixture) clientPod(t *testing.T) {
	manifest := strings.NewReplacer("NAMESPACE", f.namespace, "CLUSTER", f.name, "IMAGE", f.spec().Spec.Image).Replace(clientTemplate)
	must(f.KubectlInput(t.Context(), manifest, "apply", "-f", "-"))(t)
	f.Eventually(t, f.namespace, "the client Pod to end well", 60*time.Second, func(ctx context.Context) error {
		pod, err := f.Pod(ctx, f.namespace, "client")
		if err != nil {
			return err
		}
		if pod.Status.Phase != "Succeeded" {
			printed, _ := f.Kubectl(ctx, "logs", "-n", f.namespace, "client")
			return fmt.Errorf("it is %s: %s", pod.Status.Phase, printed)
		}
		return nil
	})
	if got := must(f.Kubectl(t.Context(), "logs", "-n", f.namespace, "client"))(t); got != "hello\n" {
		t.Errorf("the client printed %q", got)
	}
}

func (f *fixture) roles(t *testing.T) {
	primary, replicas := f.pods(t)
	want := map[string]string{primary: "primary"}
	for _, pod := range replicas {
		want[pod] = "replica"
	}
	got := map[string]string{}
	for name := range want {
		pod := must(f.Pod(t.Context(), f.namespace, name))(t)
		got[name] = must(fetch(t.Context(), "http://"+pod.Status.PodIP+":5001/v1.0/getrole"))(t)
		if role := pod.Labels[v1beta1.LabelRole]; role != want[name] {
			t.Errorf("%s has the label %s=%q", name, v1beta1.LabelRole, role)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("getrole (-want +got):\n%s", diff)
	}
}

// maxBody bounds what fetch reads.
const maxBody = 4 << 20

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("fetching %s: %w", url, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("fetching %s: %w", url, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return "", fmt.Errorf("fetching %s: %w", url, err)
	}
	return strings.TrimSpace(string(body)), nil
}

func (f *fixture) readable(t *testing.T) {
	primary, _ := f.pods(t)
	printed := must(f.Kubectl(t.Context(), "get", "mysqlclusters", "-n", f.namespace))(t)
	for _, want := range []string{"TOPOLOGY", "READY", "PRIMARY", "PHASE", "AGE", "3/3", primary, "Healthy"} {
		if !strings.Contains(printed, want) {
			t.Errorf("kubectl get mysqlclusters shows no %q:\n%s", want, printed)
		}
	}
	described := must(f.Kubectl(t.Context(), "describe", "mysqlcluster", "-n", f.namespace, f.name))(t)
	for _, want := range []string{"Decision", "Available", "Events", f.name + "-mysql." + f.namespace + ".svc:3306"} {
		if !strings.Contains(described, want) {
			t.Errorf("kubectl describe shows no %q:\n%s", want, described)
		}
	}
}
