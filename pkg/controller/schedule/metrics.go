// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package schedule

import (
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// series are the labels of every metric; schedule is empty for backups that no schedule made.
var series = []string{"namespace", "cluster", "schedule"}

var (
	successDesc = prometheus.NewDesc("moco_backup_last_success_timestamp_seconds",
		"When the newest successful backup was completed; 0 when there was none.", series, nil)
	failedDesc = prometheus.NewDesc("moco_backup_failed",
		"1 if the newest backup that came to an end failed, else 0.", series, nil)
	runningDesc = prometheus.NewDesc("moco_backup_running",
		"Backups that are under way.", series, nil)
	storedDesc = prometheus.NewDesc("moco_backup_stored_bytes",
		"Bytes in the store of the newest successful backup.", series, nil)
	verifiedDesc = prometheus.NewDesc("moco_backup_verified_timestamp_seconds",
		"When the last trial ended, if it succeeded; 0 if it failed, or when there was none.", series, nil)
	restoreDesc = prometheus.NewDesc("moco_backup_restore_seconds",
		"How long the restore of the last successful trial took.", series, nil)
	conditionDesc = prometheus.NewDesc("moco_backup_schedule_condition",
		"1 if the condition of the MySQLBackupSchedule is True, 0 if it is False or Unknown.", append([]string{"condition"}, series...), nil)
)

// Describe implements prometheus.Collector.
func (c *Controller) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{successDesc, failedDesc, runningDesc, storedDesc, verifiedDesc, restoreDesc, conditionDesc} {
		descriptions <- d
	}
}

// group is what a series is about.
type group struct{ namespace, cluster, schedule string }

// Collect implements prometheus.Collector. It tells what the objects in the caches tell, so a series goes with its object.
func (c *Controller) Collect(metrics chan<- prometheus.Metric) {
	backups, err := c.backups.List(labels.Everything())
	if err != nil {
		return
	}
	schedules, err := c.schedules.List(labels.Everything())
	if err != nil {
		return
	}
	groups := map[group][]*v1beta1.MySQLBackup{}
	for _, s := range schedules {
		groups[group{s.Namespace, s.Spec.ClusterName, s.Name}] = nil
		c.collectSchedule(metrics, s)
	}
	for _, b := range backups {
		g := group{b.Namespace, b.Spec.ClusterName, b.Labels[v1beta1.LabelSchedule]}
		groups[g] = append(groups[g], b)
	}
	for g, own := range groups {
		collectBackups(metrics, g, own)
	}
}

// collectBackups tells of the backups of a schedule, or of those of a cluster that people made.
func collectBackups(metrics chan<- prometheus.Metric, g group, own []*v1beta1.MySQLBackup) {
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, g.namespace, g.cluster, g.schedule)
	}
	succeeded, failed := newestFirst(own, v1beta1.BackupSucceeded), newestFirst(own, v1beta1.BackupFailed)
	var last float64
	if len(succeeded) > 0 {
		last = float64(completedAt(succeeded[0]).Unix())
		gauge(storedDesc, float64(succeeded[0].Status.StoredBytes))
	}
	gauge(successDesc, last)
	bad := len(failed) > 0 && (len(succeeded) == 0 || completedAt(failed[0]).After(completedAt(succeeded[0])))
	gauge(failedDesc, number(bad))
	running := 0
	for _, b := range own {
		if b.Status.Phase == v1beta1.BackupRunning || b.Status.Phase == v1beta1.BackupPending {
			running++
		}
	}
	gauge(runningDesc, float64(running))
}

func (c *Controller) collectSchedule(metrics chan<- prometheus.Metric, s *v1beta1.MySQLBackupSchedule) {
	gauge := func(desc *prometheus.Desc, value float64, before ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append(before, s.Namespace, s.Spec.ClusterName, s.Name)...)
	}
	if s.Spec.Verify != nil {
		var at float64
		if v := s.Status.LastVerified; v != nil && v.Succeeded {
			at = float64(v.At.Unix())
			gauge(restoreDesc, float64(v.RestoreSeconds))
		}
		gauge(verifiedDesc, at)
	}
	for _, condition := range s.Status.Conditions {
		gauge(conditionDesc, number(condition.Status == metav1.ConditionTrue), condition.Type)
	}
}

// number is how metrics say yes and no.
func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
