// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/stores"
	mocolisters "github.com/moco-mysql/moco/pkg/generated/listers/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/topology"
)

// s3Of is a bucket whose keys are in a Secret.
func s3Of(secret string) v1beta1.Store {
	return v1beta1.Store{Prefix: "p", S3: &v1beta1.S3Store{
		Bucket: "backups", Region: "eu-1", CredentialsSecretRef: corev1.LocalObjectReference{Name: secret},
	}}
}

// archivedCluster asks for an archive whose keys are in Secret keys.
func archivedCluster(replicas int32) *v1beta1.MySQLCluster {
	cluster := newCluster(replicas)
	cluster.Spec.Backup = &v1beta1.ClusterBackup{Archive: &v1beta1.Archive{Store: s3Of("keys"), IntervalSeconds: 10}}
	return cluster
}

// keep makes a Secret in namespace shop, or changes it.
func (f *fixture) keep(t *testing.T, name string, data map[string]string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, StringData: data, Data: map[string][]byte{}}
	for key, value := range data {
		secret.Data[key] = []byte(value)
	}
	client := f.kubernetes.CoreV1().Secrets("shop")
	_, err := client.Create(t.Context(), secret, metav1.CreateOptions{})
	if err != nil {
		_, err = client.Update(t.Context(), secret, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// archive makes the cluster ask for an archive.
func (e *ensemble) archive() {
	e.t.Helper()
	clusters := e.moco.MocoV1beta1().MySQLClusters("shop")
	stored, err := clusters.Get(e.t.Context(), "db", metav1.GetOptions{})
	if err != nil {
		e.t.Fatal(err)
	}
	stored.Spec.Backup, stored.Generation = archivedCluster(3).Spec.Backup, 2
	if stored, err = clusters.Update(e.t.Context(), stored, metav1.UpdateOptions{}); err == nil {
		err = e.clusters.Update(stored)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range e.members {
		m.status.ImageVersion = "9.7.4"
	}
}

func (e *ensemble) archiving() *metav1.Condition {
	return apimeta.FindStatusCondition(e.sync().Status.Conditions, v1beta1.ConditionArchiving)
}

func TestInstancesAreHandedTheArchiveWithTheKeysOfItsSecret(t *testing.T) {
	e := newEnsemble(t)
	e.archive()
	condition := e.archiving()
	if condition == nil || condition.Status != metav1.ConditionFalse || condition.Reason != "SecretMissing" ||
		!strings.Contains(condition.Message, `spec.backup.archive.store.s3.credentialsSecretRef: Secret "keys"`) {
		t.Fatalf("without its Secret: %+v", condition)
	}
	if status := e.sync().Status; !apimeta.IsStatusConditionTrue(status.Conditions, v1beta1.ConditionAvailable) || !apimeta.IsStatusConditionTrue(status.Conditions, v1beta1.ConditionValid) {
		t.Errorf("the database depends on the archive: %+v", status.Conditions)
	}
	var first []string
	for _, m := range e.members {
		if first = append(first, m.status.ConfigHash); m.archive != nil || m.status.ConfigHash == "hash" {
			t.Fatalf("handed: %+v, hash %q", m.archive, m.status.ConfigHash)
		}
	}
	e.keep(t, "keys", map[string]string{"accessKeyID": "id", "secretAccessKey": "one"})
	e.clock = e.clock.Add(credentialsAge)
	e.sync()
	want := &wire.Archive{
		Store: wire.Store{
			Provider: wire.ProviderS3, Bucket: "backups", Region: "eu-1", Prefix: "p",
			Credentials: map[string]string{"accessKeyID": "id", "secretAccessKey": "one"},
		},
		Cluster: wire.ClusterKey{Namespace: "shop", Name: "db", UID: "uid-1"}, IntervalSeconds: 10,
	}
	for n, m := range e.members {
		if diff := cmp.Diff(want, m.archive); diff != "" || m.status.ConfigHash == first[n] {
			t.Errorf("%s, hash %s (-want +got):\n%s", m.status.Pod, m.status.ConfigHash, diff)
		}
		if optionsHash(m.status.ConfigHash) != optionsHash(first[n]) {
			t.Error("the option file seems to differ: a restart would be asked for")
		}
	}
	second := e.members[0].status.ConfigHash
	e.keep(t, "keys", map[string]string{"accessKeyID": "id", "secretAccessKey": "two"})
	e.sync()
	if e.members[0].status.ConfigHash != second {
		t.Error("the Secret is read all the time")
	}
	e.clock = e.clock.Add(credentialsAge)
	e.sync()
	if got := e.members[0].archive.Store.Credentials["secretAccessKey"]; got != "two" || e.members[0].status.ConfigHash == second {
		t.Errorf("a changed key was not handed on: %q", got)
	}
}

func TestWhatConditionArchivingSays(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	missing := &stores.Problem{Reason: stores.ReasonMissing, Message: "Secret keys is missing"}
	before := &metav1.Condition{Type: v1beta1.ConditionArchiving, Status: metav1.ConditionTrue, Reason: reasonArchiving, Message: "before"}
	type verdict struct {
		Status metav1.ConditionStatus
		Reason string
	}
	cases := map[string]struct {
		report   *api.Archive
		problem  *stores.Problem
		before   *metav1.Condition
		unopened bool
		unheard  time.Duration
		want     verdict
		says     string
	}{
		"everything is archived":        {report: &api.Archive{}, want: verdict{"True", "Archiving"}},
		"a little behind":               {report: &api.Archive{LagMillis: 120_000}, want: verdict{"True", "Archiving"}},
		"far behind":                    {report: &api.Archive{LagMillis: 120_001}, want: verdict{"False", "Behind"}, says: "2m0s"},
		"the store does not answer":     {report: &api.Archive{Error: "access denied", LagMillis: 999_999}, want: verdict{"False", "StoreFailed"}, says: "access denied"},
		"transactions are lost to it":   {report: &api.Archive{Gap: "u:1-5"}, want: verdict{"False", "Gap"}, says: "u:1-5"},
		"its Secret is missing":         {problem: missing, before: before, want: verdict{"False", "SecretMissing"}, says: "keys"},
		"before the first epoch":        {unopened: true, unheard: time.Hour, want: verdict{"Unknown", "NotReported"}},
		"nobody has reported yet":       {want: verdict{"Unknown", "NotReported"}},
		"the primary is being replaced": {before: before, unheard: 119 * time.Second, want: verdict{"True", "Archiving"}},
		"nobody has reported for long":  {before: before, unheard: 120 * time.Second, want: verdict{"False", "NotReported"}},
		"the Secret was mended":         {before: &metav1.Condition{Status: "False", Reason: "SecretMissing"}, want: verdict{"Unknown", "NotReported"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := &world{cluster: archivedCluster(3), memory: &memory{archive: &archiveSettings{problem: c.problem}, archiveHeard: now.Add(-c.unheard)}}
			w.seen = topology.Observed{Instances: threeInstances()}
			if !c.unopened {
				w.seen.Record = openedRecord(4, 0)
			}
			w.seen.Instances[0].Agent.Archive = c.report
			status, reason, message := (&Controller{now: func() time.Time { return now }}).judgeArchive(w, c.before)
			if diff := cmp.Diff(c.want, verdict{status, reason}); diff != "" || !strings.Contains(message, c.says) {
				t.Errorf("%q (-want +got):\n%s", message, diff)
			}
		})
	}
}

func TestAGapIsShownUntilABackupClosesIt(t *testing.T) {
	found := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cluster := archivedCluster(3)
	cases := map[string]struct {
		change func(*v1beta1.MySQLBackup)
		closed bool
	}{
		"a backup begun since then":      {func(*v1beta1.MySQLBackup) {}, true},
		"one that was begun before":      {func(b *v1beta1.MySQLBackup) { b.CreationTimestamp = metav1.NewTime(found.Add(-time.Minute)) }, false},
		"one that is under way":          {func(b *v1beta1.MySQLBackup) { b.Status.Phase = v1beta1.BackupRunning }, false},
		"one that no archive can follow": {func(b *v1beta1.MySQLBackup) { b.Spec.Method = v1beta1.Logical }, false},
		"one of another cluster":         {func(b *v1beta1.MySQLBackup) { b.Spec.ClusterName = "db2" }, false},
		"one of a cluster of that name":  {func(b *v1beta1.MySQLBackup) { b.Status.ClusterUID = "before" }, false},
		"one that is being deleted":      {func(b *v1beta1.MySQLBackup) { b.DeletionTimestamp = new(metav1.NewTime(found)) }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b := &v1beta1.MySQLBackup{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "b", CreationTimestamp: metav1.NewTime(found.Add(time.Minute))}}
			b.Spec.ClusterName = cluster.Name
			b.Status.Phase, b.Status.ClusterUID = v1beta1.BackupSucceeded, string(cluster.UID)
			c.change(b)
			cached := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
			if err := cached.Add(b); err != nil {
				t.Fatal(err)
			}
			w := &world{cluster: cluster, memory: &memory{}, seen: topology.Observed{Record: openedRecord(4, 0), Instances: threeInstances()}}
			w.seen.Instances[0].Agent.Archive = &api.Archive{Gap: "u:1-5", GapAt: found}
			controller := &Controller{now: func() time.Time { return found }, config: Config{Backups: mocolisters.NewMySQLBackupLister(cached)}}
			_, reason, _ := controller.judgeArchive(w, nil)
			status := controller.describeArchive(w)
			if got := reason != reasonGap && status.Gap == "" && status.GapSince == nil; got != c.closed || (reason == reasonGap) != (status.Gap != "") {
				t.Errorf("reason %s, status %+v", reason, status)
			}
		})
	}
}

func TestWithoutAnArchiveNothingIsSaidOfIt(t *testing.T) {
	c := &Controller{now: time.Now}
	w := &world{cluster: newCluster(3), memory: &memory{}}
	next := &v1beta1.MySQLClusterStatus{Conditions: []metav1.Condition{{Type: v1beta1.ConditionArchiving, Status: "True"}}}
	c.setArchiving(w, next)
	if len(next.Conditions) != 0 || c.archiveStatus(w) != nil {
		t.Errorf("without an archive: %+v", next.Conditions)
	}
}

func TestPositionsOfTheArchiveAreNotWrittenAllTheTime(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := &Controller{now: func() time.Time { return now }}
	w := &world{cluster: archivedCluster(3), memory: &memory{}, seen: topology.Observed{Record: openedRecord(4, 0), Instances: threeInstances()}}
	at := func(second int) *metav1.Time {
		moment := metav1.Date(2026, 1, 2, 3, 4, second, 0, time.UTC)
		return &moment
	}
	report := func(change func(*api.Archive)) *v1beta1.ArchiveStatus {
		t.Helper()
		if change == nil {
			w.seen.Instances[0].Agent.Archive = nil
		} else {
			a := &api.Archive{RecoverableUpTo: now.Add(-2 * time.Second).Add(300 * time.Millisecond), LagMillis: 1001}
			change(a)
			w.seen.Instances[0].Agent.Archive = a
		}
		w.cluster.Status.Archive = c.archiveStatus(w)
		return w.cluster.Status.Archive
	}
	steps := []struct {
		says   string
		after  time.Duration
		change func(*api.Archive)
		want   v1beta1.ArchiveStatus
	}{
		{"the first report", 0, func(*api.Archive) {}, v1beta1.ArchiveStatus{Instance: "db-mysql-0", RecoverableUpTo: at(3), LagSeconds: 2}},
		{"a moment later: nothing new", 5 * time.Second, func(a *api.Archive) { a.LagMillis = 0 }, v1beta1.ArchiveStatus{Instance: "db-mysql-0", RecoverableUpTo: at(3), LagSeconds: 2}},
		{"after a while", 5 * time.Second, func(a *api.Archive) { a.LagMillis = 0 }, v1beta1.ArchiveStatus{Instance: "db-mysql-0", RecoverableUpTo: at(13)}},
		{"a failure is told at once", time.Second, func(a *api.Archive) { a.Error = "denied" }, v1beta1.ArchiveStatus{
			Instance: "db-mysql-0", RecoverableUpTo: at(14), LagSeconds: 2, Message: "denied",
		}},
		{"so is a gap", time.Second, func(a *api.Archive) { a.Gap, a.GapAt = "u:1", now }, v1beta1.ArchiveStatus{
			Instance: "db-mysql-0", RecoverableUpTo: at(15), LagSeconds: 2, Gap: "u:1", GapSince: at(17),
		}},
		{"nobody reports: the last report stands and grows old", 3 * time.Second, nil, v1beta1.ArchiveStatus{
			Instance: "db-mysql-0", RecoverableUpTo: at(15), LagSeconds: 5, Gap: "u:1", GapSince: at(17), Message: textNotReported,
		}},
	}
	for _, s := range steps {
		now = now.Add(s.after)
		if diff := cmp.Diff(&s.want, report(s.change)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.says, diff)
		}
	}
}

