// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"encoding/json"
	"fmt"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
	"github.com/moco-mysql/moco/pkg/backup/wire"
	"github.com/moco-mysql/moco/pkg/controller/stores"
)

const (
	// inputKey in the Secret of a Job is the file it reads.
	inputKey = "job.json"
	inputDir = "/job"
	workDir  = "/work"
	binDir   = "/moco"
	tmpDir   = "/tmp"

	programInImage  = "/moco-backup"
	programInVolume = binDir + "/moco-backup"

	// userID of all containers, and group of all volumes, as in the Pods of clusters.
	userID int64 = 10000
	// graceSeconds is how long a Pod that is told to stop has to leave its result.
	graceSeconds = 60
	// absentNodeSeconds is how long a Pod stays on a node that does not report. Its work can be done again elsewhere.
	absentNodeSeconds = 60
)

// Spec is what a Job is made from.
type Spec struct {
	// Owner of the Job, of kind OwnerKind; with it the Job goes.
	Owner     metav1.Object
	OwnerKind schema.GroupVersionKind
	// Name of the Job and of its Secret, from Name.
	Name string
	// Operation the Job is to do.
	Operation wire.Operation
	// Number of the attempt, from 1 on; Subject is kept for Subject.
	Number  int32
	Subject string
	// Cluster whose image, pull secrets and sizes are used; nil when it is gone. Backups and trials need it.
	Cluster *v1beta1.MySQLCluster
	// AgentImage brings the program.
	AgentImage string
	// Stores that the Job opens; the claim of the first volume among them is mounted.
	Stores []*v1beta1.Store
	// Work is the volume for operations with a mysqld.
	Work v1beta1.WorkVolume
	// Resources of the container; what is not mentioned has the defaults of the API.
	Resources corev1.ResourceRequirements
}

// mysqld reports whether the operation starts one, and so needs the cluster's image and a volume to work on.
func (s *Spec) mysqld() bool {
	switch s.Operation {
	case wire.OperationDelete, wire.OperationPrune, wire.OperationDropRestore:
		return false
	default:
		return true
	}
}

// Render makes the Job.
func Render(s *Spec) *batchv1.Job {
	labels := labelsOf(s.Owner, s.Operation)
	jobLabels := labelsOf(s.Owner, s.Operation)
	if s.Cluster != nil {
		jobLabels[v1beta1.LabelCluster] = s.Cluster.Name
	}
	owner := s.OwnerKind.Kind + "/" + s.Owner.GetName()
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name, Namespace: s.Owner.GetNamespace(), Labels: jobLabels,
			Annotations:     map[string]string{annotationNumber: strconv.Itoa(int(s.Number)), annotationSubject: s.Subject, annotationOwner: owner},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s.Owner, s.OwnerKind)},
		},
		Spec: batchv1.JobSpec{
			BackoffLimit: ptr.To[int32](0), Completions: ptr.To[int32](1), Parallelism: ptr.To[int32](1),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{
					// A backup that is interrupted begins again: a node is not emptied for the autoscaler while one runs.
					"cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
					"kubectl.kubernetes.io/default-container":        Container,
					annotationOwner: owner,
				}},
				Spec: podSpec(s, labels),
			},
		},
	}
}

func podSpec(s *Spec, labels map[string]string) corev1.PodSpec {
	spec := corev1.PodSpec{
		AutomountServiceAccountToken:  ptr.To(false),
		EnableServiceLinks:            ptr.To(false),
		RestartPolicy:                 corev1.RestartPolicyNever,
		TerminationGracePeriodSeconds: ptr.To[int64](graceSeconds),
		SecurityContext:               podSecurity(),
		Tolerations:                   absentNodeTolerations(),
		Containers:                    []corev1.Container{container(s)},
		Volumes: []corev1.Volume{
			{Name: "job", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: s.Name, DefaultMode: ptr.To[int32](0o440)}}},
			emptyDir("tmp"),
		},
	}
	if s.Cluster != nil {
		spec.ImagePullSecrets = s.Cluster.DeepCopy().Spec.ImagePullSecrets
	}
	if s.mysqld() {
		spec.InitContainers = []corev1.Container{programContainer(s.AgentImage)}
		spec.Volumes = append(spec.Volumes, emptyDir("moco"), workVolume(s, labels))
	}
	if claim := Claim(s.Stores); claim != "" {
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "store", VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}})
	}
	return spec
}

// Claim is the claim of the first store that is a volume, or "".
func Claim(all []*v1beta1.Store) string {
	for _, store := range all {
		if store != nil && store.Volume != nil {
			return store.Volume.ClaimName
		}
	}
	return ""
}

