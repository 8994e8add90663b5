// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moco-mysql/moco/test/e2e/world"
)

// rights of the controller under the shipped roles, by what kubectl auth can-i is asked. That what it needs is there, every
// other scenario shows; here is what it must not have.
var rights = map[string]string{
	"get secrets -n default":                                          "yes",
	"list secrets -n default":                                         "no",
	"watch secrets -n default":                                        "no",
	"delete secrets -n default":                                       "no",
	"delete persistentvolumeclaims -n default":                        "no",
	"delete mysqlclusters.moco.dev -n default":                        "no",
	"update mysqlclusters.moco.dev -n default":                        "no",
	"create pods --subresource=exec -n default":                       "no",
	"create serviceaccounts --subresource=token -n default":           "no",
	"create clusterrolebindings":                                      "no",
	"get nodes":                                                       "yes",
	"update nodes":                                                    "no",
	"delete nodes":                                                    "no",
	"get persistentvolumes":                                           "yes",
	"list persistentvolumes":                                          "no",
	"delete persistentvolumes":                                        "no",
	"delete namespaces":                                               "no",
	"update leases/moco-controller -n default":                        "no",
	"create deployments.apps -n moco-system":                          "no",
	"get configmaps -n kube-system":                                   "yes",
	"deletecollection persistentvolumes":                              "no",
	"impersonate users":                                               "no",
	"escalate clusterroles":                                           "no",
	"delete endpointslices.discovery.k8s.io":                          "yes",
	"update poddisruptionbudgets.policy --subresource=status -n demo": "no",
}

// leastPrivilege asks the API server what the controller may do.
func (f *fixture) leastPrivilege(t *testing.T) {
	got := map[string]string{}
	for question := range rights {
		arguments := append([]string{"auth", "can-i", "--as=system:serviceaccount:" + world.SystemNamespace + ":moco-controller"}, strings.Fields(question)...)
		// The answer no comes with an exit status of its own, and a warning with some kinds.
		printed, _ := f.Kubectl(t.Context(), arguments...)
		got[question] = lastLine(printed)
	}
	if diff := cmp.Diff(rights, got); diff != "" {
		t.Errorf("rights of the controller (-want +got):\n%s", diff)
	}
}

// exporters are scraped in every Pod, which holds no token of Kubernetes.
func (f *fixture) exporters(t *testing.T) {
	primary, replicas := f.pods(t)
	for _, name := range append(replicas, primary) {
		pod := must(f.Pod(t.Context(), f.namespace, name))(t)
		metrics := must(fetch(t.Context(), "http://"+pod.Status.PodIP+":9187/metrics"))(t)
		if !strings.Contains(metrics, "\nmysql_up 1") {
			t.Errorf("the exporter of %s does not say mysql_up 1", name)
		}
		for _, container := range pod.Spec.Containers {
			for _, mount := range container.VolumeMounts {
				if strings.Contains(mount.MountPath, "serviceaccount") {
					t.Errorf("%s holds a token of Kubernetes at %s", container.Name, mount.MountPath)
				}
			}
		}
	}
}
