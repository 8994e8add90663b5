#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Checks the source without running it.
#
#   hack/verify.sh all | CHECK...    checks: boilerplate format vet crd-size scripts lint codegen docs
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. hack/environment.sh

# The modules of this repository that hold Go code of its own.
readonly modules=(. test/cluster test/store)
# kubectl apply keeps a copy of the object in an annotation, which may have 256 KiB.
readonly crd_limit=$((256 * 1024))

# files PATTERN... lists the files of the checkout, new ones too, but not ignored ones.
files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do [ ! -f "$f" ] || echo "$f"; done; }

check_boilerplate() {
  local file lacking=()
  for file in $(files '*.go' '*.sh' '*.yaml' '*.yml' Makefile .ci/run); do
    case $file in */testdata/* | manifests/*-crd-*) continue ;; esac # the CRDs are generated
    head -n 6 "$file" | grep -q 'Copyright The MOCO Authors\.' &&
      head -n 6 "$file" | grep -q 'SPDX-License-Identifier: Apache-2\.0' || lacking+=("$file")
  done
  [ ${#lacking[@]} = 0 ] || { printf 'no licence header: %s\n' "${lacking[@]}"; return 1; }
}

check_format() {
  local found
  found=$(files '*.go' | xargs gofmt -l)
  [ -z "$found" ] || { printf 'not formatted (gofmt -w): %s\n' $found; return 1; }
}

check_vet() {
  local module status=0
  for module in "${modules[@]}"; do go -C "$module" vet ./... || status=1; done
  return $status
}

check_crd-size() {
  local file size status=0
  for file in manifests/*crd*.yaml; do
    size=$(wc -c < "$file")
    [ "$size" -lt $crd_limit ] || { echo "$file has $size bytes; kubectl apply takes less than $crd_limit"; status=1; }
  done
  return $status
}

check_scripts() {
  local file status=0
  for file in $(files '*.sh' .ci/run); do
    bash -n "$file" || status=1
    [ "$file" = hack/environment.sh ] || [ -x "$file" ] || { echo "$file is not executable"; status=1; }
  done
  return $status
}

check_lint() { hack/verify-lint.sh; }
check_codegen() { hack/verify-codegen.sh; }
check_docs() { hack/verify-docs.sh; }

checks=("$@")
[ "${1:-}" != all ] || checks=(boilerplate format vet crd-size scripts lint codegen docs)
[ ${#checks[@]} -gt 0 ] || die "which checks? all, or some of boilerplate format vet crd-size scripts lint codegen docs"
status=0
for c in "${checks[@]}"; do
  declare -F "check_$c" > /dev/null || die "there is no check $c"
  if ! "check_$c"; then
    echo "FAIL  $c"
    status=1
  elif [ ${#checks[@]} -gt 1 ]; then
    echo "ok    $c"
  fi
done
exit $status
