// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster is the controller of MySQLClusters. One sync reads in this order:
//
//	key → gather (caches) → credentials → listen (agents) → settle (options) → configure (agents)
//	    → topology.Decide (pure) → execute (agents, record) → children (Kubernetes objects) → publish (status)
//
// It decides nothing about replication itself: that is pkg/topology. It renders nothing: that is pkg/controller/render.
// It is called by cmd/moco-controller, on the leader only; the record's compare-and-set and the agents' promises, not
// the lease, keep two leaders apart.
//
// Concurrency: the queue hands a key to one worker at a time; what a cluster's memory holds belongs to that worker. The
// fleet of status streams, the memories' map and the clients are safe for concurrent use.
//
// Invariants: topology comes before children, so that what serves never waits for objects; a sync writes the status at
// most once and the record in a write of its own; no step blocks longer than a command's deadline; one broken cluster
// costs the others nothing but a worker for that long.
package cluster
