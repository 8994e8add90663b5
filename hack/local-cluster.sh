#!/bin/bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs real Kubernetes with three nodes on this machine, without a container
# engine and without an image registry. See docs/local-cluster.md.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly packages=(runc containernetworking-plugins nftables iptables conntrack iproute2 socat xfsprogs)

die() { echo "local-cluster: $*" >&2; exit 1; }

# Debian's packages that the cluster needs; other distributions get their names
# from the pre-flight.
install_packages() {
  local missing=() p
  for p in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$p" 2> /dev/null | grep -q '^install ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "local-cluster: installing ${missing[*]}" >&2
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
}

command -v go > /dev/null || die "Go is missing: install the version that go.mod names (https://go.dev/dl)"
case "${1:-}" in
up | load-images)
  [ "$(id -u)" = 0 ] || die "must be run as root: it makes network namespaces, mounts and control groups"
  ! command -v apt-get > /dev/null || install_packages
  ;;
esac
mkdir -p _output/local/bin
go -C test/cluster build -trimpath -buildvcs=false -o ../../_output/local/bin/localcluster ./cmd/localcluster
command=${1:-help}
[ $# = 0 ] || shift
exec _output/local/bin/localcluster "$command" --repo "$PWD" "$@"
