// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// The rules of the overlay. They look at the JSON itself, not at the decoded Pod, so that a field is refused by its name
// even when its value is the zero value.

const leaveOut = "leave it out"

// refusedPodFields are owned by the controller, with the remedy for each. Every field that begins with "host" is
// refused, too.
var refusedPodFields = map[string]string{
	"restartPolicy":                 leaveOut,
	"subdomain":                     leaveOut,
	"setHostnameAsFQDN":             leaveOut,
	"shareProcessNamespace":         leaveOut,
	"terminationGracePeriodSeconds": leaveOut,
	"activeDeadlineSeconds":         "leave it out; it would end the Pod while it serves",
	"automountServiceAccountToken":  "leave it out; Pods of MySQL carry no token",
	"ephemeralContainers":           "use kubectl debug",
	"nodeName":                      "use nodeSelector or affinity",
	"imagePullSecrets":              "use spec.imagePullSecrets of the cluster",
	"resources":                     "use spec.resources of the cluster",
}

// allowedContainerFields of the containers of the controller; everything else of them is refused.
var allowedContainerFields = map[string]bool{
	"name": true, "env": true, "envFrom": true, "imagePullPolicy": true, "resources": true,
	"securityContext": true, "volumeMounts": true,
}

var containerRemedies = map[string]string{
	"image":     "use spec.image for mysql; the other images are flags of the controller",
	"resources": "use spec.resources of the cluster: the buffer pool follows it",
}

var ownVolumes = map[string]bool{
	volumeData: true, volumeBin: true, volumeRun: true, volumeTmp: true, volumeTLS: true, volumeMonitoring: true, volumeStore: true,
}

// ownPaths are those that containers of the controller mount or keep free.
var ownPaths = []string{"/data", "/moco", RunDir, "/etc/moco", TmpDir, StoreDir}

var ownVariables = map[string]bool{
	"CLUSTER_NAME": true, "POD_NAME": true, "POD_NAMESPACE": true, "POD_UID": true, "POD_IP": true,
}

// refusal collects problems on the way through the tree.
type refusal struct{ problems Problems }

func refuse(tree map[string]any) Problems {
	r := &refusal{}
	r.walk(overlayRoot, tree)
	metadata, _ := tree["metadata"].(map[string]any)
	r.metadata(metadata)
	spec, _ := tree["spec"].(map[string]any)
	r.podSpec(spec)
	return r.problems
}

func (r *refusal) add(field, reason, remedy string) {
	r.problems = append(r.problems, Problem{Field: field, Reason: reason, Remedy: remedy})
}

// walk refuses nulls, which would delete what they are laid over, and the directives of merge patches, which hide as
// keys of labels and other free maps.
func (r *refusal) walk(field string, node any) {
	switch node := node.(type) {
	case nil:
		r.add(field, "null would remove what the controller sets", leaveOut)
	case map[string]any:
		for key, value := range node {
			if strings.HasPrefix(key, "$") {
				r.add(field+"."+key, "directives of merge patches are not taken", leaveOut)
			}
			r.walk(field+"."+key, value)
		}
	case []any:
		for i, value := range node {
			r.walk(fmt.Sprintf("%s[%d]", field, i), value)
		}
	}
}

func (r *refusal) metadata(metadata map[string]any) {
	for key, value := range metadata {
		field := overlayRoot + ".metadata." + key
		if key != "labels" && key != "annotations" {
			r.add(field, "the controller sets it", "only labels and annotations can be given")
			continue
		}
		entries, _ := value.(map[string]any)
		for name := range entries {
			if ownKey(name) {
				r.add(field+"["+name+"]", "the controller sets it", leaveOut)
			}
		}
	}
}

func ownKey(name string) bool {
	switch name {
	case "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "app.kubernetes.io/managed-by":
		return true
	}
	domain, _, _ := strings.Cut(name, "/")
	return domain == "moco.dev" || strings.HasSuffix(domain, ".moco.dev")
}

