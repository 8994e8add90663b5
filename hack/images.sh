#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Builds all images without a container engine, pushes them below PREFIX with the
# credentials of the Docker configuration (docker login), and writes
# _output/install.yaml: the manifests with those names.
#
#   hack/images.sh PREFIX [--product-only]
#
# PREFIX is a registry, or a registry and a path: registry.example.com/moco.
# With --product-only, only this project's own images are pushed; the exporter's and
# MySQL's keep their public names. Without it, a Debian host and root are needed.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/environment.sh

prefix=${1:-}
[ -n "$prefix" ] || die "which registry? make images PREFIX=registry.example.com/moco"
shift
command -v go > /dev/null || die "Go is missing: install the version that go.mod names (https://go.dev/dl)"
mkdir -p _output/local/bin
go -C test/cluster build -trimpath -buildvcs=false -o ../../_output/local/bin/localcluster ./cmd/localcluster
exec _output/local/bin/localcluster push-images --repo "$PWD" "$@" "$prefix"
