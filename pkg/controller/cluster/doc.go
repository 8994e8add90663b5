// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster is the controller of MySQLClusters. One sync reads in this order:
//
//	key → gather (caches) → credentials → listen (agents) → settle (options) → Secrets of the archive, source of a
//	    restore → configure (agents)
//	    → topology.Decide (pure) → execute (agents, record); again while the record moves on
//	    → the primary Service → purge (agents, if nothing else was told them) → children (other Kubernetes objects) → publish (status)
//
// It decides nothing about replication itself: that is pkg/topology. It renders nothing: that is pkg/controller/render.
// It is called by cmd/moco-controller, on the leader only; the record's compare-and-set and the agents' promises, not
// the lease, keep two leaders apart.
//
// Concurrency: the queue hands a key to one worker at a time; what a cluster's memory holds belongs to that worker. The
// fleet of status streams, the memories' map, the remarks of commands and the clients are safe for concurrent use. A
// command may outlast the sync that sent it: then its Pod is busy until it ends, and is told nothing else.
//
// Invariants: topology comes before children, so that what serves never waits for objects; a sync writes the status at
// most once and the record in writes of its own; a sync waits 300 ms at most for the commands it sent, so that no dead peer
// holds up a takeover; one broken cluster costs the others nothing but a worker for a while.
package cluster
