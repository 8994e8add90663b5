// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// PrimaryService leads to the primary. It has no selector.
func PrimaryService(cluster *v1beta1.MySQLCluster) (*corev1.Service, error) {
	return pointedService(cluster, PrimaryServiceName(cluster), cluster.Spec.PrimaryService)
}

// ReplicaService leads to the replicas that serve reads. It has no selector.
func ReplicaService(cluster *v1beta1.MySQLCluster) (*corev1.Service, error) {
	return pointedService(cluster, ReplicaServiceName(cluster), cluster.Spec.ReplicaService)
}

// HeadlessService gives every Pod its DNS name, ready or not, and Prometheus the exporters.
func HeadlessService(cluster *v1beta1.MySQLCluster) (*corev1.Service, error) {
	service := newService(cluster, HeadlessServiceName(cluster))
	service.Spec = corev1.ServiceSpec{
		Type:                     corev1.ServiceTypeClusterIP,
		ClusterIP:                corev1.ClusterIPNone,
		Selector:                 selected(cluster),
		PublishNotReadyAddresses: true,
		Ports:                    []corev1.ServicePort{servicePort(PortNameMySQL, MySQLPort), servicePort(PortNameMetrics, MetricsPort)},
	}
	return service, stamp(&service.ObjectMeta, service)
}

func pointedService(cluster *v1beta1.MySQLCluster, name string, shape *v1beta1.ServiceTemplate) (*corev1.Service, error) {
	service := newService(cluster, name)
	service.Spec = corev1.ServiceSpec{
		Type:  corev1.ServiceTypeClusterIP,
		Ports: []corev1.ServicePort{servicePort(PortNameMySQL, MySQLPort)},
	}
	if shape != nil {
		service.Labels = with(shape.Labels, service.Labels)
		service.Annotations = with(shape.Annotations, nil)
		if shape.Type != "" {
			service.Spec.Type = shape.Type
		}
	}
	return service, stamp(&service.ObjectMeta, service)
}

func newService(cluster *v1beta1.MySQLCluster, name string) *corev1.Service {
	return &corev1.Service{TypeMeta: typeMeta(corev1.SchemeGroupVersion, "Service"), ObjectMeta: owned(cluster, name)}
}

func servicePort(name string, number int32) corev1.ServicePort {
	return corev1.ServicePort{
		Name: name, Port: number, TargetPort: intstr.FromInt32(number), Protocol: corev1.ProtocolTCP,
	}
}

// Budget lets one voter at a time be drained. It is nil with fewer than two voters: it would only block drains then.
func Budget(cluster *v1beta1.MySQLCluster, voters int) (*policyv1.PodDisruptionBudget, error) {
	if voters < 2 {
		return nil, nil
	}
	budget := &policyv1.PodDisruptionBudget{
		TypeMeta:   typeMeta(policyv1.SchemeGroupVersion, "PodDisruptionBudget"),
		ObjectMeta: owned(cluster, BudgetName(cluster)),
		Spec: policyv1.PodDisruptionBudgetSpec{
			// An integer: a percentage is counted from the scale subresource, learners included.
			MinAvailable: ptr.To(intstr.FromInt(voters - 1)),
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{
				v1beta1.LabelCluster: cluster.Name, v1beta1.LabelVoter: "true",
			}},
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.IfHealthyBudget),
		},
	}
	return budget, stamp(&budget.ObjectMeta, budget)
}

// ConfigMap publishes the settings that were accepted last: myCnf, the option file of the first instance, for people, and
// under KeyOptions the user's options as a JSON object, by which a controller that cannot ask mysqld knows them again.
// What the instances use is on their volumes.
func ConfigMap(cluster *v1beta1.MySQLCluster, myCnf string, options map[string]string) (*corev1.ConfigMap, error) {
	text, err := json.Marshal(with(options, nil))
	if err != nil {
		return nil, fmt.Errorf("encoding the options: %w", err)
	}
	config := &corev1.ConfigMap{
		TypeMeta:   typeMeta(corev1.SchemeGroupVersion, "ConfigMap"),
		ObjectMeta: owned(cluster, ConfigMapName(cluster)),
		Data:       map[string]string{KeyMyCnf: myCnf, KeyOptions: string(text)},
	}
	return config, stamp(&config.ObjectMeta, config)
}

// stamp writes the hash of the whole object into its annotations.
func stamp(meta *metav1.ObjectMeta, object any) error {
	hash, err := hashOf(object)
	if err != nil {
		return err
	}
	meta.Annotations = with(meta.Annotations, map[string]string{AnnotationAppliedHash: hash})
	return nil
}
