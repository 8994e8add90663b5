# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts beside it, which run in the root of the checkout:
# names and small functions that more than one of them needs.
# shellcheck shell=bash

readonly cache="${XDG_CACHE_HOME:-$HOME/.cache}/moco"
readonly local_kubeconfig="$PWD/_output/local/kubeconfig"

# The same as for the images: so nothing is compiled twice, and other checkouts of
# this machine share what was compiled.
if command -v go > /dev/null; then
  GOFLAGS="$(go env GOFLAGS) -trimpath -buildvcs=false"
  export GOFLAGS CGO_ENABLED=0
fi

die() {
  echo "$(basename "$0" .sh): $*" >&2
  exit 1
}

# kubectl_dir prints the directory of the kubectl that matches the local cluster.
kubectl_dir() {
  local version
  version=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print $2; exit }
    $1 == "require" && $2 == "k8s.io/kubernetes" { print $3; exit }' test/cluster/tools/kubernetes/go.mod)
  echo "$cache/bin/kubernetes-$version"
}

# tool NAME PACKAGE MODULEDIR builds a pinned tool once per version and prints its path.
tool() {
  local name=$1 package=$2 dir=$3 stamp path
  stamp=$(cat "$dir/go.sum" | sha256sum | cut -c1-12)
  path=$cache/tools/$name-$stamp
  if [ ! -x "$path" ]; then
    echo "building $name (once)" >&2
    mkdir -p "$cache/tools"
    go -C "$dir" build -trimpath -o "$path.partial.$$" "$package" >&2
    mv "$path.partial.$$" "$path"
  fi
  echo "$path"
}

# preflight names everything that this machine lacks, before anything is changed.
# The local cluster checks the finer points (kernel features, packages) itself.
preflight() {
  local missing=() kib free
  [ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] || missing+=("Linux on amd64 (this is $(uname -s) on $(uname -m))")
  [ "$(id -u)" = 0 ] || missing+=("root, for network namespaces, mounts and control groups: sudo -E make ...")
  if ! command -v go > /dev/null; then
    missing+=("Go $(awk '$1 == "go" { print $2; exit }' go.mod) or later: https://go.dev/dl")
  elif ! go list -m > /dev/null 2>&1; then
    missing+=("Go $(awk '$1 == "go" { print $2; exit }' go.mod) or later (this is $(go env GOVERSION))")
  fi
  command -v apt-get > /dev/null || missing+=("a Debian system: MySQL and the container runtime come from its packages")
  kib=$(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo 2> /dev/null || echo 0)
  [ "$kib" -ge $((7 * 1024 * 1024)) ] || missing+=("8 GiB of memory (there are $((kib / 1024)) MiB)")
  free=$(df --output=avail -k . | tail -n 1)
  [ "$free" -ge $((15 * 1024 * 1024)) ] || missing+=("15 GiB of free disk (there are $((free / 1024 / 1024)) GiB)")
  if [ ${#missing[@]} -gt 0 ]; then
    {
      echo "This machine lacks:"
      printf '  - %s\n' "${missing[@]}"
    } >&2
    return 1
  fi
}

# operator_build prints the digest of the programs that were built last.
operator_build() {
  cat _output/local/build/moco-{controller,agent,backup} | sha256sum | cut -c1-16
}

# refresh_operator restarts a controller of an earlier build: its image has a fixed
# tag, so the Deployment does not notice that it was built anew. An annotation tells.
# KUBECONFIG and PATH must lead to the local cluster.
refresh_operator() {
  local build
  kubectl -n moco-system get deployment moco-controller > /dev/null 2>&1 || return 0
  build=$(operator_build)
  [ "$build" != "$(kubectl -n moco-system get deployment moco-controller \
    -o 'go-template={{with .metadata.annotations}}{{with index . "moco.dev/local-build"}}{{.}}{{end}}{{end}}')" ] || return 0
  echo "the controller was built anew: restarting it"
  kubectl -n moco-system rollout restart deployment/moco-controller > /dev/null
  mark_operator
}

# mark_operator notes which build the controller is of.
mark_operator() {
  kubectl -n moco-system annotate --overwrite deployment/moco-controller "moco.dev/local-build=$(operator_build)" > /dev/null
}
