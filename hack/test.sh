#!/usr/bin/env bash
# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests: all of them, or the stages that are named. Everything they need
# is installed or built first. A failed stage does not stop the later ones; the
# summary at the end counts every test and every check, and the script fails if
# any failed or if none ran.
#
#   hack/test.sh all | STAGE...      stages: checks unit store azure mysqld cluster e2e generated bench bench-failover bench-backup
#
#   RUN=regexp        only the tests whose name matches
#   KEEP_CLUSTER=1    leave the local cluster running afterwards
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
. hack/environment.sh

readonly results=$PWD/_output/test
readonly all=(checks unit store cluster mysqld e2e generated)
readonly module=github.com/moco-mysql/moco

passed_checks=0 failed_checks=0
failures=()
timings=()
started_cluster=

headline() { printf '\n=== %s\n' "$*"; }

# check NAME COMMAND... runs a check that is no Go test.
check() {
  local name=$1
  shift
  if "$@"; then
    passed_checks=$((passed_checks + 1))
    echo "ok    $name"
  else
    failed_checks=$((failed_checks + 1))
    failures+=("$name")
    echo "FAIL  $name"
    return 1
  fi
}

# gotest NAME DIRECTORY ARGUMENTS... runs go test and keeps its JSON output.
gotest() {
  local name=$1 directory=$2
  shift 2
  "$gotestsum" --format "${FORMAT:-pkgname-and-test-fails}" --hide-summary=skipped --jsonfile "$results/$name.json" \
    --raw-command -- go -C "$directory" test -json -count=1 ${RUN:+-run "$RUN"} "$@"
  local status=$?
  [ $status = 0 ] || failures+=("$name")
  return $status
}

# packages lists this module's packages that hold tests: those that need a real
# mysqld (they import test/server) or the pure ones. The end-to-end tests and the
# measurements are neither.
packages() {
  local match=-v
  [ "$1" != mysqld ] || match=
  go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}{{end}}' ./... |
    grep -Ev "^$module/test/(e2e|bench)[ /]" | grep -E $match "[ ]$module/test/(server|mysqld)( |$)" | cut -d ' ' -f 1
}

stage_checks() {
  local name
  for name in boilerplate format vet crd-size scripts; do
    check "$name" hack/verify.sh "$name"
  done
}

# shellcheck disable=SC2046
stage_unit() { gotest unit . -timeout=10m $(packages pure); }

# Stores against the servers of their providers, which are Go modules.
stage_store() { gotest store test/store -timeout=15m ./s3 ./gcs; }

# Azure's stand-in is a program of Node.js, so this stage needs npm and is not among all.
stage_azure() { gotest azure test/store -timeout=15m ./azure; }

stage_cluster() { gotest cluster test/cluster -timeout=10m ./...; }

# One package at a time: a mysqld takes half a gigabyte and, here, most of a core.
# shellcheck disable=SC2046
stage_mysqld() {
  check "MySQL is unpacked in a root file system" hack/mysql-rootfs.sh
  gotest mysqld . -timeout=25m -p=1 $(packages mysqld)
}

stage_e2e() {
  cluster_up || return
  gotest e2e . -timeout=45m -p=1 ./test/e2e/...
}

stage_generated() {
  check "generated code" hack/verify-codegen.sh
  check "generated documents" hack/verify-docs.sh
}

stage_bench() {
  cluster_up || return
  FORMAT=standard-verbose gotest bench . -timeout=60m -p=1 -v -skip '^TestFailover' ./test/bench
}

# Hours with the numbers of times that are published; MOCO_BENCH_N and
# MOCO_BENCH_SLOW_N set others. The tables are in _output/bench.
stage_bench-failover() {
  cluster_up || return
  RUN=${RUN:-^TestFailover} FORMAT=standard-verbose gotest bench . -timeout=8h -p=1 -v ./test/bench
}

# Plain mysqlds and an S3 server, without Kubernetes. The tables are in _output/bench.
stage_bench-backup() {
  local server
  check "MySQL is unpacked in a root file system" hack/mysql-rootfs.sh
  server=$(tool versitygw github.com/versity/versitygw/cmd/versitygw test/cluster/tools/versitygw)
  MOCO_BENCH_S3_SERVER=$server FORMAT=standard-verbose gotest bench . -timeout=8h -p=1 -v ./test/bench/backup
}

# The end-to-end tests find the cluster by KUBECONFIG and its kubectl on PATH.
# Continuous integration begins with a new cluster; a person's goes on with the one
# that runs, with the programs of this checkout.
cluster_up() {
  [ -z "${CI:-}" ] || hack/local-cluster.sh down
  hack/local-cluster.sh status > /dev/null 2>&1 || started_cluster=yes
  check "the local cluster starts" hack/local-cluster.sh up || return
  export KUBECONFIG=$local_kubeconfig
  PATH=$(kubectl_dir):$PATH
  export PATH
  check "the controller is of this checkout" refresh_operator
}

# count ACTION prints how many tests ended so. A package that fails without a
# failed test (it did not compile, it panicked) counts as one failed test.
count() {
  cat "$results"/*.json 2> /dev/null | grep -Ec "^\{\"Time\":\"[^\"]*\",\"Action\":\"$1\",\"Package\":\"[^\"]*\",\"Test\":" || true
}

broken_packages() {
  local file package n=0
  for file in "$results"/*.json; do
    [ -e "$file" ] || continue
    while read -r package; do
      grep -Eq "^\{\"Time\":\"[^\"]*\",\"Action\":\"fail\",\"Package\":\"$package\",\"Test\":" "$file" || n=$((n + 1))
    done < <(sed -nE 's/^\{"Time":"[^"]*","Action":"fail","Package":"([^"]*)",("Elapsed"|"FailedBuild").*/\1/p' "$file" | sort -u)
  done
  echo "$n"
}

run_stages() {
  local stage began
  for stage in "$@"; do
    headline "$stage"
    began=$SECONDS
    "stage_$stage"
    timings+=("$(printf '%-10s %5d s' "$stage" $((SECONDS - began)))")
  done
}

summarise() {
  local passed failed
  passed=$(($(count pass) + passed_checks))
  failed=$(($(count fail) + $(broken_packages) + failed_checks))
  # A stage can also fail without a word from a test.
  [ ${#failures[@]} = 0 ] || [ $failed -gt 0 ] || failed=${#failures[@]}
  headline summary
  printf '%s\n' "${timings[@]}"
  [ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[*]}"
  echo "$passed passed, $failed failed" | tee "$results/summary"
  [ $failed = 0 ] && [ $passed -gt 0 ]
}

stages=("$@")
[ "${1:-}" != all ] || stages=("${all[@]}")
[ ${#stages[@]} -gt 0 ] || die "which stages? all, or some of ${all[*]} azure bench bench-failover bench-backup"
for s in "${stages[@]}"; do
  declare -F "stage_$s" > /dev/null || die "there is no stage $s"
done
case " ${stages[*]} " in
*" mysqld "* | *" e2e "* | *" bench "* | *" bench-failover "* | *" bench-backup "*) preflight || exit 1 ;;
esac
rm -rf "$results"
mkdir -p "$results"
gotestsum=$(tool gotestsum gotest.tools/gotestsum hack/tools) || die "cannot build gotestsum"

run_stages "${stages[@]}"
if [ -n "$started_cluster" ] && [ -z "${KEEP_CLUSTER:-}" ]; then
  headline "removing the local cluster"
  check "the local cluster goes away" hack/local-cluster.sh down
fi
summarise
