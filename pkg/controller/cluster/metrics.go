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
	epochDesc = prometheus.NewDesc("moco_cluster_epoch",
		"Epoch of the replication record of the MySQLCluster.", []string{"namespace", "cluster"}, nil)
)

// Describe implements prometheus.Collector.
func (c *Controller) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{conditionDesc, instancesDesc, epochDesc} {
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
			value := 0.0
			if condition.Status == metav1.ConditionTrue {
				value = 1
			}
			gauge(conditionDesc, value, condition.Type)
		}
		gauge(instancesDesc, float64(cluster.Spec.Replicas), "wanted")
		gauge(instancesDesc, float64(cluster.Status.Replicas), "existing")
		gauge(instancesDesc, float64(cluster.Status.ReadyReplicas), "serving")
		if record := cluster.Status.Replication; record != nil {
			gauge(epochDesc, float64(record.Epoch))
		}
	}
}
