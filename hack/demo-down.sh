#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Removes everything that hack/demo.sh started: the MySQL cluster, the operator
# and the Kubernetes cluster with all its data. Programs and images that were
# built stay in the cache, so that the next demo starts quickly.
set -euo pipefail
cd "$(dirname "$0")/.."
exec hack/local-cluster.sh down
