// Copyright The MOCO Authors.
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"k8s.io/klog/v2"

	"github.com/moco-mysql/moco/pkg/agent/api"
)

const (
	// streamInterval is the longest silence of the status stream.
	streamInterval = time.Second
	// streamWriteTimeout bounds the write of one status line to a slow reader.
	streamWriteTimeout = 10 * time.Second
)

// ControlHandler serves the control API. The caller wraps it in mutual TLS.
func (a *Agent) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.StatusStreamPath, a.streamStatus)
	a.handle(mux, api.CommandConfigure, command((*instance).configure))
	a.handle(mux, api.CommandValidate, command((*instance).validate))
	a.handle(mux, api.CommandInitialise, command((*instance).initialise))
	a.handle(mux, api.CommandRestore, command((*instance).restore))
	a.handle(mux, api.CommandClone, command((*instance).clone))
	a.handle(mux, api.CommandStart, command((*instance).start))
	a.handle(mux, api.CommandPromise, command((*instance).promiseCommand))
	a.handle(mux, api.CommandLead, command((*instance).lead))
	a.handle(mux, api.CommandMarker, command((*instance).startMarker))
	a.handle(mux, api.CommandOpen, command((*instance).open))
	a.handle(mux, api.CommandEnsureAccount, command((*instance).ensureMember))
	a.handle(mux, api.CommandFollow, command((*instance).follow))
	a.handle(mux, api.CommandReturn, command((*instance).comeBack))
	a.handle(mux, api.CommandAwait, command((*instance).await))
	a.handle(mux, api.CommandDiscard, command((*instance).discard))
	a.handle(mux, api.CommandApply, command((*instance).apply))
	a.handle(mux, api.CommandClose, command((*instance).closePrimary))
	a.handle(mux, api.CommandStop, command((*instance).stop))
	a.handle(mux, api.CommandLockOut, command((*instance).lockOut))
	a.handle(mux, api.CommandPurge, command((*instance).purge))
	return mux
}

// execute decodes a command and carries it out.
type execute func(ctx context.Context, a *Agent, name api.CommandName, body io.Reader) (api.Reply, error)

// command makes an execute of a method of instance for a request of type R.
func command[R any, P interface {
	*R
	api.Request
}](do func(*instance, context.Context, P) (api.Reply, error)) execute {
	return func(ctx context.Context, a *Agent, name api.CommandName, body io.Reader) (api.Reply, error) {
		req := P(new(R))
		decoder := json.NewDecoder(body)
		if err := decoder.Decode(req); err != nil {
			return api.Reply{}, refuse(api.ErrorInvalid, "the request cannot be decoded: %v", err)
		}
		in, refused := a.enter()
		if refused != nil {
			return api.Reply{}, refused
		}
		defer in.work.Done()
		ctx, cancel := context.WithTimeout(ctx, req.Header().Deadline())
		defer cancel()
		defer context.AfterFunc(in.ctx, cancel)() // the volume is not used once it is given back
		if name == api.CommandPromise {
			in.callOff(req.Header().Epoch)
		}
		if refused := in.take(ctx); refused != nil {
			return api.Reply{}, refused
		}
		defer func() { <-in.slot }()
		in.setRunning(running{epoch: req.Header().Epoch, cancel: cancel})
		defer in.setRunning(running{})
		if in.ctx.Err() != nil {
			return api.Reply{}, refuse(api.ErrorUnavailable, "the supervisor is gone")
		}
		klog.FromContext(ctx).V(2).Info("Carrying out a command", "command", name, "epoch", req.Header().Epoch)
		return do(in, ctx, req)
	}
}

func (in *instance) setRunning(r running) {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	in.running = r
}

// callOff ends the command that is being carried out if it is of a lower epoch: a takeover does not wait for what it makes
// void.
func (in *instance) callOff(epoch int64) {
	in.agent.mu.Lock()
	defer in.agent.mu.Unlock()
	if in.running.cancel != nil && in.running.epoch < epoch {
		in.running.cancel()
	}
}

func (a *Agent) handle(mux *http.ServeMux, name api.CommandName, do execute) {
	mux.HandleFunc("POST "+api.CommandPath(name), func(w http.ResponseWriter, r *http.Request) {
		reply, err := do(r.Context(), a, name, http.MaxBytesReader(w, r.Body, api.MaxBody))
		if err != nil {
			answer(r.Context(), w, name, err)
			return
		}
		writeJSON(w, http.StatusOK, reply)
	})
}

// answer tells the caller why a command was not carried out.
func answer(ctx context.Context, w http.ResponseWriter, name api.CommandName, err error) {
	var refused *api.Error
	if !errors.As(err, &refused) {
		refused = refuse(api.ErrorUnavailable, "%v", err)
	}
	klog.FromContext(ctx).V(2).Info("Refused a command", "command", name, "reason", refused.Reason, "message", refused.Message)
	writeJSON(w, statusOf(refused.Reason), refused)
}

func statusOf(reason api.ErrorReason) int {
	switch reason {
	case api.ErrorStaleEpoch, api.ErrorStaleState, api.ErrorWrongIncarnation:
		return http.StatusConflict
	case api.ErrorPrecondition:
		return http.StatusPreconditionFailed
	case api.ErrorInvalid:
		return http.StatusUnprocessableEntity
	case api.ErrorUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the client is gone; it asks again
}

// streamStatus pushes the status at once, on every change, and every second.
func (a *Agent) streamStatus(w http.ResponseWriter, r *http.Request) {
	defer a.attended()()
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	encoder := json.NewEncoder(w)
	tick := time.NewTicker(streamInterval)
	defer tick.Stop()
	for {
		status, changed := a.Status()
		_ = control.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
		if encoder.Encode(status) != nil || control.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}
