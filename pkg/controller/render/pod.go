// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

const (
	// defaultStopBudgetSeconds stands in for spec.stopBudgetSeconds where it is not set, as its API default does.
	defaultStopBudgetSeconds = 120
	// absentNodeSeconds is how long a Pod stays on a node that does not report. Eviction helps nobody there: the primary
	// moves by epoch, and a mysqld that lives on a node whose kubelet does not answer is better than none.
	absentNodeSeconds = 1800
)

// PodInput is what a Pod is made from beside the spec.
type PodInput struct {
	// Ordinal of the instance, 0 to 8.
	Ordinal int32
	// Claim is the name of its PersistentVolumeClaim; "" means ClaimName.
	Claim string
	// AgentImage and ExporterImage are those the controller was started with.
	AgentImage, ExporterImage string
	// Store is the claim of a volume from which the instance is restored, "" for none. It is mounted read-only in the agent's
	// container. The hash does not depend on it: the Pod is not to be replaced when the restore is over.
	Store string
	// Epoch of the record the Pod is created under, for its annotation; 0 leaves that out. The hash does not depend on it.
	Epoch int64
}

// Pod makes the Pod of an instance with the overlay of spec.podTemplate laid over it. Its annotation
// v1beta1.AnnotationTemplateHash tells whether a live Pod is what is wanted. The error is Problems when the overlay is
// refused.
func Pod(cluster *v1beta1.MySQLCluster, in PodInput) (*corev1.Pod, error) {
	template, err := overlaid(cluster, podTemplate(cluster, in))
	if err != nil {
		return nil, err
	}
	hash, err := hashOf(template)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{
		TypeMeta:   typeMeta(corev1.SchemeGroupVersion, "Pod"),
		ObjectMeta: owned(cluster, PodName(cluster, in.Ordinal)),
		Spec:       template.Spec,
	}
	if in.Store != "" {
		mountStore(&pod.Spec, in.Store)
	}
	pod.Labels = template.Labels
	pod.Annotations = with(template.Annotations, map[string]string{v1beta1.AnnotationTemplateHash: hash})
	if in.Epoch > 0 {
		pod.Annotations[v1beta1.AnnotationEpoch] = strconv.FormatInt(in.Epoch, 10)
	}
	return pod, nil
}

func podTemplate(cluster *v1beta1.MySQLCluster, in PodInput) *corev1.PodTemplateSpec {
	claim := in.Claim
	if claim == "" {
		claim = ClaimName(cluster, in.Ordinal)
	}
	return &corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: ordinalLabels(cluster, in.Ordinal),
			Annotations: map[string]string{
				// Without it the autoscaler would keep a node because of the emptyDirs; the budget is what protects the cluster.
				"cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
				"kubectl.kubernetes.io/default-container":        ContainerMySQL,
			},
		},
		Spec: podSpec(cluster, in, claim),
	}
}

func podSpec(cluster *v1beta1.MySQLCluster, in PodInput, claim string) corev1.PodSpec {
	return corev1.PodSpec{
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		Hostname:                      PodName(cluster, in.Ordinal),
		Subdomain:                     HeadlessServiceName(cluster),
		RestartPolicy:                 corev1.RestartPolicyAlways,
		TerminationGracePeriodSeconds: ptr.To(int64(stopBudgetSeconds(cluster))),
		SecurityContext:               podSecurity(),
		ImagePullSecrets:              cluster.DeepCopy().Spec.ImagePullSecrets,
		Affinity:                      spread(cluster),
		Tolerations:                   absentNodeTolerations(),
		InitContainers:                []corev1.Container{agentBinaryContainer(in.AgentImage)},
		Containers: []corev1.Container{
			mysqlContainer(cluster),
			agentContainer(cluster, in.AgentImage),
			exporterContainer(in.ExporterImage),
		},
		Volumes: podVolumes(cluster, claim),
	}
}

// stopBudgetSeconds covers handing over the primary and a shutdown with a full flush.
func stopBudgetSeconds(cluster *v1beta1.MySQLCluster) int32 {
	return cmp.Or(cluster.Spec.StopBudgetSeconds, defaultStopBudgetSeconds)
}

// spread prefers one instance for each node, then for each zone. It does not require it: three instances must start on
// one node, too.
func spread(cluster *v1beta1.MySQLCluster) *corev1.Affinity {
	term := func(weight int32, key string) corev1.WeightedPodAffinityTerm {
		return corev1.WeightedPodAffinityTerm{Weight: weight, PodAffinityTerm: corev1.PodAffinityTerm{
			LabelSelector: &metav1.LabelSelector{MatchLabels: selected(cluster)},
			TopologyKey:   key,
		}}
	}
	return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{
			term(100, corev1.LabelHostname),
			term(50, corev1.LabelTopologyZone),
		},
	}}
}

func absentNodeTolerations() []corev1.Toleration {
	toleration := func(key string) corev1.Toleration {
		return corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
			TolerationSeconds: ptr.To[int64](absentNodeSeconds),
		}
	}
	return []corev1.Toleration{toleration(corev1.TaintNodeNotReady), toleration(corev1.TaintNodeUnreachable)}
}

func httpGet(path string) *corev1.HTTPGetAction {
	return &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(api.ProbePort), Scheme: corev1.URISchemeHTTP}
}

// TemplateHash of a live Pod, or "" when it was not made here.
func TemplateHash(pod *corev1.Pod) string { return pod.Annotations[v1beta1.AnnotationTemplateHash] }

// EpochOf reads the epoch an object was written under; 0 without one.
func EpochOf(object metav1.Object) (int64, error) {
	text, ok := object.GetAnnotations()[v1beta1.AnnotationEpoch]
	if !ok {
		return 0, nil
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the epoch of %s: %w", object.GetName(), err)
	}
	return epoch, nil
}
