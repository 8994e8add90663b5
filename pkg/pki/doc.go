// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki makes and renews the certificates by which the parts of MOCO
// recognise each other, and builds the TLS configurations that use them.
//
// There are two kinds of authority. A cluster CA, one for each MySQLCluster,
// signs what mysqld and the agents of that cluster present. The controller CA,
// one for each installation, signs the client certificate of the controller
// and nothing else, so that holding a cluster's secrets never lets anybody
// command an agent.
//
// The package is not a general PKI: no revocation, no intermediate
// authorities. Leaves are short-lived and are replaced at two thirds of their
// life; an authority is replaced by trusting the old and the new one together
// for the life of a leaf (see Bundle).
//
// It is called by the controller, which keeps the results in Secrets, and by
// the agent. It reads no clock and no file: the time and the PEM text are
// handed in. All functions and types are safe for concurrent use; CA and
// Material are immutable once made.
//
// Invariants: keys are ECDSA P-256 and are written as PKCS #8, which OpenSSL,
// and so mysqld, reads; a leaf never outlives its authority; the control API
// speaks TLS 1.3 or newer and never resumes sessions, so that every connection
// is verified against what is trusted at that moment.
package pki
