// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/topology"
)

// restoredCluster begins with MySQLBackup nightly.
func restoredCluster(change func(*v1beta1.RestoreSource)) *v1beta1.MySQLCluster {
	cluster := newCluster(3)
	from := &v1beta1.RestoreSource{BackupName: "nightly"}
	change(from)
	cluster.Spec.Bootstrap = &v1beta1.Bootstrap{Database: "app", User: "app", FromBackup: from}
	return cluster
}

func unchanged(*v1beta1.RestoreSource) {}

// nightly is a backup that succeeded.
func nightly(store v1beta1.Store) *v1beta1.MySQLBackup {
	return &v1beta1.MySQLBackup{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "nightly"},
		Spec:       v1beta1.MySQLBackupSpec{ClusterName: "old", BackupTemplate: v1beta1.BackupTemplate{Store: store}},
		Status:     v1beta1.MySQLBackupStatus{Phase: v1beta1.BackupSucceeded, ID: "20261121T160500Z-01234567", ClusterUID: "uid-0"},
	}
}

func (f *fixture) backup(t *testing.T, backup *v1beta1.MySQLBackup) {
	t.Helper()
	if err := f.moco.Tracker().Add(backup); err != nil {
		t.Fatal(err)
	}
}

func TestTheSourceOfARestore(t *testing.T) {
	volume := v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "nas"}, Prefix: "p"}
	inVolume := wire.Store{Provider: wire.ProviderVolume, Directory: "/store", Prefix: "p"}
	inS3 := wire.Store{
		Provider: wire.ProviderS3, Bucket: "backups", Region: "eu-1", Prefix: "p", Credentials: map[string]string{"accessKeyID": "id", "secretAccessKey": "one"},
	}
	old := wire.ClusterKey{Namespace: "shop", Name: "old", UID: "uid-0"}
	archive, second := s3Of("keys"), metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("", 3600)))
	cases := map[string]struct {
		change func(*v1beta1.RestoreSource)
		backup *v1beta1.MySQLBackup
		want   wire.Source
		claim  string
	}{
		"the moment of a backup": {unchanged, nightly(s3Of("keys")), wire.Source{Store: inS3, Cluster: old, Backup: "20261121T160500Z-01234567"}, ""},
		"a later moment: whichever backup fits": {
			func(r *v1beta1.RestoreSource) { r.At = &v1beta1.RestorePoint{Time: &second} }, nightly(s3Of("keys")),
			wire.Source{Store: inS3, Cluster: old, Target: wire.Target{Time: time.Date(2026, 1, 2, 2, 4, 5, 678901000, time.UTC)}},
			"",
		},
		"up to a transaction": {
			func(r *v1beta1.RestoreSource) { r.At = &v1beta1.RestorePoint{GTID: "u:5"} }, nightly(s3Of("keys")),
			wire.Source{Store: inS3, Cluster: old, Target: wire.Target{GTID: "u:5"}},
			"",
		},
		"before a transaction": {
			func(r *v1beta1.RestoreSource) { r.At = &v1beta1.RestorePoint{BeforeGTID: "u:5"} }, nightly(s3Of("keys")),
			wire.Source{Store: inS3, Cluster: old, Target: wire.Target{BeforeGTID: "u:5"}},
			"",
		},
		"a volume, with the archive elsewhere": {
			func(r *v1beta1.RestoreSource) { r.ArchiveStore = &archive }, nightly(volume),
			wire.Source{Store: inVolume, Archive: &inS3, Cluster: old, Backup: "20261121T160500Z-01234567"},
			"nas",
		},
		"without any object of Kubernetes": {
			func(r *v1beta1.RestoreSource) {
				r.BackupName = ""
				r.Object = &v1beta1.StoredBackup{Store: volume, Namespace: "bank", ClusterName: "ledger", ClusterUID: "uid-9", Backup: "b"}
			}, nil,
			wire.Source{Store: inVolume, Cluster: wire.ClusterKey{Namespace: "bank", Name: "ledger", UID: "uid-9"}, Backup: "b"},
			"nas",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := restoredCluster(c.change)
			f := newFixture(t, cluster)
			f.keep(t, "keys", map[string]string{"accessKeyID": "id", "secretAccessKey": "one"})
			if c.backup != nil {
				f.backup(t, c.backup)
			}
			got, claim, err := f.findSource(t.Context(), "shop", fromBackup(cluster))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&c.want, got); diff != "" || claim != c.claim {
				t.Errorf("claim %q (-want +got):\n%s", claim, diff)
			}
		})
	}
}

