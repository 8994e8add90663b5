// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

var noon = time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)

// aged is a backup that was completed some days before noon, and holds what was committed an hour before that.
func aged(name string, days float64, phase v1beta1.BackupPhase) *v1beta1.MySQLBackup {
	done := noon.Add(-time.Duration(days * 24 * float64(time.Hour)))
	b := &v1beta1.MySQLBackup{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(done.Add(-2 * time.Hour))}}
	b.Spec.ClusterName, b.Spec.Store = "db", v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "backups"}}
	b.Labels = map[string]string{v1beta1.LabelSchedule: "nightly"}
	b.Status.Phase = phase
	if phase == v1beta1.BackupSucceeded || phase == v1beta1.BackupFailed {
		b.Status.CompletedAt = new(metav1.NewTime(done))
	}
	if phase == v1beta1.BackupSucceeded {
		b.Status.ConsistentAt = new(metav1.NewMicroTime(done.Add(-time.Hour)))
	}
	return b
}

// untrusted is a backup whose trial failed.
func untrusted(b *v1beta1.MySQLBackup) *v1beta1.MySQLBackup {
	b.Status.Conditions = []metav1.Condition{{Type: v1beta1.ConditionVerified, Status: metav1.ConditionFalse, Reason: "TrialFailed"}}
	return b
}

func names(backups []*v1beta1.MySQLBackup) []string {
	var found []string
	for _, b := range backups {
		found = append(found, b.Name)
	}
	slices.Sort(found)
	return found
}

