# Copyright The MOCO Authors.
# SPDX-License-Identifier: Apache-2.0
#
# `make demo` and `make test` do everything that is needed first; the other
# targets are parts of them. `make help` lists them all.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo demo-down test test-unit test-mysqld test-cluster test-e2e verify lint generate images bench bench-failover bench-backup cluster-up cluster-down clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Start Kubernetes on this machine and run a MySQL cluster on it (needs root)
	@hack/demo.sh

demo-down: ## Remove everything that `make demo` started
	@hack/demo-down.sh

test: ## Run every test, on real mysqlds and on a real Kubernetes (needs root)
	@hack/test.sh all

test-unit: ## Run the tests that need nothing but Go
	@hack/test.sh unit

test-mysqld: ## Run the tests against real mysqlds, without Kubernetes (needs root)
	@hack/test.sh mysqld

test-cluster: ## Run the tests of the local cluster's own code
	@hack/test.sh cluster

test-e2e: ## Run the end-to-end tests on the local cluster (needs root)
	@hack/test.sh e2e

verify: ## Check formatting, licences, vet, generated code and documents, and run the linters
	@hack/verify.sh all

lint: ## Run the linters alone
	@hack/verify-lint.sh

generate: ## Regenerate the code, the CRD and the generated parts of docs/
	@hack/update-codegen.sh
	@hack/update-docs.sh

images: ## Build all images, push them below PREFIX and write an install manifest with their names
	@hack/images.sh "$(PREFIX)"

bench: ## Measure on the local cluster (needs root)
	@hack/test.sh bench

bench-failover: ## Measure failover, switchover and throughput on the local cluster, for hours (needs root)
	@hack/test.sh bench-failover

bench-backup: ## Measure backup, restore and archive on plain mysqlds against the tools of MySQL (needs root)
	@hack/test.sh bench-backup

cluster-up: ## Start the local Kubernetes cluster alone (needs root)
	@hack/local-cluster.sh up

cluster-down: ## Remove the local Kubernetes cluster (needs root)
	@hack/local-cluster.sh down

clean: ## Remove what was built in this checkout; caches outside it stay
	@if [ -e _output/local/kubeconfig ]; then hack/local-cluster.sh down; fi
	rm -rf _output