func TestWhatIsMissingForARestoreIsSaidInValidAndNothingIsStarted(t *testing.T) {
	backup := func(change func(*v1beta1.MySQLBackup)) *v1beta1.MySQLBackup {
		b := nightly(s3Of("keys"))
		change(b)
		return b
	}
	volume := v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "nas"}}
	whole := backup(func(*v1beta1.MySQLBackup) {})
	cases := map[string]struct {
		change func(*v1beta1.RestoreSource)
		backup *v1beta1.MySQLBackup
		keys   map[string]string
		reason string
		says   []string
	}{
		"there is no such backup":       {unchanged, nil, nil, "BackupMissing", []string{"spec.bootstrap.fromBackup.backupName", `"nightly"`, "shop"}},
		"it is in another namespace":    {unchanged, backup(func(b *v1beta1.MySQLBackup) { b.Namespace = "bank" }), nil, "BackupMissing", []string{`"nightly"`}},
		"it has failed":                 {unchanged, backup(func(b *v1beta1.MySQLBackup) { b.Status.Phase, b.Status.Message = v1beta1.BackupFailed, "no space" }), nil, "BackupNotReady", []string{`"nightly"`, "no space"}},
		"it is still running":           {unchanged, backup(func(b *v1beta1.MySQLBackup) { b.Status.Phase = v1beta1.BackupRunning }), nil, "BackupNotReady", []string{`"nightly"`, "begins when"}},
		"the Secret of its store":       {unchanged, whole, nil, "SecretMissing", []string{"MySQLBackup nightly: spec.store.s3.credentialsSecretRef", `"keys"`}},
		"a key of the Secret":           {unchanged, whole, map[string]string{"accessKeyID": "id"}, "SecretMissing", []string{`"keys"`, `"secretAccessKey"`}},
		"it is encrypted":               {unchanged, backup(func(b *v1beta1.MySQLBackup) { b.Spec.Encryption = &v1beta1.Encryption{} }), nil, "RestoreSourceInvalid", []string{"identitySecretRef"}},
		"the Secret of the identity":    {func(r *v1beta1.RestoreSource) { r.IdentitySecretRef = &corev1.LocalObjectReference{Name: "age"} }, nightly(volume), nil, "SecretMissing", []string{"identitySecretRef", `"age"`}},
		"the archive cannot be on one":  {func(r *v1beta1.RestoreSource) { r.ArchiveStore = &volume }, nightly(volume), nil, "RestoreSourceInvalid", []string{"archiveStore", "volume"}},
		"the Secret of another archive": {func(r *v1beta1.RestoreSource) { store := s3Of("keys"); r.ArchiveStore = &store }, nightly(volume), nil, "SecretMissing", []string{"spec.bootstrap.fromBackup.archiveStore.s3", `"keys"`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := restoredCluster(c.change)
			f := newFixture(t, cluster)
			if c.keys != nil {
				f.keep(t, "keys", c.keys)
			}
			if c.backup != nil {
				f.backup(t, c.backup)
			}
			stored, err := f.syncOnce(t, cluster)
			if err != nil {
				t.Fatal(err)
			}
			valid := apimeta.FindStatusCondition(stored.Status.Conditions, v1beta1.ConditionValid)
			if valid == nil || valid.Status != metav1.ConditionFalse || valid.Reason != c.reason || stored.Status.Phase != v1beta1.PhaseInvalid {
				t.Fatalf("condition %+v, phase %s", valid, stored.Status.Phase)
			}
			for _, text := range c.says {
				if !strings.Contains(valid.Message, text) {
					t.Errorf("%q does not name %q", valid.Message, text)
				}
			}
			pods, _ := f.kubernetes.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
			if len(pods.Items) != 0 || stored.Status.Replication != nil {
				t.Errorf("%d Pods, record %+v", len(pods.Items), stored.Status.Replication)
			}
		})
	}
}

