// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

func TestTemplateHashFollowsTheTemplateAlone(t *testing.T) {
	base := must[*corev1.Pod](t)(Pod(newCluster(nil), newInput()))
	cases := map[string]struct {
		cluster func(*v1beta1.MySQLCluster)
		input   func(*PodInput)
		same    bool
	}{
		"nothing changed":        {same: true},
		"the epoch moved on":     {input: func(in *PodInput) { in.Epoch = 99 }, same: true},
		"more replicas":          {cluster: func(c *v1beta1.MySQLCluster) { c.Spec.Replicas = 5 }, same: true},
		"a larger volume":        {cluster: func(c *v1beta1.MySQLCluster) { c.Spec.Storage.Size = resource.MustParse("20Gi") }, same: true},
		"another image":          {cluster: func(c *v1beta1.MySQLCluster) { c.Spec.Image = "mysql:9.8.0" }},
		"another agent":          {input: func(in *PodInput) { in.AgentImage = "agent:2" }},
		"an overlay":             {cluster: withOverlay("spec: {priorityClassName: high}")},
		"an annotation":          {cluster: withOverlay("metadata: {annotations: {a: b}}")},
		"an empty overlay":       {cluster: withOverlay("{}"), same: true},
		"the default, spelt out": {cluster: withOverlay("spec: {containers: [{name: agent, imagePullPolicy: IfNotPresent}]}"), same: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			input := newInput()
			if tc.input != nil {
				tc.input(&input)
			}
			pod := must[*corev1.Pod](t)(Pod(newCluster(tc.cluster), input))
			if same := TemplateHash(pod) == TemplateHash(base); same != tc.same {
				t.Errorf("same hash: %v, want %v", same, tc.same)
			}
		})
	}
}

func TestOverlayIsMerged(t *testing.T) {
	cluster := newCluster(withOverlay(`
metadata:
  labels: {team: shop}
  annotations: {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
spec:
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}]
  tolerations:
  - {key: dedicated, operator: Exists}
  - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 5}
  securityContext: {supplementalGroups: [4000]}
  volumes:
  - {name: keyring, secret: {secretName: keyring}}
  containers:
  - name: proxy
    image: proxy:1
  - name: mysql
    env: [{name: TZ, value: UTC}]
    volumeMounts: [{name: keyring, mountPath: /etc/keyring, readOnly: true}]
  - name: agent
    resources: {limits: {memory: 512Mi}}
`))
	pod := must[*corev1.Pod](t)(Pod(cluster, newInput()))
	if pod.Labels["team"] != "shop" || pod.Annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] != "false" {
		t.Errorf("metadata was not merged: %v, %v", pod.Labels, pod.Annotations)
	}
	if pod.Spec.Affinity.PodAntiAffinity != nil || pod.Spec.Affinity.NodeAffinity == nil {
		t.Errorf("the user's affinity did not win: %v", pod.Spec.Affinity)
	}
	names := make([]string, 0, 4)
	byName := map[string]corev1.Container{}
	for _, container := range pod.Spec.Containers {
		names = append(names, container.Name)
		byName[container.Name] = container
	}
	if diff := cmp.Diff([]string{"mysql", "agent", "metrics-exporter", "proxy"}, names); diff != "" {
		t.Errorf("containers (-want +got):\n%s", diff)
	}
	mysql := byName[ContainerMySQL]
	if mysql.Image != "mysql:9.7.4" || len(mysql.VolumeMounts) != 5 || !slices.ContainsFunc(mysql.Env, func(v corev1.EnvVar) bool { return v.Name == "TZ" }) {
		t.Errorf("mysql was not merged: %v", mysql)
	}
	agent := byName[ContainerAgent]
	if agent.Resources.Limits.Memory().String() != "512Mi" || agent.Resources.Requests.Memory().String() != "64Mi" {
		t.Errorf("resources of the agent: %v", agent.Resources)
	}
	if len(pod.Spec.SecurityContext.SupplementalGroups) != 1 || *pod.Spec.SecurityContext.RunAsUser != userID {
		t.Errorf("security context: %v", pod.Spec.SecurityContext)
	}
	seconds := map[string]int64{}
	for _, toleration := range pod.Spec.Tolerations {
		if toleration.TolerationSeconds != nil {
			seconds[toleration.Key] = *toleration.TolerationSeconds
		}
	}
	want := map[string]int64{corev1.TaintNodeUnreachable: 5, corev1.TaintNodeNotReady: absentNodeSeconds}
	if !maps.Equal(want, seconds) || len(pod.Spec.Tolerations) != 3 {
		t.Errorf("tolerations: %v", pod.Spec.Tolerations)
	}
}