func TestMetricsOfTheArchiveGoWithTheCluster(t *testing.T) {
	cluster := archivedCluster(1)
	at := metav1.NewTime(time.Unix(1700000000, 0))
	cluster.Status.Archive = &v1beta1.ArchiveStatus{LagSeconds: 7, RecoverableUpTo: &at, Gap: "u:1"}
	f := newFixture(t, cluster)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(f.Controller); err != nil {
		t.Fatal(err)
	}
	gathered := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, family := range families {
			if strings.HasPrefix(family.GetName(), "moco_cluster_archive") {
				values[family.GetName()] = family.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return values
	}
	want := map[string]float64{
		"moco_cluster_archive_lag_seconds": 7, "moco_cluster_archive_recoverable_timestamp_seconds": 1700000000, "moco_cluster_archive_gap": 1,
	}
	if diff := cmp.Diff(want, gathered()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := f.clusters.Delete(cluster); err != nil {
		t.Fatal(err)
	}
	if left := gathered(); len(left) != 0 {
		t.Errorf("of a cluster that is gone: %v", left)
	}
}

func TestBinaryLogsArePurgedOnceAMinuteAndOnlyWhenArchived(t *testing.T) {
	e := newEnsemble(t)
	kept := testServerUUID(0) + ":1-5"
	e.mu.Lock()
	for _, m := range e.members {
		m.status.BinlogGTIDs = kept
	}
	e.mu.Unlock()
	purged := func() []int {
		e.commands.Wait()
		e.mu.Lock()
		defer e.mu.Unlock()
		counts := []int{}
		for _, m := range e.members {
			counts = append(counts, len(m.purged))
		}
		return counts
	}
	expect := func(says string, want ...int) {
		t.Helper()
		if diff := cmp.Diff(want, purged()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", says, diff)
		}
	}
	for range 10 {
		e.sync()
	}
	expect("what nobody needs goes", 1, 1, 1)
	if got := e.members[1].purged; len(got) > 0 && got[0] != e.members[1].status.Server.GTIDExecuted {
		t.Errorf("purged %q, want %q", got[0], e.members[1].status.Server.GTIDExecuted)
	}
	e.clock = e.clock.Add(purgeInterval)
	e.mu.Lock()
	e.members[2].status.BinlogGTIDs = ""
	e.mu.Unlock()
	for range 3 {
		e.sync()
	}
	expect("after a minute, from who still keeps some", 2, 2, 1)
	e.archive()
	e.clock = e.clock.Add(purgeInterval)
	for range 5 {
		e.sync()
	}
	expect("nothing of what is not archived", 2, 2, 1)
	e.mu.Lock()
	e.members[0].status.Archive = &api.Archive{GTIDs: testServerUUID(0) + ":1-3"}
	e.mu.Unlock()
	for range 3 {
		e.sync()
	}
	expect("what is archived goes", 3, 3, 1)
	if got := e.members[0].purged; got[len(got)-1] != testServerUUID(0)+":1-3" {
		t.Errorf("purged %q", got[len(got)-1])
	}
}
