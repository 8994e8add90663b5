// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// Ports of the containers and Services, by their names.
const (
	// MySQLPort is where mysqld and the Services listen, named PortNameMySQL.
	MySQLPort = 3306
	// MetricsPort is where the exporter listens, named PortNameMetrics.
	MetricsPort = 9187

	PortNameMySQL   = "mysql"
	PortNameProbe   = "probe"
	PortNameControl = "control"
	PortNameMetrics = "metrics"
)

// Containers of a Pod.
const (
	// ContainerAgentBinary is the init container that copies the static agent into the volume that mysql starts it from.
	ContainerAgentBinary = "agent-binary"
	// ContainerMySQL runs the supervisor as process 1 and mysqld below it.
	ContainerMySQL = "mysql"
	// ContainerAgent runs the agent.
	ContainerAgent = "agent"
	// ContainerExporter runs the Prometheus exporter.
	ContainerExporter = "metrics-exporter"
)

// Keys of the Secrets and the ConfigMap.
const (
	KeyUsername     = "username"
	KeyPassword     = "password"
	KeyDatabase     = "database"
	KeyHost         = "host"
	KeyPort         = "port"
	KeyURI          = "uri"
	KeyMyCnf        = "my.cnf"
	KeyOptions      = "options.json"
	KeyCACert       = "ca.crt"
	KeyCAKey        = "ca.key"
	KeyTLSCert      = "tls.crt"
	KeyTLSKey       = "tls.key"
	KeyControllerCA = "controller-ca.crt"
)

// Account is one of the fixed accounts of a cluster; its value is the name of the MySQL user.
type Account string

// The accounts.
const (
	AccountRoot           Account = "root"
	AccountAdmin          Account = "moco-admin"
	AccountDataProtection Account = "moco-dataprotection"
	AccountProbe          Account = "moco-probe"
	AccountMonitoring     Account = "moco-monitoring"
	AccountReplicator     Account = "moco-replicator"
)

// Accounts returns all accounts, in the order in which they are listed everywhere.
func Accounts() []Account {
	return []Account{
		AccountRoot, AccountAdmin, AccountDataProtection, AccountProbe, AccountMonitoring, AccountReplicator,
	}
}

func prefixed(cluster *v1beta1.MySQLCluster) string { return cluster.Name + "-mysql" }

// PodName is the name of the Pod of an instance, and its host name.
func PodName(cluster *v1beta1.MySQLCluster, ordinal int32) string {
	return prefixed(cluster) + "-" + strconv.Itoa(int(ordinal))
}

// ClaimName is the name of the first PersistentVolumeClaim of an instance.
func ClaimName(cluster *v1beta1.MySQLCluster, ordinal int32) string {
	return "data-" + PodName(cluster, ordinal)
}

// suffixDigits is how many hexadecimal digits tell the volumes of one instance apart.
const suffixDigits = 8

// SuccessorClaimName is the name of the PersistentVolumeClaim that comes after a retired one. It depends on nothing but that
// one's UID: whoever makes it, and however often, makes the same.
func SuccessorClaimName(cluster *v1beta1.MySQLCluster, ordinal int32, retired types.UID) string {
	sum := sha256.Sum256([]byte(retired))
	return ClaimName(cluster, ordinal) + "-" + hex.EncodeToString(sum[:])[:suffixDigits]
}

// IsClaimName reports whether a name is one of those that the PersistentVolumeClaims of an instance have.
func IsClaimName(cluster *v1beta1.MySQLCluster, ordinal int32, name string) bool {
	suffix, ok := strings.CutPrefix(name, ClaimName(cluster, ordinal))
	if !ok || suffix == "" {
		return ok
	}
	digits, ok := strings.CutPrefix(suffix, "-")
	return ok && len(digits) == suffixDigits && strings.Trim(digits, "0123456789abcdef") == ""
}

// IsRetired reports whether a volume was replaced by another and must not be used again.
func IsRetired(claim metav1.Object) bool { return claim.GetLabels()[v1beta1.LabelRetired] == "true" }

// ClaimOf is the name of the PersistentVolumeClaim that a Pod of an instance was made with; "" when it has none of its names.
func ClaimOf(cluster *v1beta1.MySQLCluster, ordinal int32, pod *corev1.Pod) string {
	for _, volume := range pod.Spec.Volumes {
		if claim := volume.PersistentVolumeClaim; claim != nil && IsClaimName(cluster, ordinal, claim.ClaimName) {
			return claim.ClaimName
		}
	}
	return ""
}

// PrimaryServiceName is the name of the Service that leads to the primary.
func PrimaryServiceName(cluster *v1beta1.MySQLCluster) string { return prefixed(cluster) }

// ReplicaServiceName is the name of the Service that leads to the replicas that serve reads.
func ReplicaServiceName(cluster *v1beta1.MySQLCluster) string { return prefixed(cluster) + "-ro" }

// HeadlessServiceName is the name of the Service that gives every Pod its DNS name.
func HeadlessServiceName(cluster *v1beta1.MySQLCluster) string {
	return prefixed(cluster) + "-headless"
}

// BudgetName is the name of the PodDisruptionBudget.
func BudgetName(cluster *v1beta1.MySQLCluster) string { return prefixed(cluster) }

// AccountSecretName is the name of the Secret of an account.
func AccountSecretName(cluster *v1beta1.MySQLCluster, account Account) string {
	return prefixed(cluster) + "-account-" + string(account)
}

// ApplicationSecretName is the name of the Secret of bootstrap.user.
func ApplicationSecretName(cluster *v1beta1.MySQLCluster) string { return prefixed(cluster) + "-app" }

// TLSSecretName is the name of the Secret the agents serve with: the CA of the cluster, the agents' leaf with its key,
// and the CA of the controller they trust.
func TLSSecretName(cluster *v1beta1.MySQLCluster) string { return prefixed(cluster) + "-tls" }

// CASecretName is the name of the Secret with the CA of the cluster and its key.
func CASecretName(cluster *v1beta1.MySQLCluster) string { return prefixed(cluster) + "-ca" }

// ConfigMapName is the name of the ConfigMap with the readable copy of my.cnf.
func ConfigMapName(cluster *v1beta1.MySQLCluster) string { return prefixed(cluster) + "-config" }

// ServiceHost is the name under which a Service is reached from any namespace, without the domain of the cluster.
func ServiceHost(cluster *v1beta1.MySQLCluster, service string) string {
	return service + "." + cluster.Namespace + ".svc"
}

// PodHost is the DNS name of an instance, without the domain of the cluster.
func PodHost(cluster *v1beta1.MySQLCluster, ordinal int32) string {
	return PodName(cluster, ordinal) + "." + ServiceHost(cluster, HeadlessServiceName(cluster))
}
