// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package mysqld_test

import (
	"testing"

	"github.com/moco-mysql/moco/pkg/agent"
	"github.com/moco-mysql/moco/pkg/agent/api"
)

// TestAChannelThatIsGoneIsMadeAnew: a command that drops the channel, and ends before it can note that, leaves an agent
// that believes the channel is as it was.
func TestAChannelThatIsGoneIsMadeAnew(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	admin := p.replica.Session(adminEndpoint(p.replica, p.Passwords[agent.AccountAdmin]))
	execAll(t, admin, "STOP REPLICA", "RESET REPLICA ALL")
	p.replica.Await("a replica without a channel", func(s *api.Status) bool { return s.Server != nil && s.Server.Channel == nil })
	p.Follow(p.replica, p.primary, api.AckOn)
	execAll(t, p.root(p.primary), "CREATE DATABASE acknowledged")
}
