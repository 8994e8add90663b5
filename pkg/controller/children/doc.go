// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package children writes the Kubernetes objects of a MySQLCluster as pkg/controller/render made them: Pods, volumes,
// Services and their EndpointSlices, Secrets, the ConfigMap and the PodDisruptionBudget. It decides nothing about the
// cluster; pkg/controller/cluster calls it, object by object. A Control is safe for concurrent use.
//
// Methods take the object as the caller last saw it, usually from a lister, or nil for "not seen". They write nothing
// when that is as wanted, and read the live object before they change one, so a lagging cache leads to a needless
// request, never to a wrong write.
//
// What must hold:
//   - An object that is not the cluster's own is never touched: the error is a *Foreign. What goes with the cluster is
//     its own when its controller reference names the cluster's UID. Kept volumes and Secrets have no owner; they are its
//     own when namespace, name and labels agree and they name any UID in their annotation, and then they are adopted.
//   - Every write names the UID of the object it is meant for. Nothing is found by labels and then deleted, except that
//     strangers' EndpointSlices of our own Services go, by UID.
//   - Pods and volumes are created and then patched narrowly. The rest is created if absent, else applied server-side,
//     and only if what was last applied, or what we own in the live object, differs.
//   - The epoch on EndpointSlices and Pods never goes back, and they are written against the resourceVersion that was
//     checked for it.
//   - Secrets are read one by one, by name: the controller may neither list nor watch them.
package children
