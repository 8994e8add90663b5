#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Regenerates deepcopy functions, clientset, listers, informers, applyconfigurations and the CRD from pkg/apis.
# Set OUT to write the result into another copy of the tree (verify-codegen.sh does).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${OUT:-$root}
module=github.com/moco-mysql/moco
api=$module/pkg/apis/moco/v1beta1
boilerplate=$root/hack/boilerplate.go.txt

tool() { go tool -modfile="$root/hack/tools/go.mod" "$@"; }

cd "$root"
rm -rf "$out/pkg/generated"
mkdir -p "$out/pkg/generated/crd"

echo "deepcopy" >&2
tool deepcopy-gen --go-header-file "$boilerplate" --output-file zz_generated.deepcopy.go "$api"
if [ "$out" != "$root" ]; then
  cp "$root/pkg/apis/moco/v1beta1/zz_generated.deepcopy.go" "$out/pkg/apis/moco/v1beta1/"
fi

echo "applyconfigurations" >&2
tool applyconfiguration-gen --go-header-file "$boilerplate" \
  --output-dir "$out/pkg/generated/applyconfiguration" --output-pkg "$module/pkg/generated/applyconfiguration" "$api"

echo "clientset" >&2
tool client-gen --go-header-file "$boilerplate" --clientset-name versioned --input-base "$module/pkg/apis" --input moco/v1beta1 \
  --apply-configuration-package "$module/pkg/generated/applyconfiguration" \
  --output-dir "$out/pkg/generated/clientset" --output-pkg "$module/pkg/generated/clientset"

echo "listers" >&2
tool lister-gen --go-header-file "$boilerplate" --output-dir "$out/pkg/generated/listers" --output-pkg "$module/pkg/generated/listers" "$api"

echo "informers" >&2
tool informer-gen --go-header-file "$boilerplate" --versioned-clientset-package "$module/pkg/generated/clientset/versioned" \
  --listers-package "$module/pkg/generated/listers" --output-dir "$out/pkg/generated/informers" --output-pkg "$module/pkg/generated/informers" "$api"

echo "CRD" >&2
tool controller-gen crd paths=./pkg/apis/... output:crd:dir="$out/pkg/generated/crd"
mkdir -p "$out/manifests"
for crd in "$out"/pkg/generated/crd/moco.dev_*.yaml; do
  mv "$crd" "$out/manifests/10-crd-$(basename "$crd" | sed 's/^moco.dev_//')"
done
rmdir "$out/pkg/generated/crd"
