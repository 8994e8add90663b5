// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

// Package command runs the system's tools and makes their complaints part of
// the error.
package command