func (r *refusal) podSpec(spec map[string]any) {
	for key := range spec {
		remedy, refused := refusedPodFields[key]
		if strings.HasPrefix(key, "host") {
			remedy, refused = leaveOut, true
		}
		if refused {
			r.add(overlayRoot+".spec."+key, "the controller sets it", remedy)
		}
	}
	r.volumes(items(spec, "volumes"))
	r.containers("initContainers", items(spec, "initContainers"), []string{ContainerAgentBinary})
	r.containers("containers", items(spec, "containers"), []string{ContainerMySQL, ContainerAgent, ContainerExporter})
}

func (r *refusal) volumes(volumes []map[string]any) {
	for i, volume := range volumes {
		field := fmt.Sprintf("%s.spec.volumes[%d]", overlayRoot, i)
		if name := text(volume, "name"); ownVolumes[name] {
			r.add(field+".name", "the volume "+name+" is the controller's", "use another name")
		}
		projected, _ := volume["projected"].(map[string]any)
		for j, source := range items(projected, "sources") {
			if _, token := source["serviceAccountToken"]; token {
				r.add(fmt.Sprintf("%s.projected.sources[%d].serviceAccountToken", field, j),
					"Pods of MySQL carry no token of a service account", leaveOut)
			}
		}
	}
}

// containers checks one of the lists; own are the names of the controller's containers in it.
func (r *refusal) containers(list string, containers []map[string]any, own []string) {
	for i, container := range containers {
		field := fmt.Sprintf("%s.spec.%s[%d]", overlayRoot, list, i)
		name := text(container, "name")
		switch {
		case slices.Contains(own, name):
			r.ownContainer(field, name, container)
		case name == ContainerAgentBinary, name == ContainerMySQL, name == ContainerAgent, name == ContainerExporter:
			r.add(field+".name", "the name "+name+" is the controller's, in another list", "use another name")
		default:
			r.sidecar(field, container)
		}
	}
}

func (r *refusal) ownContainer(field, name string, container map[string]any) {
	for key := range container {
		if !allowedContainerFields[key] || key == "resources" && name == ContainerMySQL {
			remedy, ok := containerRemedies[key]
			if !ok {
				remedy = leaveOut
			}
			r.add(field+"."+key, "the controller sets it for its container "+name, remedy)
		}
	}
	for i, variable := range items(container, "env") {
		if ownVariables[text(variable, "name")] {
			r.add(fmt.Sprintf("%s.env[%d].name", field, i), "the controller sets this variable", leaveOut)
		}
	}
	for i, mounted := range items(container, "volumeMounts") {
		at := fmt.Sprintf("%s.volumeMounts[%d]", field, i)
		r.ownVolume(at, mounted)
		if overlaps(text(mounted, "mountPath")) {
			r.add(at+".mountPath", "it hides, or lies in, a path of the controller", "mount it elsewhere")
		}
	}
}

func (r *refusal) sidecar(field string, container map[string]any) {
	for i, mounted := range items(container, "volumeMounts") {
		r.ownVolume(fmt.Sprintf("%s.volumeMounts[%d]", field, i), mounted)
	}
}

// ownVolume refuses a mount of a volume of the controller: the data belongs to one mysqld, and the socket of the
// supervisor and the keys to the agent.
func (r *refusal) ownVolume(field string, mounted map[string]any) {
	if name := text(mounted, "name"); ownVolumes[name] {
		r.add(field+".name", "the volume "+name+" is the controller's", "mount a volume of your own")
	}
}

func overlaps(mountPath string) bool {
	mountPath = path.Clean("/" + mountPath)
	return slices.ContainsFunc(ownPaths, func(own string) bool {
		return mountPath == own || mountPath == "/" ||
			strings.HasPrefix(mountPath, own+"/") || strings.HasPrefix(own, mountPath+"/")
	})
}

func items(parent map[string]any, key string) []map[string]any {
	list, _ := parent[key].([]any)
	maps := make([]map[string]any, 0, len(list))
	for _, item := range list {
		object, _ := item.(map[string]any) // a nil map keeps the index and has no problems
		maps = append(maps, object)
	}
	return maps
}

func text(parent map[string]any, key string) string {
	value, _ := parent[key].(string)
	return value
}
