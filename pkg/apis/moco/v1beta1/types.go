// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package v1beta1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// +genclient
// +genclient:method=GetScale,verb=get,subresource=scale,result=k8s.io/api/autoscaling/v1.Scale
// +genclient:method=UpdateScale,verb=update,subresource=scale,input=k8s.io/api/autoscaling/v1.Scale,result=k8s.io/api/autoscaling/v1.Scale
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=mysql,categories=moco
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:printcolumn:name="Topology",type=string,JSONPath=`.spec.topology`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.ready`,description="Instances that serve, of those asked for"
// +kubebuilder:printcolumn:name="Primary",type=string,JSONPath=`.status.primary`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Image",type=string,JSONPath=`.spec.image`,priority=1
// +kubebuilder:printcolumn:name="Epoch",type=integer,JSONPath=`.status.replication.epoch`,priority=1
// +kubebuilder:printcolumn:name="Waiting for",type=string,JSONPath=`.status.decision.waitingFor`,priority=1
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40",message="metadata.name may have at most 40 characters, because the names of Pods, Services and Secrets are made from it"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must begin with a letter and may contain lower case letters, digits and hyphens only, because Services are named after it"

// MySQLCluster is a MySQL server with its replicas: one primary that takes writes and, with topology Replication,
// replicas that acknowledge every write before the client sees OK.
type MySQLCluster struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`
	// Spec is what the user wants.
	Spec MySQLClusterSpec `json:"spec"`
	// Status is what the controller found; users do not write it.
	// +optional
	Status MySQLClusterStatus `json:"status,omitempty"`
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true

// MySQLClusterList is a list of MySQLClusters.
type MySQLClusterList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MySQLCluster `json:"items"`
}

// Topology says who coordinates the instances.
// +kubebuilder:validation:Enum=Standalone;Replication
type Topology string

const (
	// Standalone is one instance without replicas.
	Standalone Topology = "Standalone"
	// Replication is a primary with lossless semi-synchronous replicas, coordinated by the controller.
	Replication Topology = "Replication"
)

