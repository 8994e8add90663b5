// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"

	"github.com/moco-mysql/moco/pkg/agent/admission"
	"github.com/moco-mysql/moco/pkg/agent/api"
	"github.com/moco-mysql/moco/pkg/agent/state"
	"github.com/moco-mysql/moco/pkg/apis/moco/v1beta1"
)

// take waits for the right to carry out a command. The caller gives it back with a receive.
func (in *instance) take(ctx context.Context) *api.Error {
	select {
	case in.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return refuse(api.ErrorUnavailable, "another command is being carried out")
	}
}

// admit decides by the envelope whether a command may be carried out, and raises the promise to its epoch first. record
// is what the command carries, or nil. A Pod that is terminating takes on nothing new.
func (in *instance) admit(env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	if err := in.check(in.snapshot(), env, record); err != nil {
		return err
	}
	if in.agent.Terminating() {
		return refuse(api.ErrorPrecondition, "the Pod is terminating")
	}
	return in.admitHandOver(env, record)
}

// admitHandOver is admit for what a terminating primary must still do, so that another can take its place.
func (in *instance) admitHandOver(env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	d := in.snapshot()
	if err := in.check(d, env, record); err != nil {
		return err
	}
	next, changed := admission.Promise(d, env, record)
	if !changed {
		return nil
	}
	return in.save(func(d *state.Durable) {
		d.PromisedEpoch, d.PromisedClaim, d.Record = next.PromisedEpoch, next.PromisedClaim, next.Record
	})
}

func (in *instance) check(d state.Durable, env *api.Envelope, record *v1beta1.ReplicationRecord) error {
	if in.file == nil {
		return refuse(api.ErrorPrecondition, "the agent's state on the volume is unreadable")
	}
	return admission.Check(d, env, record)
}

// accepted counts a command that was carried out and makes its reply.
func (in *instance) accepted() (api.Reply, error) {
	if err := in.save(func(d *state.Durable) { d.Counter++ }); err != nil {
		return api.Reply{}, err
	}
	in.change(in.hurry)
	return in.unchanged(), nil
}

// unchanged is the reply to a command that was in effect already.
func (in *instance) unchanged() api.Reply { return api.Reply{StateCounter: in.snapshot().Counter} }