func TestRetentionKeepsWhatARestoreNeeds(t *testing.T) {
	ok, failed := v1beta1.BackupSucceeded, v1beta1.BackupFailed
	cases := map[string]struct {
		count   int32
		days    int32
		backups []*v1beta1.MySQLBackup
		want    []string
	}{
		"within count and days nothing goes": {3, 3, []*v1beta1.MySQLBackup{aged("a", 1, ok), aged("b", 2, ok)}, nil},
		"beyond count but within days":       {1, 3, []*v1beta1.MySQLBackup{aged("a", 1, ok), aged("b", 2, ok)}, nil},
		"older than days but within count":   {9, 1, []*v1beta1.MySQLBackup{aged("a", 5, ok), aged("b", 6, ok), aged("c", 7, ok)}, nil},
		"the begin of the window has a base": {1, 3, []*v1beta1.MySQLBackup{aged("a", 1, ok), aged("b", 4, ok), aged("c", 5, ok)}, []string{"c"}},
		// It was completed just within the window, so it is kept for its age; what it holds lies before the window.
		"a base is judged by what it holds": {1, 3, []*v1beta1.MySQLBackup{aged("a", 1, ok), aged("b", 2.98, ok), aged("c", 5, ok)}, []string{"c"}},
		"a backup that ended within the window and holds more than its begin is no base": {
			1, 3, []*v1beta1.MySQLBackup{aged("a", 1, ok), aged("b", 2.9, ok), aged("c", 5, ok), aged("d", 6, ok)}, []string{"d"},
		},
		"a base whose trial failed has another": {
			1, 3, []*v1beta1.MySQLBackup{aged("a", 1, ok), untrusted(aged("b", 4, ok)), aged("c", 5, ok), aged("d", 6, ok)}, []string{"d"},
		},
		"a newest one whose trial failed has another":    {1, 0, []*v1beta1.MySQLBackup{untrusted(aged("a", 1, ok)), aged("b", 2, ok), aged("c", 3, ok)}, []string{"c"}},
		"a base stays although the trials of all failed": {1, 3, []*v1beta1.MySQLBackup{untrusted(aged("a", 1, ok)), untrusted(aged("b", 4, ok)), untrusted(aged("c", 5, ok))}, []string{"c"}},
		"the newest stays whatever its age":              {1, 0, []*v1beta1.MySQLBackup{aged("a", 400, ok), aged("b", 500, ok)}, []string{"b"}},
		"no window and one to keep":                      {1, 0, []*v1beta1.MySQLBackup{aged("a", 0, ok), aged("b", 1, ok), aged("c", 2, ok)}, []string{"b", "c"}},
		"failed ones have a limit of their own":          {1, 3, []*v1beta1.MySQLBackup{aged("a", 9, ok), aged("f", 1, failed), aged("g", 2, failed), aged("h", 3, failed)}, []string{"h"}},
		"what is under way is left alone":                {1, 0, []*v1beta1.MySQLBackup{aged("a", 9, v1beta1.BackupRunning), aged("b", 9, v1beta1.BackupPending)}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			limit := int32(2)
			spec := &v1beta1.MySQLBackupScheduleSpec{Retention: v1beta1.Retention{Count: c.count, Days: &c.days}, FailedHistoryLimit: &limit}
			if diff := cmp.Diff(c.want, names(Expired(spec, c.backups, noon))); diff != "" {
				t.Errorf("expired (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRetentionNeverTakesTheBaseOrTheNewest(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 2000 {
		days, count := random.Int32N(10), random.Int32N(5)+1
		spec := &v1beta1.MySQLBackupScheduleSpec{Retention: v1beta1.Retention{Count: count, Days: &days}}
		var all []*v1beta1.MySQLBackup
		for n := range random.IntN(20) {
			phase := []v1beta1.BackupPhase{v1beta1.BackupSucceeded, v1beta1.BackupSucceeded, v1beta1.BackupFailed, v1beta1.BackupRunning}[random.IntN(4)]
			all = append(all, aged(fmt.Sprintf("b%02d", n), random.Float64()*15, phase))
		}
		expired := Expired(spec, all, noon)
		left := slices.DeleteFunc(slices.Clone(all), func(b *v1beta1.MySQLBackup) bool { return slices.Contains(expired, b) })
		begin := noon.AddDate(0, 0, -int(days))
		if before := newestFirst(all, v1beta1.BackupSucceeded); len(before) > 0 && newestFirst(left, v1beta1.BackupSucceeded)[0] != before[0] {
			t.Fatalf("round %d: the newest was given up", round)
		}
		if baseOf(all, begin) != baseOf(left, begin) {
			t.Fatalf("round %d: the base of the window was given up", round)
		}
		if again := Expired(spec, left, noon); len(again) > 0 {
			t.Fatalf("round %d: a second look gives up %v", round, names(again))
		}
	}
}

func TestKeepAfterCoversEverySchedule(t *testing.T) {
	schedule := func(name string, days int32, change func(*v1beta1.MySQLBackupSchedule)) *v1beta1.MySQLBackupSchedule {
		s := &v1beta1.MySQLBackupSchedule{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		s.Spec.ClusterName, s.Spec.Retention.Days = "db", &days
		s.Spec.Template.Store = v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "backups"}}
		if change != nil {
			change(s)
		}
		return s
	}
	own := schedule("nightly", 7, nil)
	elsewhere := func(b *v1beta1.MySQLBackup) *v1beta1.MySQLBackup {
		b.Labels[v1beta1.LabelSchedule] = "weekly"
		b.Spec.Store = v1beta1.Store{Volume: &v1beta1.VolumeStore{ClaimName: "vault"}}
		return b
	}
	going := func(b *v1beta1.MySQLBackup) *v1beta1.MySQLBackup {
		b.DeletionTimestamp, b.Status.Phase = new(metav1.NewTime(noon)), v1beta1.BackupDeleting
		return b
	}
	kept := going(aged("a", 9, v1beta1.BackupSucceeded))
	kept.Spec.DeletionPolicy = v1beta1.DeletionKeep
	daysAgo := func(days int) time.Time { return noon.AddDate(0, 0, -days) }
	cases := map[string]struct {
		others  []*v1beta1.MySQLBackupSchedule
		backups []*v1beta1.MySQLBackup
		want    time.Time
	}{
		"alone":                          {nil, []*v1beta1.MySQLBackup{aged("a", 9, v1beta1.BackupSucceeded)}, daysAgo(7)},
		"another window is longer":       {[]*v1beta1.MySQLBackupSchedule{schedule("weekly", 30, nil)}, nil, daysAgo(30)},
		"another window is shorter":      {[]*v1beta1.MySQLBackupSchedule{schedule("weekly", 1, nil)}, nil, daysAgo(7)},
		"another cluster does not count": {[]*v1beta1.MySQLBackupSchedule{schedule("weekly", 30, func(s *v1beta1.MySQLBackupSchedule) { s.Spec.ClusterName = "db2" })}, nil, daysAgo(7)},
		"a base in another store": {
			[]*v1beta1.MySQLBackupSchedule{schedule("weekly", 7, nil)},
			[]*v1beta1.MySQLBackup{elsewhere(aged("a", 9, v1beta1.BackupSucceeded))},
			daysAgo(9).Add(-time.Hour),
		},
		"no window begins with one that is being deleted": {nil, []*v1beta1.MySQLBackup{going(aged("a", 9, v1beta1.BackupSucceeded))}, daysAgo(9).Add(-time.Hour - time.Microsecond)},
		"no window begins with one whose trial failed":    {nil, []*v1beta1.MySQLBackup{untrusted(aged("a", 9, v1beta1.BackupSucceeded))}, daysAgo(9).Add(-time.Hour - time.Microsecond)},
		"a better one is newer":                           {nil, []*v1beta1.MySQLBackup{untrusted(aged("a", 9, v1beta1.BackupSucceeded)), aged("b", 8, v1beta1.BackupSucceeded)}, daysAgo(7)},
		"a better one is older": {nil, []*v1beta1.MySQLBackup{
			untrusted(aged("a", 8, v1beta1.BackupSucceeded)), going(aged("b", 9, v1beta1.BackupSucceeded)), aged("c", 10, v1beta1.BackupSucceeded), untrusted(aged("d", 11, v1beta1.BackupSucceeded)),
		}, daysAgo(9).Add(-time.Hour - time.Microsecond)},
		"a better one elsewhere is not seen":                         {nil, []*v1beta1.MySQLBackup{untrusted(aged("a", 9, v1beta1.BackupSucceeded)), elsewhere(aged("b", 8, v1beta1.BackupSucceeded))}, daysAgo(9).Add(-time.Hour - time.Microsecond)},
		"one whose object alone is being deleted stays in the store": {nil, []*v1beta1.MySQLBackup{kept}, daysAgo(7)},
		"a base in another store whose trial failed": {
			[]*v1beta1.MySQLBackupSchedule{schedule("weekly", 7, nil)},
			[]*v1beta1.MySQLBackup{elsewhere(untrusted(aged("a", 9, v1beta1.BackupSucceeded))), elsewhere(aged("b", 12, v1beta1.BackupSucceeded))},
			daysAgo(12).Add(-time.Hour),
		},
		"a suspended schedule keeps all": {
			[]*v1beta1.MySQLBackupSchedule{schedule("weekly", 1, func(s *v1beta1.MySQLBackupSchedule) { s.Spec.Suspend = true })},
			[]*v1beta1.MySQLBackup{elsewhere(aged("a", 90, v1beta1.BackupSucceeded)), elsewhere(aged("b", 2, v1beta1.BackupSucceeded))},
			daysAgo(90).Add(-time.Hour),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := KeepAfter(own, append(c.others, own), c.backups, noon)
			if !got.Equal(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestAGapIsClosedOnce(t *testing.T) {
	since := noon.Add(-time.Hour)
	born := func(after time.Duration, phase v1beta1.BackupPhase) *v1beta1.MySQLBackup {
		b := aged("x", 0, phase)
		b.CreationTimestamp = metav1.NewTime(since.Add(after))
		if b.Status.CompletedAt != nil {
			b.Status.CompletedAt = new(metav1.NewTime(since.Add(after + time.Minute)))
		}
		return b
	}
	logical := born(time.Minute, v1beta1.BackupSucceeded)
	logical.Spec.Method = v1beta1.Logical
	cases := map[string]struct {
		backups []*v1beta1.MySQLBackup
		want    time.Time
	}{
		"no backup behind it":            {nil, since},
		"one from before does not count": {[]*v1beta1.MySQLBackup{born(-time.Minute, v1beta1.BackupSucceeded)}, since},
		"one is on its way":              {[]*v1beta1.MySQLBackup{born(time.Minute, v1beta1.BackupPending)}, time.Time{}},
		"one succeeded":                  {[]*v1beta1.MySQLBackup{born(0, v1beta1.BackupSucceeded)}, time.Time{}},
		"a logical one closes nothing":   {[]*v1beta1.MySQLBackup{logical}, since},
		"one that failed is followed":    {[]*v1beta1.MySQLBackup{born(time.Minute, v1beta1.BackupFailed)}, since.Add(2*time.Minute + gapPause)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := gapDue(c.backups, since); !got.Equal(c.want) {
				t.Errorf("due at %s, want %s", got, c.want)
			}
		})
	}
}
