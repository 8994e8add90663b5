// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Paths inside the containers. The agent and the supervisor are started with them.
const (
	DataDir       = "/data/mysql"
	RunDir        = "/run/moco"
	BinDir        = "/moco/bin"
	TLSDir        = "/etc/moco/tls"
	MonitoringDir = "/etc/moco/monitoring"
	TmpDir        = "/tmp"
	StoreDir      = "/store"
	// MySQLSocket is where mysqld listens for the exporter and for a person inside the Pod.
	MySQLSocket = RunDir + "/mysqld.sock"

	agentInImage  = "/moco-agent"
	agentInVolume = BinDir + "/moco-agent"
)

// Volumes of a Pod.
const (
	volumeData       = "data"
	volumeBin        = "bin"
	volumeRun        = "run"
	volumeTmp        = "tmp"
	volumeTLS        = "tls"
	volumeMonitoring = "monitoring"
	volumeStore      = "restore-store"
)

// userID of all containers, and group of all volumes.
const userID int64 = 10000

func agentBinaryContainer(image string) corev1.Container {
	return corev1.Container{
		Name:            ContainerAgentBinary,
		Image:           image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{agentInImage},
		Args:            []string{"install", agentInVolume},
		Resources:       fixedResources("10m", "32Mi", "128Mi"),
		SecurityContext: containerSecurity(),
		VolumeMounts:    []corev1.VolumeMount{mount(volumeBin, BinDir)},
	}
}

func mysqlContainer(cluster *v1beta1.MySQLCluster) corev1.Container {
	return corev1.Container{
		Name:            ContainerMySQL,
		Image:           cluster.Spec.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{agentInVolume},
		Args:            []string{"supervise"},
		Env:             podEnvironment(cluster),
		Ports:           []corev1.ContainerPort{port(PortNameMySQL, MySQLPort)},
		Resources:       Resources(cluster),
		SecurityContext: containerSecurity(),
		VolumeMounts: []corev1.VolumeMount{
			mount(volumeData, DataDir),
			mount(volumeRun, RunDir),
			mount(volumeTmp, TmpDir),
			readOnlyMount(volumeBin, BinDir),
		},
	}
}

func agentContainer(cluster *v1beta1.MySQLCluster, image string) corev1.Container {
	return corev1.Container{
		Name:            ContainerAgent,
		Image:           image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{agentInImage},
		Args:            []string{"serve", "--stop-budget=" + strconv.Itoa(int(stopBudgetSeconds(cluster))) + "s"},
		Env:             podEnvironment(cluster),
		Ports:           []corev1.ContainerPort{port(PortNameProbe, api.ProbePort), port(PortNameControl, api.ControlPort)},
		Resources:       fixedResources("20m", "64Mi", "256Mi"),
		SecurityContext: containerSecurity(),
		// Readiness is for people and for drains (the budget counts ready Pods); where the Services lead is not decided by it.
		ReadinessProbe: httpProbe("/readyz", 2, 3),
		LivenessProbe:  httpProbe("/healthz", 10, 6),
		VolumeMounts: []corev1.VolumeMount{
			mount(volumeData, DataDir),
			mount(volumeRun, RunDir),
			mount(volumeTmp, TmpDir),
			readOnlyMount(volumeTLS, TLSDir),
		},
	}
}

func exporterContainer(image string) corev1.Container {
	return corev1.Container{
		Name:            ContainerExporter,
		Image:           image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{
			"--config.my-cnf=" + MonitoringDir + "/" + KeyMyCnf,
			"--web.listen-address=:9187",
		},
		Ports:           []corev1.ContainerPort{port(PortNameMetrics, MetricsPort)},
		Resources:       fixedResources("10m", "32Mi", "128Mi"),
		SecurityContext: containerSecurity(),
		VolumeMounts: []corev1.VolumeMount{
			readOnlyMount(volumeRun, RunDir),
			readOnlyMount(volumeMonitoring, MonitoringDir),
		},
	}
}

func podVolumes(cluster *v1beta1.MySQLCluster, claim string) []corev1.Volume {
	return []corev1.Volume{
		{Name: volumeData, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
		}},
		emptyDir(volumeBin),
		emptyDir(volumeRun),
		emptyDir(volumeTmp),
		secretVolume(volumeTLS, TLSSecretName(cluster), KeyCACert, KeyTLSCert, KeyTLSKey, KeyControllerCA),
		// Only the option file: the exporter's is the one container that does not need the rest.
		secretVolume(volumeMonitoring, AccountSecretName(cluster, AccountMonitoring), KeyMyCnf),
	}
}

// mountStore adds the volume of a backup store to the agent's container.
func mountStore(spec *corev1.PodSpec, claim string) {
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: volumeStore, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
	}})
	for n := range spec.Containers {
		if c := &spec.Containers[n]; c.Name == ContainerAgent {
			c.VolumeMounts = append(c.VolumeMounts, readOnlyMount(volumeStore, StoreDir))
		}
	}
}

// podEnvironment tells the agent and the supervisor who they are.
func podEnvironment(cluster *v1beta1.MySQLCluster) []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "CLUSTER_NAME", Value: cluster.Name},
		fieldVariable("POD_NAME", "metadata.name"),
		fieldVariable("POD_NAMESPACE", "metadata.namespace"),
		fieldVariable("POD_UID", "metadata.uid"),
		fieldVariable("POD_IP", "status.podIP"),
	}
}

func fieldVariable(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

func containerSecurity() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		Privileged:               ptr.To(false),
		ReadOnlyRootFilesystem:   ptr.To(true),
	}
}

// podSecurity: the volumes of a large database would take minutes to be chowned at every start, hence OnRootMismatch.
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

func httpProbe(path string, periodSeconds, failures int32) *corev1.Probe {
	probe := &corev1.Probe{PeriodSeconds: periodSeconds, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: failures}
	probe.HTTPGet = httpGet(path)
	return probe
}

func port(name string, number int32) corev1.ContainerPort {
	return corev1.ContainerPort{Name: name, ContainerPort: number, Protocol: corev1.ProtocolTCP}
}

func mount(volume, path string) corev1.VolumeMount {
	return corev1.VolumeMount{Name: volume, MountPath: path}
}

func readOnlyMount(volume, path string) corev1.VolumeMount {
	return corev1.VolumeMount{Name: volume, MountPath: path, ReadOnly: true}
}

func emptyDir(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

// secretVolume holds only the named keys, readable by the group of the volumes alone.
func secretVolume(name, secret string, keys ...string) corev1.Volume {
	items := make([]corev1.KeyToPath, 0, len(keys))
	for _, key := range keys {
		items = append(items, corev1.KeyToPath{Key: key, Path: key})
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: secret, Items: items, DefaultMode: ptr.To[int32](0o440),
	}}}
}
