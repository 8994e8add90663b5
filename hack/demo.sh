#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Starts Kubernetes on this machine, installs the operator, makes the MySQL
# cluster `demo` of three instances, writes through its primary Service and reads
# back from both replicas. Running it again goes on from what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/environment.sh

readonly namespace=default cluster=demo
readonly limit=600 # seconds that each wait may take; on an idle machine the longest takes about 60

began=$SECONDS
say() { printf '[%4d s] %s\n' $((SECONDS - began)) "$*"; }
kubectl() { command kubectl --request-timeout=30s "$@"; }

start_kubernetes() {
  say "starting Kubernetes on this machine (the first time, its programs are built: about ten minutes)"
  hack/local-cluster.sh up
  export KUBECONFIG=$local_kubeconfig
  PATH=$(kubectl_dir):$PATH
  export PATH
}

install_operator() {
  say "installing the operator: kubectl apply -f manifests/"
  refresh_operator
  # Whoever applied them with another client before gets a warning that changes nothing.
  kubectl apply -f manifests/ 2>&1 > /dev/null | grep -v 'last-applied-configuration annotation' >&2 || [ "${PIPESTATUS[0]}" = 0 ]
  mark_operator
  kubectl wait --for=condition=Established --timeout=60s crd/mysqlclusters.moco.dev > /dev/null
  say "waiting for the operator's Pods"
  if ! command kubectl -n moco-system rollout status deployment/moco-controller --timeout=180s > /dev/null; then
    failed "the operator does not become ready"
  fi
}

# failed prints the state of the world and ends the demo.
failed() {
  {
    echo
    echo "demo: $*. This is what there is:"
    kubectl -n "$namespace" get mysqlclusters,pods,persistentvolumeclaims -o wide || true
    kubectl -n "$namespace" describe mysqlcluster "$cluster" 2> /dev/null | tail -n 80 || true
    kubectl -n moco-system get pods -o wide || true
    kubectl -n moco-system logs deployment/moco-controller --tail=30 || true
  } >&2
  exit 1
}

# What a person wants to know of a cluster, in one line; the two flags before the
# bar say whether it is Available and Healthy.
readonly progress_template='
{{- $available := "" }}{{ $healthy := "" }}
{{- with .status }}
{{- range .conditions }}
{{- if eq .type "Available" }}{{ $available = .status }}{{ end }}
{{- if eq .type "Healthy" }}{{ $healthy = .status }}{{ end }}
{{- end }}
{{- $available }} {{ $healthy }}|{{ .phase }}, {{ .ready }} ready
{{- range .instances }}, {{ .name }} {{ .state }}{{ with .progress }}{{ with .percent }} {{ . }}%{{ end }}{{ end }}{{ end }}
{{- with .decision }}{{ with .waitingFor }}; waiting for {{ . }}{{ else }}; {{ .reason }}{{ end }}{{ end }}
{{- else }} |the operator has not looked at it yet{{ end }}'

# await_healthy prints a line whenever something changes until the cluster is
# Available and Healthy.
await_healthy() {
  local deadline=$((SECONDS + limit)) seen='' line flags available=''
  say "waiting until $cluster is Available and Healthy"
  while [ $SECONDS -lt $deadline ]; do
    line=$(kubectl -n "$namespace" get mysqlcluster "$cluster" -o "go-template=$progress_template" 2>&1 | tr '\n' ' ' || true)
    flags=${line%%|*}
    if [ "${line#*|}" != "$seen" ]; then
      seen=${line#*|}
      say "  $seen"
    fi
    if [ -z "$available" ] && [ "${flags%% *}" = True ]; then
      available=yes
      say "$cluster is Available: it takes writes"
    fi
    if [ "$flags" = "True True" ]; then
      say "$cluster is Healthy: three instances serve"
      return
    fi
    sleep 1
  done
  failed "$cluster is not Healthy after $limit s"
}

# The client is a Pod like an application's: the login comes from the Secret of
# the application's account, the server's certificate is checked against the CA
# of the cluster, and it may do what PodSecurity `restricted` lets it do.
run_client() {
  local phase='' deadline=$((SECONDS + 180))
  say "writing through $cluster-mysql and reading back through $cluster-mysql-ro, from a Pod"
  kubectl -n "$namespace" delete pod demo-client --ignore-not-found --grace-period=1 > /dev/null
  sed "s/@IMAGE@/$(awk '$1 == "image:" { print $2; exit }' examples/demo.yaml)/" hack/demo-client.yaml |
    kubectl -n "$namespace" apply -f - > /dev/null
  while [ $SECONDS -lt $deadline ] && [ "$phase" != Succeeded ] && [ "$phase" != Failed ]; do
    sleep 1
    phase=$(kubectl -n "$namespace" get pod demo-client -o 'jsonpath={.status.phase}' || true)
  done
  kubectl -n "$namespace" logs demo-client | sed 's/^/         /' || true
  [ "$phase" = Succeeded ] || failed "the client Pod ended in phase ${phase:-Unknown}"
  kubectl -n "$namespace" delete pod demo-client --grace-period=1 --wait=false > /dev/null
}

what_next() {
  cat << END

It works. What to try next:

  export KUBECONFIG=$local_kubeconfig
  export PATH=$(kubectl_dir):\$PATH

  kubectl get mysqlclusters -o wide             # the cluster in one line
  kubectl describe mysqlcluster $cluster             # why it does what it does: conditions, decision, instances, events
  kubectl get pods -L moco.dev/role -o wide     # who leads
  kubectl exec -it $cluster-mysql-0 -c mysql -- mysql --version

  # A login for an application is in a Secret. The Services have no selector, so forward a port to the Pod
  # of the primary, not to a Service:
  kubectl get secret $cluster-mysql-app -o 'go-template={{.data.password|base64decode}}{{"\n"}}'
  kubectl port-forward "pod/\$(kubectl get mysqlcluster $cluster -o 'jsonpath={.status.primary}')" 3306:3306
  mysql --host 127.0.0.1 --user demo --password demo      # in another terminal

  # Kill a mysqld and watch it come back:
  kubectl exec $cluster-mysql-1 -c mysql -- /bin/sh -c 'kill -9 \$(cat /run/moco/mysqld.pid)'
  kubectl get mysqlclusters --watch

  kubectl apply -f examples/standalone.yaml     # a small one beside it
  kubectl scale mysqlcluster $cluster --replicas=5

  make demo-down                                # removes all of it
END
}

preflight
start_kubernetes
kubectl label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=restricted > /dev/null
install_operator
say "making the MySQL cluster: kubectl apply -f examples/demo.yaml"
kubectl apply -f examples/demo.yaml > /dev/null
await_healthy
run_client
what_next