// MySQLClusterSpec is what the user wants of a cluster.
// +kubebuilder:validation:XValidation:rule="self.topology != 'Standalone' || self.replicas == 1",message="spec.replicas must be 1 with topology Standalone; use topology Replication for more instances"
// +kubebuilder:validation:XValidation:rule="has(self.bootstrap) == has(oldSelf.bootstrap) && (!has(self.bootstrap) || self.bootstrap == oldSelf.bootstrap)",message="spec.bootstrap cannot be changed: it is used once, when the cluster is created"
type MySQLClusterSpec struct {
	// Topology: Standalone (one instance) or Replication (a primary and replicas, coordinated by the controller).
	// Default Replication. It can be changed only from Standalone to Replication.
	// +kubebuilder:default=Replication
	// +kubebuilder:validation:XValidation:rule="self == oldSelf || (oldSelf == 'Standalone' && self == 'Replication')",message="spec.topology can only be changed from Standalone to Replication"
	// +optional
	Topology Topology `json:"topology,omitempty"`

	// Replicas is the number of instances, the primary included: 1 to 9, default 3; 1 with topology Standalone. It may
	// be raised at any time; lowering it is refused. An even number tolerates no more failures than the odd number below it.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=9
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="spec.replicas cannot be lowered: removing instances from a running cluster is not supported"
	// +optional
	Replicas int32 `json:"replicas,omitempty"`

	// Image is a container image with mysqld 8.4 or later on its PATH, for example mysql:9.7.4. A change takes effect on
	// an instance when its Pod is next created; until then condition UpdatePending names the Pods.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Image string `json:"image"`

	// ImagePullSecrets are Secrets of this namespace used to pull the images of the Pods. At most 8.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets,omitempty"`

	// Resources of the container mysql. The buffer pool and other sizes follow the memory limit (or, without one, the
	// request). Default: requests of 500m CPU and 1Gi memory, limit of 1Gi memory. A change takes effect on an instance
	// when its Pod is next created.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`

	// Storage of each instance.
	Storage Storage `json:"storage"`

	// Config holds mysqld options, name to value, as in the [mysqld] group of my.cnf. Options on which the safety of the
	// cluster rests are refused by name; unknown options and values are refused by asking mysqld itself. A change takes
	// effect on an instance when its mysqld next starts. At most 200 options.
	// +kubebuilder:validation:MaxProperties=200
	// +optional
	Config map[string]string `json:"config,omitempty"`

	// ConfigMapRef names a ConfigMap of this namespace that holds mysqld options, key to value; Config wins over it.
	// +optional
	ConfigMapRef *corev1.LocalObjectReference `json:"configMapRef,omitempty"`

	// PodTemplate is laid over the generated Pods by strategic merge: metadata (labels, annotations) and spec (affinity,
	// tolerations, sidecars, ...). What the controller owns is refused by name in condition Valid. A change takes effect
	// on an instance when its Pod is next created.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Schemaless
	// +kubebuilder:validation:Type=object
	// +optional
	PodTemplate *runtime.RawExtension `json:"podTemplate,omitempty"`

	// PrimaryService shapes the Service {name}-mysql, which leads to the primary.
	// +optional
	PrimaryService *ServiceTemplate `json:"primaryService,omitempty"`

	// ReplicaService shapes the Service {name}-mysql-ro, which leads to the replicas that serve reads.
	// +optional
	ReplicaService *ServiceTemplate `json:"replicaService,omitempty"`

	// Bootstrap is used once, when the first instance is initialised. It cannot be changed.
	// +optional
	Bootstrap *Bootstrap `json:"bootstrap,omitempty"`

	// Backup is what is kept of the cluster outside of it, all the time. Backups themselves are made with MySQLBackup and
	// MySQLBackupSchedule.
	// +optional
	Backup *ClusterBackup `json:"backup,omitempty"`

	// Failover says when and whether another instance becomes the primary by itself.
	// +kubebuilder:default={}
	// +optional
	Failover Failover `json:"failover,omitempty"`

	// ReplaceAfterMinutes is how long an instance may wait for a volume that cannot be reached from any node, because the node
	// it is tied to is gone, until it gets a new one, which is cloned: 0 to 1440, default 30; 0 means never. A node is gone
	// when its Node object was deleted or has the taint node.kubernetes.io/out-of-service; the Pod of an instance there is
	// given up at once then (unless this is 0). The primary is replaced by a failover first. The former volume is kept.
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1440
	// +optional
	ReplaceAfterMinutes *int32 `json:"replaceAfterMinutes,omitempty"`

	// StopBudgetSeconds is the termination grace period of the Pods: how long a primary that is told to stop may take to
	// hand over first. 30 to 3600, default 120. A change takes effect on an instance when its Pod is next created.
	// +kubebuilder:default=120
	// +kubebuilder:validation:Minimum=30
	// +kubebuilder:validation:Maximum=3600
	// +optional
	StopBudgetSeconds int32 `json:"stopBudgetSeconds,omitempty"`
}

// FailoverMode says who decides about a failover.
// +kubebuilder:validation:Enum=Automatic;Manual
type FailoverMode string

const (
	// FailoverAutomatic replaces a primary that is lost as soon as that is safe.
	FailoverAutomatic FailoverMode = "Automatic"
	// FailoverManual only says what it would do; a person asks for it with the annotation moco.dev/switchover.
	FailoverManual FailoverMode = "Manual"
)

// Failover says when and whether another instance becomes the primary by itself.
type Failover struct {
	// DetectionSeconds is how long a primary must be silent, or not complete a write, before it is suspected: 1 to 60,
	// default 2. A mysqld that ends is noticed at once.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	// +optional
	DetectionSeconds int32 `json:"detectionSeconds,omitempty"`
	// RemoveAbsentVoterSeconds is how long a replica may be away before it loses its vote, so that the next failover does
	// not need it: 10 to 86400, default 60. It gets the vote back when it has caught up.
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=86400
	// +optional
	RemoveAbsentVoterSeconds int32 `json:"removeAbsentVoterSeconds,omitempty"`
	// Mode is Automatic (default) or Manual. With Manual a lost primary is not replaced by itself; status.decision says
	// what would be done. A crashed primary still opens again by itself, and switchovers still work.
	// +kubebuilder:default=Automatic
	// +optional
	Mode FailoverMode `json:"mode,omitempty"`
}

