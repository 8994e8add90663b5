// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld

import "testing"

// FreePort is a port on which nobody listens; none is given out twice.
func FreePort(t testing.TB) int32 { return freePort(t) }
