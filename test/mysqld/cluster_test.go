// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"os"
	"testing"

	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/test/mysqld"
)

// lab is shared by all tests of this package; TestMain fills it in.
var lab mysqld.Lab

func TestMain(m *testing.M) { os.Exit(mysqld.Run(m, &lab)) }

func TestAClusterOfOneGrowsToTwo(t *testing.T) {
	primary := mysqld.NewInstance(t, &lab, "a")
	primary.Start()
	c := mysqld.NewCluster(t, &lab)
	c.Bootstrap(primary)
	replica := mysqld.NewInstance(t, &lab, "b")
	replica.Start()
	c.Clone(replica, primary)
	c.Follow(replica, primary, api.AckOff)
	c.Grow(primary, 1, primary, replica)
	c.Open(replica)
}