// RetainPolicy says what becomes of volumes when the cluster is deleted.
// +kubebuilder:validation:Enum=Keep;Delete
type RetainPolicy string

const (
	// RetainKeep keeps volumes and account Secrets; applying the same cluster again adopts them.
	RetainKeep RetainPolicy = "Keep"
	// RetainDelete deletes volumes and account Secrets together with the cluster, but for volumes that were retired.
	RetainDelete RetainPolicy = "Delete"
)

// Storage of each instance.
// +kubebuilder:validation:XValidation:rule="quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0",message="spec.storage.size cannot be lowered: a volume does not shrink"
// +kubebuilder:validation:XValidation:rule="has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",message="spec.storage.storageClassName cannot be changed: a volume stays in its class"
type Storage struct {
	// Size of the data volume of each instance, for example 10Gi; at least 1Gi. It may be raised if the storage class
	// allows expansion; it cannot be lowered.
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).compareTo(quantity('1Gi')) >= 0",message="spec.storage.size must be at least 1Gi"
	Size resource.Quantity `json:"size"`
	// StorageClassName of the volumes; without it the default class. It cannot be changed.
	// +kubebuilder:validation:MaxLength=253
	// +optional
	StorageClassName *string `json:"storageClassName,omitempty"`
	// Retain says what becomes of volumes and account Secrets when the cluster is deleted: Keep (default) or Delete.
	// Volumes that were retired when an instance was replaced are kept with either.
	// +kubebuilder:default=Keep
	// +optional
	Retain RetainPolicy `json:"retain,omitempty"`
}

// ServiceTemplate shapes one of the Services.
type ServiceTemplate struct {
	// Type of the Service: ClusterIP (default), NodePort or LoadBalancer.
	// +kubebuilder:validation:Enum=ClusterIP;NodePort;LoadBalancer
	// +kubebuilder:default=ClusterIP
	// +optional
	Type corev1.ServiceType `json:"type,omitempty"`
	// Annotations added to the Service. At most 50.
	// +kubebuilder:validation:MaxProperties=50
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
	// Labels added to the Service. At most 50; the controller's own labels win.
	// +kubebuilder:validation:MaxProperties=50
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
}

// Bootstrap is what the first instance is initialised with.
// +kubebuilder:validation:XValidation:rule="!has(self.user) || has(self.database)",message="spec.bootstrap.user needs spec.bootstrap.database: the user gets its privileges there"
// +kubebuilder:validation:XValidation:rule="!has(self.fromBackup) || !has(self.initSQL)",message="spec.bootstrap.initSQL and spec.bootstrap.fromBackup exclude each other: what is restored is not changed"
type Bootstrap struct {
	// Database is created, utf8mb4. At most 64 characters: letters, digits, underscores and hyphens.
	// +kubebuilder:validation:Pattern=`^[A-Za-z][-A-Za-z0-9_]{0,63}$`
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['mysql','sys','moco','information_schema','performance_schema'])",message="spec.bootstrap.database must not be one of MySQL's own schemas or moco"
	// +optional
	Database string `json:"database,omitempty"`
	// User is created with all privileges on Database; its name and password are in the Secret {name}-mysql-app. At most 32 characters.
	// +kubebuilder:validation:Pattern=`^[A-Za-z][-A-Za-z0-9_]{0,31}$`
	// +kubebuilder:validation:XValidation:rule="!(self.lowerAscii() in ['root','mysql']) && !self.lowerAscii().startsWith('moco-') && !self.lowerAscii().startsWith('mysql.')",message="spec.bootstrap.user must not be root nor begin with moco- or mysql."
	// +optional
	User string `json:"user,omitempty"`
	// InitSQL is run once in Database before the cluster becomes available; statements separated by semicolons. At most 64 KiB.
	// +kubebuilder:validation:MaxLength=65536
	// +optional
	InitSQL string `json:"initSQL,omitempty"`
	// FromBackup fills the first instance from a backup instead. Internal accounts and root get the passwords of this
	// cluster's own Secrets; accounts of applications are restored as they were. Database and user are made if they are missing.
	// +optional
	FromBackup *RestoreSource `json:"fromBackup,omitempty"`
}
