// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1beta1 is the API of MOCO: the kind MySQLCluster of the group moco.dev. It holds data and its rules only; what
// the fields do is in pkg/topology and pkg/controller/cluster. Every doc comment here is what `kubectl explain` prints.
//
// +k8s:deepcopy-gen=package
// +k8s:openapi-gen=true
// +groupName=moco.dev
package v1beta1