func TestOnlyTheFirstPodMountsTheVolumeOfABackup(t *testing.T) {
	cluster := restoredCluster(unchanged)
	f := newFixture(t, cluster)
	if _, err := f.syncOnce(t, cluster); err != nil {
		t.Fatal(err)
	}
	f.backup(t, nightly(v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "nas"}}))
	f.clock = f.clock.Add(restoreRetry)
	stored, err := f.syncOnce(t, cluster)
	if err != nil {
		t.Fatal(err)
	}
	if valid := apimeta.FindStatusCondition(stored.Status.Conditions, v1beta1.ConditionValid); valid.Status == metav1.ConditionFalse {
		t.Errorf("after the backup was found: %+v", valid)
	}
	pods, _ := f.kubernetes.CoreV1().Pods("shop").List(t.Context(), metav1.ListOptions{})
	if len(pods.Items) != 3 {
		t.Fatalf("%d Pods", len(pods.Items))
	}
	for _, pod := range pods.Items {
		mounted := false
		for _, v := range pod.Spec.Volumes {
			mounted = mounted || (v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == "nas")
		}
		if mounted != (pod.Name == "db-mysql-0") {
			t.Errorf("%s: mounted %t", pod.Name, mounted)
		}
	}
}

// restoring is a world in which a restore from a volume is about to begin; its instances are empty.
func restoring() *world {
	w := &world{cluster: restoredCluster(unchanged), memory: &memory{}, claims: map[int32]*corev1.PersistentVolumeClaim{}}
	w.memory.restore = &restoreSource{source: &wire.Source{Store: wire.Store{Bucket: "backups"}, Backup: "b"}}
	for n := range int32(3) {
		i := testInstance(n)
		i.HasVolume = true
		i.Agent.Volume, i.Agent.Server, i.Agent.Mysqld = api.VolumeEmpty, nil, api.MysqldDown
		w.seen.Instances = append(w.seen.Instances, i)
		w.claims[n] = &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data-" + i.Name}}
	}
	return w
}

func TestARestoreNeverOverwritesData(t *testing.T) {
	own := restoring().memory.restore.source.Fingerprint()
	filled := func(w *world, n int, from string) {
		w.seen.Instances[n].Agent.Volume, w.seen.Instances[n].Agent.RestoredFrom = api.VolumeReady, from
	}
	cases := map[string]struct {
		change func(*world)
		want   string // reason of condition Valid, "" for none
	}{
		"the volumes are empty":                   {func(*world) {}, ""},
		"one holds the data of another restore":   {func(w *world) { filled(w, 0, "other") }, "VolumesExist"},
		"one holds data that were not restored":   {func(w *world) { filled(w, 2, "") }, "VolumesExist"},
		"one cannot be read":                      {func(w *world) { w.seen.Instances[1].Agent.Volume = api.VolumeUnreadable }, "VolumesExist"},
		"this restore has just ended":             {func(w *world) { filled(w, 0, own) }, ""},
		"the same cluster was applied again":      {func(w *world) { filled(w, 0, own); filled(w, 1, "") }, ""},
		"the cluster is initialised already":      {func(w *world) { filled(w, 0, "other"); w.seen.Initialized = true }, ""},
		"a first epoch was opened":                {func(w *world) { filled(w, 0, "other"); w.seen.Record = openedRecord(1, 0) }, ""},
		"a volume was not read yet: Decide waits": {func(w *world) { filled(w, 1, ""); w.seen.Instances[0].Agent = nil }, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := restoring()
			c.change(w)
			(&Controller{now: time.Now}).judgeRestore(w)
			got := ""
			if w.settings.problem != nil {
				got = w.settings.problem.reason
			}
			if got != c.want || (w.hold != nil) != (c.want != "") {
				t.Errorf("reason %q, held: %t", got, w.hold != nil)
			}
			if c.want != "" && (len(w.decide(topology.Desired{}).Actions) != 0 || !strings.Contains(w.settings.problem.message, "a restore never overwrites data")) {
				t.Errorf("%+v", w.settings.problem)
			}
		})
	}
}

