// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package render makes the Kubernetes objects of a MySQLCluster: Pods, volumes, Services and their EndpointSlices, the
// PodDisruptionBudget, Secrets and the readable ConfigMap. It only computes: it reads no clock, no file and no API, and
// randomness is handed in. What writes the objects is pkg/controller/children.
//
// Every function takes a MySQLCluster that passed the schema of the CRD and never changes it; what it returns belongs to
// the caller. All are safe for concurrent use.
//
// What must hold:
//   - The same input gives the same object, byte for byte, so that the hash in its annotation tells whether the live one
//     is what is wanted.
//   - Pods keep to PodSecurity level "restricted", carry no token of a service account, and the overlay of the user cannot
//     take over what the safety of the cluster rests on: it is refused by name, as Problems.
//   - The Services of the primary and of the replicas have no selector. Only the controller says where they lead.
package render