func TestOverlayIsRefusedByName(t *testing.T) {
	const spec, meta = "spec.podTemplate.spec.", "spec.podTemplate.metadata."
	cases := map[string]struct {
		overlay string
		fields  []string
	}{
		"a misspelt field":          {"spec: {nodeSelectr: {a: b}}", []string{spec + "nodeSelectr"}},
		"a misspelt nested field":   {"spec: {containers: [{name: x, imag: y}]}", []string{spec + "containers[0].imag"}},
		"a wrong type":              {"spec: {priority: high}", []string{spec + "priority"}},
		"a text instead of a spec":  {"spec: nothing", []string{"spec.podTemplate.spec"}},
		"another top level field":   {"status: {}", []string{"spec.podTemplate.status"}},
		"null":                      {"spec: {securityContext: null}", []string{spec + "securityContext"}},
		"null in a list":            {"spec: {containers: [null]}", []string{spec + "containers[0]"}},
		"a directive among labels":  {"metadata: {labels: {$patch: replace}}", []string{meta + "labels.$patch"}},
		"a directive of the spec":   {"spec: {$patch: delete}", []string{spec + "$patch", spec + "$patch"}},
		"a name":                    {"metadata: {name: x, finalizers: [a/b]}", []string{meta + "finalizers", meta + "name"}},
		"a label of ours":           {"metadata: {labels: {moco.dev/voter: 'true', app.kubernetes.io/name: x}}", []string{meta + "labels[app.kubernetes.io/name]", meta + "labels[moco.dev/voter]"}},
		"an annotation of ours":     {"metadata: {annotations: {moco.dev/epoch: '9'}}", []string{meta + "annotations[moco.dev/epoch]"}},
		"command and args of mysql": {"spec: {containers: [{name: mysql, command: [sh], args: [x]}]}", []string{spec + "containers[0].args", spec + "containers[0].command"}},
		"image of the agent":        {"spec: {containers: [{name: agent, image: x}]}", []string{spec + "containers[0].image"}},
		"ports of the exporter":     {"spec: {containers: [{name: metrics-exporter, ports: [{containerPort: 1}]}]}", []string{spec + "containers[0].ports"}},
		"resources of mysql":        {"spec: {containers: [{name: mysql, resources: {}}]}", []string{spec + "containers[0].resources"}},
		"a probe of mysql":          {"spec: {containers: [{name: mysql, livenessProbe: {}}]}", []string{spec + "containers[0].livenessProbe"}},
		"the init container":        {"spec: {initContainers: [{name: agent-binary, image: x}]}", []string{spec + "initContainers[0].image"}},
		"an init container mysql":   {"spec: {initContainers: [{name: mysql, image: x}]}", []string{spec + "initContainers[0].name"}},
		"a variable of ours":        {"spec: {containers: [{name: agent, env: [{name: POD_UID, value: x}]}]}", []string{spec + "containers[0].env[0].name"}},
		"a mount over the data":     {"spec: {containers: [{name: mysql, volumeMounts: [{name: x, mountPath: /data/}]}]}", []string{spec + "containers[0].volumeMounts[0].mountPath"}},
		"a mount above the socket":  {"spec: {containers: [{name: mysql, volumeMounts: [{name: x, mountPath: /run}]}]}", []string{spec + "containers[0].volumeMounts[0].mountPath"}},
		"our data in a sidecar":     {"spec: {containers: [{name: x, volumeMounts: [{name: data, mountPath: /d}]}]}", []string{spec + "containers[0].volumeMounts[0].name"}},
		"a volume of ours":          {"spec: {volumes: [{name: tls, emptyDir: {}}]}", []string{spec + "volumes[0].name"}},
		"a token":                   {"spec: {volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: t}}]}}]}", []string{spec + "volumes[0].projected.sources[0].serviceAccountToken"}},
		"mounting the token":        {"spec: {automountServiceAccountToken: true}", []string{spec + "automountServiceAccountToken"}},
		"everything about the host": {"spec: {hostNetwork: false, hostPID: true, hostIPC: true, hostUsers: true, hostname: x, hostAliases: []}", []string{spec + "hostAliases", spec + "hostIPC", spec + "hostNetwork", spec + "hostPID", spec + "hostUsers", spec + "hostname"}},
		"life and death of the Pod": {"spec: {restartPolicy: Never, subdomain: x, shareProcessNamespace: true, terminationGracePeriodSeconds: 1, activeDeadlineSeconds: 9, nodeName: node}", []string{spec + "activeDeadlineSeconds", spec + "nodeName", spec + "restartPolicy", spec + "shareProcessNamespace", spec + "subdomain", spec + "terminationGracePeriodSeconds"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			cluster := newCluster(withOverlay(tc.overlay))
			_, err := Pod(cluster, newInput())
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("no problems but %v", err)
			}
			var fields []string
			for _, problem := range problems {
				fields = append(fields, problem.Field)
				if problem.Reason == "" || problem.Remedy == "" {
					t.Errorf("a problem without reason or remedy: %+v", problem)
				}
			}
			if diff := cmp.Diff(tc.fields, fields); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(err, CheckOverlay(cluster)); diff != "" {
				t.Errorf("CheckOverlay says something else (-pod +check):\n%s", diff)
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	many := "metadata: {labels: {moco.dev/a: a, moco.dev/b: a, moco.dev/c: a, moco.dev/d: a, moco.dev/e: a, moco.dev/f: a, moco.dev/g: a, moco.dev/h: a, moco.dev/i: a, moco.dev/j: a, moco.dev/k: a, moco.dev/l: a, moco.dev/m: a, moco.dev/n: a, moco.dev/o: a, moco.dev/p: a, moco.dev/q: a}}"
	var problems Problems
	if err := CheckOverlay(newCluster(withOverlay(many))); !errors.As(err, &problems) || len(problems) != maxProblems {
		t.Errorf("%d problems, want %d", len(problems), maxProblems)
	}
}

func FuzzOverlay(f *testing.F) {
	f.Add([]byte(`{"spec":{"containers":[{"name":"mysql","env":[{"name":"A","value":"b"}]}]}}`))
	f.Add([]byte(`{"spec":{"volumes":[null]},"metadata":{"labels":{"$patch":"delete"}}}`))
	f.Add([]byte(`{"spec":{"containers":[{"name":"mysql","$patch":"delete"}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		cluster := newCluster(nil)
		cluster.Spec.PodTemplate = rawOverlay(raw)
		pod, err := Pod(cluster, newInput())
		if err != nil {
			return
		}
		checkOwned(t, pod)
	})
}

// checkOwned fails when an overlay that was accepted changed what the controller owns.
func checkOwned(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	plain := must[*corev1.Pod](t)(Pod(newCluster(nil), newInput()))
	own := map[string]corev1.Container{}
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		own[container.Name] = container
	}
	for _, want := range slices.Concat(plain.Spec.InitContainers, plain.Spec.Containers) {
		got := own[want.Name]
		if got.Image != want.Image || !slices.Equal(got.Command, want.Command) || !slices.Equal(got.Args, want.Args) || len(got.VolumeMounts) < len(want.VolumeMounts) {
			t.Errorf("container %s is not ours any more: %+v", want.Name, got)
		}
	}
	spec, wanted := pod.Spec, plain.Spec
	if spec.HostNetwork || spec.HostPID || spec.HostIPC || *spec.AutomountServiceAccountToken || spec.Hostname != wanted.Hostname ||
		*spec.TerminationGracePeriodSeconds != *wanted.TerminationGracePeriodSeconds || spec.RestartPolicy != wanted.RestartPolicy {
		t.Errorf("the Pod is not ours any more: %+v", spec)
	}
	for _, want := range wanted.Volumes {
		if !slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return cmp.Equal(v, want) }) {
			t.Errorf("volume %s is not ours any more", want.Name)
		}
	}
	for key, want := range plain.Labels {
		if pod.Labels[key] != want {
			t.Errorf("label %s is not ours any more", key)
		}
	}
}

func rawOverlay(raw []byte) *runtime.RawExtension { return &runtime.RawExtension{Raw: raw} }
