#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Generates everything anew in a copy of the checkout and compares: what is
# checked in must be what update-codegen.sh makes of pkg/apis.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/environment.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/moco"
git ls-files -z --cached --others --exclude-standard -- go.mod go.sum hack pkg manifests |
  xargs -0 sh -c 'for f; do [ ! -f "$f" ] || echo "$f"; done' sh | tar --create --files-from=- | tar --extract --directory "$copy/moco"
"$copy/moco/hack/update-codegen.sh" 2> "$copy/log" || { cat "$copy/log" >&2; exit 1; }
status=0
diff --recursive --unified pkg/generated "$copy/moco/pkg/generated" || status=1
diff --recursive --unified pkg/apis "$copy/moco/pkg/apis" || status=1
for crd in "$copy"/moco/manifests/10-crd-*.yaml; do
  diff --unified "manifests/$(basename "$crd")" "$crd" || status=1
done
if [ $status != 0 ]; then
  echo "generated files are out of date: run make generate" >&2
fi
exit $status