// programContainer copies the static program into the volume from which it is started in the image of MySQL.
func programContainer(image string) corev1.Container {
	return corev1.Container{
		Name: "program", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{programInImage}, Args: []string{"install", binDir},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
		},
		SecurityContext: containerSecurity(),
		VolumeMounts:    []corev1.VolumeMount{{Name: "moco", MountPath: binDir}},
	}
}

func container(s *Spec) corev1.Container {
	made := corev1.Container{
		Name: Container, Image: s.AgentImage, ImagePullPolicy: corev1.PullIfNotPresent,
		Command: []string{programInImage}, Args: []string{"run"},
		Ports:     []corev1.ContainerPort{{Name: "progress", ContainerPort: wire.ProgressPort, Protocol: corev1.ProtocolTCP}},
		Resources: resources(s.Resources), SecurityContext: containerSecurity(),
		// The last lines of a log are no result.
		TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		VolumeMounts: []corev1.VolumeMount{
			{Name: "job", MountPath: inputDir, ReadOnly: true},
			{Name: "tmp", MountPath: tmpDir},
		},
	}
	if s.mysqld() {
		made.Image, made.Command = s.Cluster.Spec.Image, []string{programInVolume}
		made.VolumeMounts = append(made.VolumeMounts, corev1.VolumeMount{Name: "moco", MountPath: binDir, ReadOnly: true}, corev1.VolumeMount{Name: "work", MountPath: workDir})
	}
	if Claim(s.Stores) != "" {
		made.VolumeMounts = append(made.VolumeMounts, corev1.VolumeMount{Name: "store", MountPath: stores.Directory})
	}
	return made
}

// workVolume goes with the Pod.
func workVolume(s *Spec, labels map[string]string) corev1.Volume {
	size, class := s.Cluster.Spec.Storage.Size, s.Cluster.Spec.Storage.StorageClassName
	if s.Work.Size != nil {
		size = *s.Work.Size
	}
	if s.Work.StorageClassName != nil {
		class = s.Work.StorageClassName
	}
	claim := corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: size.DeepCopy()}},
	}
	if class != nil {
		claim.StorageClassName = ptr.To(*class)
	}
	return corev1.Volume{Name: "work", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{
		VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: claim},
	}}}
}

// resources completes what the spec mentions with the defaults of the API: 250m CPU, 512Mi memory up to 1Gi.
func resources(given corev1.ResourceRequirements) corev1.ResourceRequirements {
	made := *given.DeepCopy()
	mentioned := func(name corev1.ResourceName) bool {
		_, requested := made.Requests[name]
		_, limited := made.Limits[name]
		return requested || limited
	}
	set := func(list *corev1.ResourceList, name corev1.ResourceName, quantity string) {
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = resource.MustParse(quantity)
	}
	if !mentioned(corev1.ResourceCPU) {
		set(&made.Requests, corev1.ResourceCPU, "250m")
	}
	if !mentioned(corev1.ResourceMemory) {
		set(&made.Requests, corev1.ResourceMemory, "512Mi")
		set(&made.Limits, corev1.ResourceMemory, "1Gi")
	}
	return made
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		Privileged:               ptr.To(false),
		ReadOnlyRootFilesystem:   ptr.To(true),
	}
}

func podSecurity() *corev1.PodSecurityContext {
	return &corev1.PodSecurityContext{
		RunAsNonRoot:        ptr.To(true),
		RunAsUser:           ptr.To(userID),
		RunAsGroup:          ptr.To(userID),
		FSGroup:             ptr.To(userID),
		FSGroupChangePolicy: ptr.To(corev1.FSGroupChangeOnRootMismatch),
		SeccompProfile:      &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func absentNodeTolerations() []corev1.Toleration {
	made := make([]corev1.Toleration, 0, 2)
	for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
		made = append(made, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](absentNodeSeconds),
		})
	}
	return made
}

func emptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

// secretOf makes the Secret with the input of a Job that exists. The Job owns it.
func secretOf(made *batchv1.Job, input *wire.JobInput) (*corev1.Secret, error) {
	text, err := json.Marshal(input)
	if err != nil {
		return nil, fmt.Errorf("encoding the input of Job %s: %w", made.Name, err)
	}
	labels := map[string]string{}
	for _, key := range []string{"app.kubernetes.io/name", "app.kubernetes.io/managed-by", v1beta1.LabelBackup, LabelOwnerUID, LabelOperation} {
		labels[key] = made.Labels[key]
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: made.Name, Namespace: made.Namespace, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: batchv1.SchemeGroupVersion.String(), Kind: "Job", Name: made.Name, UID: made.UID, Controller: ptr.To(true),
			}},
		},
		Immutable: ptr.To(true), Type: corev1.SecretTypeOpaque, Data: map[string][]byte{inputKey: text},
	}, nil
}
