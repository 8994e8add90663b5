#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Writes the generated parts of docs/ anew.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/environment.sh
go run ./hack/docgen
