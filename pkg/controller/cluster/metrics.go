// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

var (
	conditionDesc = prometheus.NewDesc("moco_cluster_condition",
		"1 if the condition of the MySQLCluster is True, 0 if it is False or Unknown.", []string{"namespace", "cluster", "condition"}, nil)
	instancesDesc = prometheus.NewDesc("moco_cluster_instances",
		"Instances of the MySQLCluster: wanted, existing and serving.", []string{"namespace", "cluster", "state"}, nil)
	archiveLagDesc = prometheus.NewDesc("moco_cluster_archive_lag_seconds",
		"Age of the oldest transaction of the MySQLCluster that is not archived; 0 when all are.", []string{"namespace", "cluster"}, nil)
	archiveRecoverableDesc = prometheus.NewDesc("moco_cluster_archive_recoverable_timestamp_seconds",
		"Time up to which the MySQLCluster can be restored from a backup and the archive.", []string{"namespace", "cluster"}, nil)
	archiveGapDesc = prometheus.NewDesc("moco_cluster_archive_gap",
		"1 if transactions of the MySQLCluster are in no archive and in no binary log, else 0.", []string{"namespace", "cluster"}, nil)
	epochDesc = prometheus.NewDesc("moco_cluster_epoch",
		"Epoch of the replication record of the MySQLCluster.", []string{"namespace", "cluster"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Controller) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{conditionDesc, instancesDesc, epochDesc, archiveLagDesc, archiveRecoverableDesc, archiveGapDesc} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector. It tells what the status of every cluster tells; a controller that does not
// lead has no clusters in its cache and tells nothing.
func (c *Controller) Collect(metrics chan<- prometheus.Metric) {
	clusters, err := c.clusters.List(labels.Everything())
	if err != nil {
		return
	}
	for _, cluster := range clusters {
		gauge := func(desc *prometheus.Desc, value float64, extra ...string) {
			metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{cluster.Namespace, cluster.Name}, extra...)...)
		}
		for _, condition := range cluster.Status.Conditions {
			gauge(conditionDesc, indicator(condition.Status == metav1.ConditionTrue), condition.Type)
		}
		gauge(instancesDesc, float64(cluster.Spec.Replicas), "wanted")
		gauge(instancesDesc, float64(cluster.Status.Replicas), "existing")
		gauge(instancesDesc, float64(cluster.Status.ReadyReplicas), "serving")
		if record := cluster.Status.Replication; record != nil {
			gauge(epochDesc, float64(record.Epoch))
		}
		if archive := cluster.Status.Archive; archive != nil {
			gauge(archiveLagDesc, float64(archive.LagSeconds))
			gauge(archiveGapDesc, indicator(archive.Gap != ""))
			if at := archive.RecoverableUpTo; at != nil {
				gauge(archiveRecoverableDesc, float64(at.Unix()))
			}
		}
	}
}

// indicator is 1 for what holds.
func indicator(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}