func TestARefusedRestoreIsTriedAgainWhenItsSourceChangesAndSeldomElse(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	task := func(state api.TaskState, attempt int, change func(*api.Task)) *api.Task {
		task := &api.Task{Kind: api.TaskRestore, State: state, StartedAt: begun.Add(time.Duration(attempt) * time.Second)}
		change(task)
		return task
	}
	plain := func(*api.Task) {}
	refused := func(task *api.Task) { task.Refused, task.Error = true, "no backup fits" }
	steps := []struct {
		says     string
		seconds  int
		task     *api.Task
		identity string
		held     bool
		reason   string
	}{
		{"nothing was tried", 0, nil, "", false, "NotOpened"},
		{"a failure that may pass", 1, task(api.TaskFailed, 1, plain), "", false, "NotOpened"},
		{"it is refused", 2, task(api.TaskFailed, 2, refused), "", true, "RestoreRefused"},
		{"and still", 61, task(api.TaskFailed, 2, refused), "", true, "RestoreRefused"},
		{"after a minute the store may hold something else", 62, task(api.TaskFailed, 2, refused), "", false, "RestoreRefused"},
		{"it looks", 63, task(api.TaskRunning, 63, plain), "", false, "RestoreRefused"},
		{"it is refused again", 64, task(api.TaskFailed, 63, refused), "", true, "RestoreRefused"},
		{"a Secret was mended", 65, task(api.TaskFailed, 63, refused), "AGE-SECRET-KEY-1", false, "RestoreRefused"},
		{"that was refused, too", 66, task(api.TaskFailed, 66, refused), "AGE-SECRET-KEY-1", true, "RestoreRefused"},
		{"it fetches files", 130, task(api.TaskRunning, 128, func(task *api.Task) { task.BytesDone = 1 }), "AGE-SECRET-KEY-1", false, "NotOpened"},
	}
	w := restoring()
	for _, s := range steps {
		w.seen.Instances[0].Agent.Task = s.task
		source := *w.memory.restore.source
		source.Identity = s.identity
		w.memory.restore.source = &source
		(&Controller{now: func() time.Time { return begun.Add(time.Duration(s.seconds) * time.Second) }}).judgeRestore(w)
		if (w.hold != nil) != s.held || w.notOpenedReason() != s.reason {
			t.Errorf("%s: held %t, reason %s", s.says, w.hold != nil, w.notOpenedReason())
		}
	}
}

func TestWhoMayBeTheFirst(t *testing.T) {
	cases := map[string]struct {
		change func(*world)
		want   []bool
	}{
		"anybody, if the store is reached over the network": {func(*world) {}, []bool{true, true}},
		"only who has mounted the volume":                   {func(w *world) { w.memory.restore.claim = "nas" }, []bool{true, false}},
		"anybody, once there is a record":                   {func(w *world) { w.memory.restore.claim = "nas"; w.seen.Record = openedRecord(1, 0) }, []bool{true, true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := restoring()
			c.change(w)
			if diff := cmp.Diff(c.want, []bool{w.mayBegin(0), w.mayBegin(1)}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheCommandToRestore(t *testing.T) {
	w := restoring()
	record := openedRecord(1, 0)
	name, got, err := (&Controller{}).command(w, topology.Action{Kind: topology.Restore, Instance: "db-mysql-0", Record: record})
	want := &api.RestoreRequest{Record: *record, Source: *w.memory.restore.source, Database: "app", User: "app"}
	if diff := cmp.Diff(api.Request(want), got); diff != "" || name != api.CommandRestore || err != nil {
		t.Errorf("%s, %v (-want +got):\n%s", name, err, diff)
	}
	w.memory.restore = nil
	if _, _, err := (&Controller{}).command(w, topology.Action{Kind: topology.Restore, Record: record}); err == nil {
		t.Error("a restore without a source")
	}
	if restore := desired(&world{cluster: w.cluster, memory: &memory{}}).FromBackup; !restore {
		t.Error("nobody wants a restore")
	}
}

func TestAnInstanceThatIsRestoredSaysSo(t *testing.T) {
	w := restoring()
	w.pods = map[int32]*corev1.Pod{0: {}}
	i := &w.seen.Instances[0]
	i.Agent.Volume, i.Agent.Task = api.VolumeFilling, &api.Task{Kind: api.TaskRestore, State: api.TaskRunning, Stage: "fetching files", BytesDone: 25, BytesTotal: 100}
	if got := stateOf(w, i); got != v1beta1.StateRestoring {
		t.Errorf("state %s", got)
	}
	percent := int32(25)
	want := &v1beta1.Progress{Stage: "fetching files", BytesDone: 25, BytesTotal: 100, Percent: &percent}
	if diff := cmp.Diff(want, progressOf(i.Agent.Task)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
