#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the linters that .golangci.yml names, at the version hack/tools/lint pins.
# Building them the first time takes some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/environment.sh
linter=$(tool golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint hack/tools/lint)
"$linter" run --config .golangci.yml ./... "$@"
