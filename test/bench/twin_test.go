// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/moco-mysql/moco/pkg/mysql/mycnf"
	"github.com/moco-mysql/moco/test/e2e/world"
)

// twinWithin bounds the start of hand-made servers.
const twinWithin = 3 * time.Minute

// twinLogin is that of a client of hand-made servers.
var twinLogin = world.Login{User: "app", Password: "by-hand", Database: "app"}

// twins are servers of the same image, memory and options as the product's, made and connected by hand. Their Pods are
// NAME-0 and so on; Service NAME leads to the first.
type twins struct {
	*world.World
	namespace, name string
	size            int
	// plugins are loaded besides, and options are added to the command line of each.
	plugins, options string
	// like is the option file of an instance of the product; "" renders one.
	like string
}

const twinPod = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: POD, namespace: NAMESPACE}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: POD, namespace: NAMESPACE, labels: {twin: POD, group: NAME}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 2
  securityContext: {runAsNonRoot: true, runAsUser: 10000, fsGroup: 10000, seccompProfile: {type: RuntimeDefault}}
  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {group: NAME}}}
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: POD}}
  - {name: options, configMap: {name: NAME}}
  containers:
  - name: mysql
    image: IMAGE
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    resources: {requests: {cpu: 20m, memory: 384Mi}, limits: {memory: 768Mi}}
    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    volumeMounts: [{name: data, mountPath: /data}, {name: options, mountPath: /options}]
    command:
    - sh
    - -c
    - |
      mkdir -p /data/own/tmp /data/own/log
      [ -d /data/own/data ] || mysqld --no-defaults --initialize-insecure --datadir=/data/own/data || exit 1
      while :; do
        mysqld --defaults-file=/options/my.cnf --server-id=SERVERID --report-host="$POD_IP" OPTIONS
        date
      done
`

const twinService = `
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: NAMESPACE}
spec: {selector: {twin: NAME-0}, ports: [{port: 3306}]}
`

// start makes the servers and waits until each answers.
func (w *twins) start(t *testing.T) {
	t.Helper()
	manifest := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: %s}\ndata:\n  my.cnf: |\n    %s\n---",
		w.name, w.namespace, strings.ReplaceAll(w.file(), "\n", "\n    "))
	for n := range w.size {
		manifest += strings.NewReplacer("POD_IP", "POD_IP", "POD", w.pod(n), "NAMESPACE", w.namespace, "NAME", w.name, "IMAGE", world.Image,
			"SERVERID", fmt.Sprint(n+1), "OPTIONS", w.options).Replace(twinPod) + "\n---"
	}
	manifest += strings.NewReplacer("NAMESPACE", w.namespace, "NAME", w.name).Replace(twinService)
	if _, err := w.KubectlInput(t.Context(), manifest, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for n := range w.size {
		w.Eventually(t, w.namespace, w.pod(n)+" to answer", twinWithin, func(ctx context.Context) error {
			_, err := w.ask(ctx, n, "SELECT 1")
			return err
		})
		w.sql(t, n, "SET GLOBAL super_read_only=OFF; SET sql_log_bin=0; CREATE USER app@'%' IDENTIFIED BY 'by-hand'; GRANT ALL ON app.* TO app@'%';"+
			"CREATE USER repl@'%' IDENTIFIED BY 'by-hand' REQUIRE SSL; GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO repl@'%'")
	}
}

func (w *twins) pod(n int) string { return fmt.Sprintf("%s-%d", w.name, n) }

func (w *twins) pods() []string {
	var all []string
	for n := range w.size {
		all = append(all, w.pod(n))
	}
	return all
}

// unlike are the options of the product that a hand-made server does not share: what belongs to the agent, and paths of
// certificates, which mysqld makes itself.
var unlike = []string{
	"ssl_", "auto_generate_certs", "super_read_only", "offline_mode", "skip_replica_start", "persisted_globals_load", "admin_",
	"create_admin_listener_thread", "report_", "server_id", "plugin_load_add",
}

// rendered is the product's option file as the tests' clusters have it.
func rendered() string {
	in := mycnf.DefaultInput()
	in.ServerID, in.Version = 1, mycnf.Version{Major: 9, Minor: 7, Patch: 4}
	memory := resource.MustParse("640Mi")
	in.MemoryBytes = memory.Value()
	return mycnf.Render(in)
}

// paths of the product and what they are by hand.
var paths = strings.NewReplacer("/run/moco/mysqld.sock", "/data/own/s", "/run/moco/mysqld.pid", "/data/own/pid", "/data/mysql/", "/data/own/")

// file is the product's own option file without what is unlike.
func (w *twins) file() string {
	text := cmp.Or(w.like, rendered())
	var kept []string
lines:
	for line := range strings.Lines(paths.Replace(text)) {
		for _, prefix := range unlike {
			if strings.HasPrefix(line, prefix) {
				continue lines
			}
		}
		if strings.HasPrefix(line, "rpl_semi_sync") {
			line = "loose_" + line // not every group of twins has the plugins
		}
		kept = append(kept, strings.TrimSpace(line))
	}
	for plugin := range strings.FieldsSeq(w.plugins) {
		kept = append(kept, "plugin_load_add = "+plugin)
	}
	return strings.Join(kept, "\n")
}

// ask runs statements as root in a Pod and returns what was printed.
func (w *twins) ask(ctx context.Context, n int, statements string) (string, error) {
	return w.KubectlInput(ctx, statements, "exec", "-i", "-n", w.namespace, w.pod(n), "--", "mysql", "--socket=/data/own/s", "--user=root", "--batch", "--skip-column-names")
}

// sql is ask for statements that must succeed.
func (w *twins) sql(t *testing.T, n int, statements string) string {
	t.Helper()
	printed, err := w.ask(t.Context(), n, statements)
	if err != nil {
		w.Fatal(t, w.namespace, "%s: %v", w.pod(n), err)
	}
	return strings.TrimSpace(printed)
}

// replicate makes the first server the source of the others, with or without semi-sync.
func (w *twins) replicate(t *testing.T, semiSync string) {
	t.Helper()
	source, err := w.Pod(t.Context(), w.namespace, w.pod(0))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n < w.size; n++ {
		w.sql(t, n, fmt.Sprintf("SET GLOBAL rpl_semi_sync_replica_enabled=%s; CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_USER='repl', "+
			"SOURCE_PASSWORD='by-hand', SOURCE_SSL=1, SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1; START REPLICA; SET GLOBAL super_read_only=ON", semiSync, source.Status.PodIP))
	}
	w.sql(t, 0, fmt.Sprintf("SET GLOBAL rpl_semi_sync_source_enabled=%s; CREATE DATABASE app", semiSync))
}
