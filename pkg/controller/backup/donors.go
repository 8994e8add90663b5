// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package backup

import (
	"cmp"
	"math"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/render"
)

// patience is after how many failed attempts the primary is a donor, too, although there are replicas.
const patience = 2

// Donors lists the instances to copy, best first: replicas that serve, the one that is least behind first. The primary is
// the only one when it is asked for or no replica serves, and the last one after two attempts that failed. Failures is how
// many did.
func Donors(cluster *v1beta1.MySQLCluster, pods podLister, source v1beta1.BackupSource, failures int32) []wire.Donor {
	var replicas []v1beta1.InstanceStatus
	for _, i := range cluster.Status.Instances {
		if i.Role == v1beta1.RoleReplica && i.State == v1beta1.StateServing {
			replicas = append(replicas, i)
		}
	}
	slices.SortStableFunc(replicas, func(a, b v1beta1.InstanceStatus) int { return cmp.Compare(lag(a), lag(b)) })
	var donors []wire.Donor
	if source != v1beta1.SourcePrimary {
		for _, i := range replicas {
			donors = appendDonor(donors, cluster, pods, i.Name)
		}
	}
	if primary := primaryOf(cluster); primary != nil && (len(donors) == 0 || failures >= patience) {
		donors = appendDonor(donors, cluster, pods, primary.Name)
	}
	return donors
}

// lag of an instance; one of which it is not known is behind all others.
func lag(i v1beta1.InstanceStatus) int64 {
	if i.LagSeconds == nil {
		return math.MaxInt64
	}
	return *i.LagSeconds
}

// primaryOf is the primary if it serves, else nil.
func primaryOf(cluster *v1beta1.MySQLCluster) *v1beta1.InstanceStatus {
	for n := range cluster.Status.Instances {
		i := &cluster.Status.Instances[n]
		if i.Role == v1beta1.RolePrimary && i.State == v1beta1.StateServing {
			return i
		}
	}
	return nil
}

// appendDonor adds an instance if its Pod is there and has an address.
func appendDonor(donors []wire.Donor, cluster *v1beta1.MySQLCluster, pods podLister, name string) []wire.Donor {
	pod, err := pods.Get(name)
	if err != nil || pod.Status.PodIP == "" || pod.DeletionTimestamp != nil || !metav1.IsControlledBy(pod, cluster) {
		return donors
	}
	return append(donors, wire.Donor{Name: name, Address: pod.Status.PodIP, Port: render.MySQLPort})
}
