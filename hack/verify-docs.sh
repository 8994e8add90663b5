#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Generates the documentation in a copy and compares: what is checked in must be
# what docgen makes of the CRD and the tables in the code.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/environment.sh
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -R docs "$copy/docs"
go run ./hack/docgen -docs "$copy/docs"
if ! diff --recursive --unified docs "$copy/docs"; then
  echo "generated documents are out of date: run make generate" >&2
  exit 1
fi
